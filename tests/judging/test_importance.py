"""importance_resample: draws from the posterior by way of an approximation; and ArviZ's LOO."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from models import conjugate_normal, conjugate_posterior
from scipy import stats
from test_diagnostics import normal_fit, standard

import pmflow as pmf
from pmflow.errors import NonFiniteError, ParameterError
from pmflow.judging.weights import importance_weights, tail_of_squares
from pmflow.records import systematic_choice


def test_draws_follow_the_posterior() -> None:
    # q = N(0.3, 0.9^2), p = N(0, 1): 4,000 of 40,000 candidates
    found: Any = pmf.importance_resample(normal_fit(standard(), 0.3, 0.9), 4_000, random_seed=1)
    draws = found["posterior"]["x"].values.ravel()
    # candidates share what they were drawn from: a little more noise than independent draws have
    assert stats.kstest(draws, "norm").statistic < 1.95 / np.sqrt(4_000)
    before: Any = normal_fit(standard(), 0.3, 0.9).sample(4_000, random_seed=1)["posterior"]["x"]
    assert stats.kstest(before.values.ravel(), "norm").statistic > 5 / np.sqrt(4_000)


@pytest.mark.parametrize(("df", "k_hat"), [(2.5, 0.8), (4.0, 0.5)])
def test_the_tail_of_a_square_is_that_of_what_it_is_of(df: float, k_hat: float) -> None:
    """The square of a t variable has the tail index 2 / df, whatever the weights are worth."""
    rng = np.random.default_rng(1)
    wide = 1.5 * rng.standard_t(df, size=20_000)
    log_weights = stats.t.logpdf(wide, df) - stats.t.logpdf(wide / 1.5, df)
    values = np.column_stack([wide, rng.uniform(size=20_000)])
    found = tail_of_squares(log_weights, values)
    assert abs(found[0] - k_hat) < 0.15
    assert found[1] < 0.1
    # a draw without a density is left out
    nowhere = np.append(log_weights, -np.inf), np.append(values, [[1e9, 1e9]], axis=0)
    np.testing.assert_allclose(tail_of_squares(*nowhere), found)
    np.testing.assert_array_equal(tail_of_squares(log_weights[:20], values[:20]), [0.0, 0.0])
    np.testing.assert_array_equal(tail_of_squares(log_weights, np.ones((20_000, 1))), [0.0])


def test_draws_are_in_no_order() -> None:
    found: Any = pmf.importance_resample(normal_fit(standard(), 0.3, 0.9), 2_000, random_seed=1)
    candidate = found["sample_stats"]["candidate"].values.ravel()
    assert abs(stats.spearmanr(np.arange(2_000), candidate).statistic) < 5 / np.sqrt(2_000)


def test_each_candidate_is_taken_as_often_as_its_weight_asks() -> None:
    weights = np.array([0.0, 0.5, 2.3, 1.0, 0.2, 0.0])
    taken = np.stack(
        [
            np.bincount(
                systematic_choice(weights, 4, np.random.default_rng(seed).random()), minlength=6
            )
            for seed in range(4_000)
        ]
    )
    assert (np.floor(weights) <= taken).all()
    assert (taken <= np.ceil(weights)).all()
    np.testing.assert_allclose(taken.mean(0), weights, atol=5 * 0.5 / np.sqrt(4_000))


def test_hardly_any_draw_is_repeated() -> None:
    found: Any = pmf.importance_resample(normal_fit(standard(), 0.2, 0.95), 1_000, random_seed=1)
    attrs = found["sample_stats"].attrs
    assert attrs["candidates"] == 10_000
    assert attrs["distinct_draws"] == 1_000
    assert attrs["distinct_draws"] == len(np.unique(found["sample_stats"]["candidate"]))


def test_the_tree_is_that_of_sample_and_more() -> None:
    data = np.random.default_rng(0).normal(1, 1, 10)
    mean, sd = conjugate_posterior(data)
    approx = normal_fit(conjugate_normal(data), mean + 0.2 * sd, sd)
    plain = approx.sample(300)
    found: Any = pmf.importance_resample(approx, 300, random_seed=1)
    assert {*found.children} == {*plain.children}
    assert found["posterior"].sizes == plain["posterior"].sizes
    assert found.attrs["approximation"] == plain.attrs["approximation"]
    np.testing.assert_array_equal(found["posterior"]["draw"], np.arange(300))
    np.testing.assert_array_equal(found["observed_data"]["y"], data)
    assert {*found["sample_stats"].data_vars} == {"log_p", "log_q", "log_weight", "candidate"}
    stats_ = found["sample_stats"]
    z = (found["posterior"]["mu"] - mean) / sd
    np.testing.assert_allclose(
        stats_["log_q"], -0.5 * (z - 0.2) ** 2 - np.log(sd) - 0.5 * np.log(2 * np.pi)
    )
    # weights are p / q but for the smoothing of the largest, relative to their mean
    raw = stats_["log_p"] - stats_["log_q"]
    shifts = (stats_["log_weight"] - raw).values.ravel()
    assert np.isclose(shifts, np.median(shifts), atol=1e-9).mean() > 0.8


def test_the_same_seed_gives_the_same_draws() -> None:
    approx = normal_fit(standard(), 0.2, 1)
    trees: list[Any] = [
        pmf.importance_resample(approx, 200, random_seed=seed) for seed in (1, 1, 2)
    ]
    one, two, other = (tree["posterior"]["x"].values for tree in trees)
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


@pytest.mark.parametrize("kind", ["generator", "random state", "none"])
def test_other_seeds_are_taken(kind: str) -> None:
    def draws() -> Any:
        seed = {
            "generator": np.random.default_rng(5),
            "random state": np.random.RandomState(5),
            "none": None,
        }[kind]
        approx = normal_fit(standard(), 0.2, 1)
        return pmf.importance_resample(approx, 200, random_seed=seed)["posterior"]["x"].values

    np.testing.assert_array_equal(draws(), draws())


def test_heavy_weights_are_warned_of() -> None:
    with pm.Model() as model:
        pm.StudentT("x", nu=2, shape=3)
    with pytest.warns(UserWarning, match=r"k-hat is .*, above 0.70"):
        pmf.importance_resample(normal_fit(model, 0, 0.7), 400, random_seed=1)


def test_nearly_equal_weights_are_not_warned_of() -> None:
    with pm.Model() as model:
        pm.StudentT("x", nu=100)
    found: Any = pmf.importance_resample(normal_fit(model, 0, 1.01), 400, random_seed=1)
    assert found["sample_stats"].attrs["k_hat"] > 1


def test_draws_outside_of_the_support_are_never_taken() -> None:
    with pm.Model() as model:
        x = pm.Normal("x")
        pm.Potential("positive", pt.switch(x < 0, -np.inf, 0.0))
    found: Any = pmf.importance_resample(normal_fit(model, 0, 1), 1_000, random_seed=1)
    assert float(found["posterior"]["x"].min()) >= 0


def test_no_density_anywhere_is_an_error() -> None:
    with pm.Model() as model:
        x = pm.Normal("x")
        pm.Potential("nowhere", pt.switch(x < 1e9, -np.inf, 0.0))
    with pytest.raises(NonFiniteError, match="1,000 of 1,000 have log_p or log_q"):
        pmf.importance_resample(normal_fit(model, 0, 1), 100)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"draws": 0}, "draws must be an integer >= 1, but is 0"),
        ({"draws": 2.5}, "draws must be an integer >= 1, but is 2.5"),
        ({"draws": 500, "candidates": 400}, "candidates must be an integer >= 500, but is 400"),
        ({"draws": 5, "candidates": 50}, "candidates must be an integer >= 100, but is 50"),
    ],
    ids=["none", "not whole", "fewer than draws", "too few for a tail"],
)
def test_bad_numbers_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        pmf.importance_resample(normal_fit(standard(), 0, 1), **given)


def test_minibatches_are_weighed_by_all_rows() -> None:
    data = np.random.default_rng(0).normal(1, 1, 60)
    mean, sd = conjugate_posterior(data)
    shifted = normal_fit(conjugate_normal(data, batch=7), mean + 0.5 * sd, sd)
    kept = pmf.importance_resample(shifted, 4_000, random_seed=1)["posterior"]["mu"]
    # 0.03 sd: two errors of a mean of 4,000 draws chosen among 20,000
    assert float(kept.mean()) == pytest.approx(mean, abs=0.03 * sd)


@pytest.mark.parametrize("shift", [0.0, 0.3], ids=["exact fit", "shifted fit"])
def test_loo_of_arviz_has_what_it_needs(shift: float) -> None:
    from arviz_stats import loo_approximate_posterior

    data = np.random.default_rng(0).normal(1, 1, 30)
    model = conjugate_normal(data)
    mean, sd = conjugate_posterior(data)
    idata = normal_fit(model, mean + shift * sd, sd).sample(4_000, random_seed=1)
    pm.compute_log_likelihood(idata, model=model, progressbar=False)
    found = loo_approximate_posterior(
        idata, idata["sample_stats"]["log_p"], idata["sample_stats"]["log_q"]
    )
    # exact: each point predicted from the 29 others
    exact = 0.0
    for i in range(30):
        m, s = conjugate_posterior(np.delete(data, i))
        exact += stats.norm.logpdf(data[i], m, np.sqrt(s**2 + 1))
    assert found.elpd == pytest.approx(exact, abs=0.05)
    assert found.approx_posterior


def test_errors_of_the_evidence_allow_for_a_tail_that_was_not_seen() -> None:
    # q is normal, p has the tails of Student's t: the weights have no variance
    inside = 0
    for seed in range(100):
        z = np.random.default_rng(seed).normal(size=4_000)
        found = importance_weights(stats.t.logpdf(z, 3), stats.norm.logpdf(z))
        inside += abs(found.log_evidence) < 3 * found.log_evidence_se
    assert inside > 70  # 52 where the spread of the weights is all


def test_errors_of_the_evidence_allow_for_rounding() -> None:
    z = np.random.default_rng(1).normal(size=1_000)
    log_q = stats.norm.logpdf(z)
    found = importance_weights(log_q + 1e6, log_q)
    assert 0 < abs(found.log_evidence - 1e6) + 1e-30 < 3 * found.log_evidence_se < 1e-8
