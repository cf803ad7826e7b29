"""starts_agreement: R-hat, distances, modes and weights of several fits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

import pmflow as pmf
from pmflow.errors import ParameterError
from pmflow.starts.agreement import starts_agreement

type Array = NDArray[np.float64]


def fit(
    mean: float = 0.0, sd: float = 1.0, seed: int = 0, draws: int = 2_000, log_mass: float = 0.0
) -> tuple[dict[str, Array], Array]:
    """Draws of N(mean, sd^2) with the weights of a posterior that is N(mean, 1) of this mass."""
    z = mean + sd * np.random.default_rng(seed).normal(size=draws)
    log_p = log_mass + stats.norm.logpdf(z, mean)
    return {"x": z, "still": np.ones((draws, 2))}, log_p - stats.norm.logpdf(z, mean, sd)


def agreement(*fits: tuple[dict[str, Array], Array]) -> pmf.Starts:
    draws, weights = zip(*fits, strict=True)
    return starts_agreement(draws, weights)


def test_equal_fits_agree() -> None:
    found = agreement(*(fit(seed=i) for i in range(4)))
    assert found.agree
    assert found.modes == (0, 0, 0, 0)
    assert found.rhat == pytest.approx(1, abs=0.003)
    np.testing.assert_allclose(found.weights, 0.25)
    assert found.missed == 0
    assert "4 starts agree" in str(found)


def test_distance_is_scipys_in_pooled_sds() -> None:
    one, two = fit(0, 1, 0), fit(0.5, 1.3, 1)
    found = agreement(one, two)
    x, y = one[0]["x"], two[0]["x"]
    expected = stats.wasserstein_distance(x, y) / np.concatenate([x, y]).std()
    np.testing.assert_allclose(found.wasserstein, [[0, expected], [expected, 0]])


def test_r_hat_is_arvizs() -> None:
    from arviz_stats.base import array_stats

    one, two = fit(0, 1, 0), fit(0.5, 1.3, 1)
    expected = array_stats.rhat(np.stack([one[0]["x"], two[0]["x"]]))
    assert agreement(one, two).rhat == pytest.approx(float(expected))


def test_one_mode_but_not_in_detail() -> None:
    found = agreement(fit(seed=0), fit(0.4, seed=1))
    assert found.modes == (0, 0)
    assert not found.agree
    assert "same mode, but differ in detail" in found.summary


def test_modes_are_counted_as_they_appear() -> None:
    means = (10, 0, 10, 0, 20)
    found = agreement(*(fit(mean, seed=i) for i, mean in enumerate(means)))
    assert found.modes == (0, 1, 0, 1, 2)
    assert "5 starts found 3 modes" in str(found)


def test_weights_are_those_of_modes_shared_by_their_starts() -> None:
    # three starts at a mode of mass 1, one at a mode of mass 3
    found = agreement(*(fit(seed=i) for i in range(3)), fit(10, seed=3, log_mass=np.log(3)))
    np.testing.assert_allclose(found.weights, [1 / 12, 1 / 12, 1 / 12, 3 / 4])
    assert found.best == 3
    assert found.missed == pytest.approx(0.25)


def test_of_starts_of_one_mode_the_better_has_more_weight() -> None:
    found = agreement(fit(seed=0), fit(sd=0.6, seed=1))
    elbo = found.elbo
    assert found.weights[0] / found.weights[1] == pytest.approx(np.exp(elbo[0] - elbo[1]))
    # KL of N(0, 0.6^2) from N(0, 1)
    assert elbo[1] == pytest.approx(-(np.log(1 / 0.6) + (0.36 - 1) / 2), abs=5 * found.elbo_se[1])


def test_a_poor_start_that_reaches_the_others_is_no_mode_of_its_own() -> None:
    # three sds away and four times as wide: its weights lead to where the others are
    draws = 3 + 4 * np.random.default_rng(0).normal(size=2_000)
    weights = stats.norm.logpdf(draws) - stats.norm.logpdf(draws, 3, 4)
    poor = {"x": draws, "still": np.ones((2_000, 2))}, weights
    found = agreement(fit(seed=1), fit(seed=2), poor)
    assert found.modes == (0, 0, 0)
    assert found.missed == 0
    assert not found.agree


def test_trees_bring_their_weights() -> None:
    import pymc as pm

    with pm.Model():
        pm.HalfNormal("x", shape=2)
        approx = pmf.NormalizingFlow("scale-loc", jitter=0.0, random_seed=1)
    trees: list[Any] = [approx.sample(500, random_seed=i) for i in range(2)]
    found = starts_agreement(trees)
    terms = [(t["sample_stats"]["log_p"] - t["sample_stats"]["log_q"]).values for t in trees]
    np.testing.assert_allclose(found.elbo, [t.mean() for t in terms])
    np.testing.assert_allclose(found.elbo_se, [t.std(ddof=1) / np.sqrt(500) for t in terms])


@pytest.mark.parametrize("bad", [np.nan, -np.inf, np.inf], ids=str)
def test_a_start_without_density_has_no_weight(bad: float) -> None:
    one, (draws, weights) = fit(seed=0), fit(seed=1)
    weights[7] = bad
    found = agreement(one, (draws, weights))
    assert np.isneginf(found.elbo[1])
    np.testing.assert_array_equal(found.weights, [1, 0])
    assert found.best == 0


def test_draws_that_are_not_finite_agree_with_nothing() -> None:
    one, (draws, weights) = fit(seed=0), fit(seed=1)
    draws["x"][3] = np.inf
    found = agreement(one, (draws, weights))
    assert not found.agree
    assert found.modes == (0, 1)
    assert "nan" not in str(found)


BAD: dict[str, tuple[Any, Any, str]] = {
    "one start": ([fit()[0]], [fit()[1]], "at least 2 starts, but got 1"),
    "no weights": ([fit()[0]] * 2, None, "Start 0 has no sample_stats with log_p and log_q"),
    "too few weights": ([fit()[0]] * 2, [fit()[1]], "each of the 2 starts, but has 1"),
    "short weights": ([fit()[0]] * 2, [fit()[1][:9]] * 2, "each of its 2000 draws, but has 9"),
    "other variables": (
        [fit()[0], {"x": fit()[0]["x"]}],
        [fit()[1]] * 2,
        "start 0 has 3 numbers a draw and start 1 has 1",
    ),
    "no arrays": ([3, 4], [fit()[1]] * 2, "Start 0 must be a DataTree or a dict .* type int"),
    "lengths": (
        [{"x": np.ones(5), "y": np.ones(6)}] * 2,
        [np.ones(5)] * 2,
        r"as many draws each, .* \(5,\), \(6,\)",
    ),
    "three draws": ([{"x": np.ones(3)}] * 2, [np.ones(3)] * 2, "at least 4 draws, but one has 3"),
    "tree without densities": (
        [xr.DataTree.from_dict({"posterior": xr.Dataset({"x": (("chain", "draw"), [[1.0] * 9])})})]
        * 2,
        None,
        "pass log_weights",
    ),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused(case: tuple[Any, Any, str]) -> None:
    draws, weights, message = case
    with pytest.raises(ParameterError, match=message):
        starts_agreement(draws, weights)
