"""Calibration: fits that are right pass, fits that are wrong do not."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pymc as pm
import pytest
import xarray as xr
from models import conjugate_normal
from scipy import stats

import pmflow as pmf
from pmflow.errors import ParameterError, UnsupportedError
from pmflow.ladder.again import below
from pmflow.posterior.prior import simulated

QUIET: dict[str, Any] = {"random_seed": 1, "progressbar": False}
NUMBER = 60


def slopes() -> pm.Model:
    """Numbers by two predictors: a normal posterior. Its data can be set anew."""
    x = np.random.default_rng(1).normal(size=(10, 2))
    with pm.Model(coords={"column": ["a", "b"]}) as model:
        seen = pm.Data("numbers", np.zeros(10))
        level, b = pm.Normal("level", 0, 1), pm.Normal("b", 0, 0.5, dims="column")
        pm.Deterministic("total", b.sum())
        pm.Normal("y", level + x @ b, 1.0, observed=seen)
    return model


@cache
def calibration() -> pmf.Calibration:
    # of four numbers a p-value below 0.01 comes by chance at every 25th seed, as at 1
    names = ["level", "b", "total"]
    return pmf.sbc(slopes(), NUMBER, var_names=names, random_seed=2, progressbar=False)


def test_right_fits_are_calibrated() -> None:
    found = calibration()
    assert set(found.verdicts) == {"reliable"}
    assert found.below.sizes == {"draw": NUMBER, "column": 2}
    for column in (found.below.level, found.below.b.sel(column="a"), found.below.total):
        assert stats.kstest(column.values, "uniform").pvalue > 0.01
    values = found.p_values()
    assert list(values.index) == ["level", "b[a]", "b[b]", "total"]
    assert values.min() > 0.01


def test_it_says_what_was_found() -> None:
    text = repr(calibration())
    assert text.startswith("60 fits: 60 reliable\nOf those called reliable, the smallest of 4")


def test_the_data_of_the_user_are_left_alone() -> None:
    model = slopes()
    pmf.sbc(model, 20, **QUIET)
    assert model["numbers"].get_value().sum() == 0


@pytest.mark.parametrize("sd", [0.5, 2.0])
def test_wrong_fits_are_not(sd: float) -> None:
    """Shares of true values among draws of another sd than that of the posterior."""
    rng = np.random.default_rng(2)
    truth = rng.normal(size=400)
    shares = np.array(
        [below(sd * rng.normal(size=500), np.array(x), seed) for seed, x in enumerate(truth)]
    )
    found = pmf.Calibration(xr.Dataset({"mu": ("draw", shares)}), ["reliable"] * 400)
    assert found.p_values()["mu"] < 1e-4


def test_a_share_counts_ties_by_chance() -> None:
    shares = [below(np.array([0, 1, 1, 2]), np.array(1), seed) for seed in range(2_000)]
    # as if it were one of the ones: between 1/5 and 4/5, uniform
    assert stats.kstest(shares, "uniform", args=(0.2, 0.6)).pvalue > 0.01


def test_those_of_a_verdict() -> None:
    shares = xr.Dataset({"mu": ("draw", np.linspace(0.1, 0.9, 4))})
    verdicts = ["reliable", "usable after importance resampling", "failed", "reliable"]
    found = pmf.Calibration(shares, verdicts, {2: "No."}, 1)
    assert found.of().sizes["draw"] == 2
    assert found.of("not reliable").sizes["draw"] == 1
    assert found.of("all").sizes["draw"] == 3
    with pytest.raises(ParameterError, match="kept must be"):
        found.of("good")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="None of the fits is reliable: 1 failed"):
        pmf.Calibration(shares.isel(draw=[0]), ["failed"], {0: "No."}).p_values()


def test_arviz_draws_it() -> None:
    azp = pytest.importorskip("arviz_plots")
    plots = azp.plot_ecdf_pit(calibration().to_datatree(), backend="matplotlib")
    assert plots.viz["figure"].item() is not None


def test_data_that_no_model_can_hold_are_left_out() -> None:
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 500)
        pm.LogNormal("y", mu, 1.0, observed=np.ones(3))
    found = pmf.sbc(model, 20, **QUIET)
    assert found.failures
    assert all("must be finite" in why for why in found.failures.values())
    assert np.isnan(found.below["mu"].values[list(found.failures)]).all()
    assert "reliable" in found.verdicts


def test_draws_that_a_transform_rules_out_are_left_out() -> None:
    with pm.Model() as model:
        cuts = pm.Normal("cuts", 0, 1, shape=3, transform=pm.distributions.transforms.ordered)
        spread = pm.HalfNormal("spread")
        pm.Normal("y", cuts, spread, observed=np.zeros(3))
    pairs = simulated(model, 200, ["cuts"], np.random.default_rng(1))
    drawn = np.array([truth["cuts"] for truth, _ in pairs])
    assert [*pairs[0][0]] == ["cuts"]
    assert (np.diff(drawn) > 0).all()
    # as the order statistics of three
    expected = np.sort(np.random.default_rng(2).normal(size=(50_000, 3))).mean(0)
    np.testing.assert_allclose(drawn.mean(0), expected, atol=0.2)


def test_a_transform_that_rules_out_nearly_all_is_told() -> None:
    means = np.arange(12.0)[::-1]
    with pm.Model() as model:
        cuts = pm.Normal("cuts", means, shape=12, transform=pm.distributions.transforms.ordered)
        pm.Normal("y", cuts, 1.0, observed=np.zeros(12))
    with pytest.raises(UnsupportedError, match="draws of the prior 0 obey the transforms of cuts"):
        pmf.sbc(model, 20, **QUIET)


def potential() -> pm.Model:
    model = conjugate_normal(np.zeros(5))
    with model:
        pm.Potential("more", -(model["mu"] ** 2))
    return model


def nothing_observed() -> pm.Model:
    with pm.Model() as model:
        pm.Normal("x")
    return model


def of_a_graph() -> pm.Model:
    with pm.Model() as model:
        y = pm.Data("y", np.zeros(3))
        pm.Normal("seen", pm.Normal("mu"), 1, observed=y - 1.0)
    return model


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "nothing observed": (nothing_observed, ParameterError, "has no observed variable"),
    "a potential": (potential, UnsupportedError, "has a potential, 'more'"),
    "a graph": (of_a_graph, UnsupportedError, "'seen' observes is computed from data"),
    "minibatches": (
        lambda: conjugate_normal(np.zeros(20), batch=5),
        UnsupportedError,
        "observes minibatches",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_not_be_simulated_is_refused(case: str) -> None:
    make, kind, message = REFUSED[case]
    with pytest.raises(kind, match=message):
        pmf.sbc(make(), 20)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"draws": 5}, "draws must be an integer >= 20"),
        ({"posterior_draws": 0}, "posterior_draws must be"),
        ({"var_names": ["nu"]}, "nu"),
        ({"executor": 3}, "executor must have a method submit"),
        ({"random_seed": "x"}, "random_seed"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        pmf.sbc(conjugate_normal(np.zeros(5)), **wrong)
