"""More than twelve global variables: against exact marginals, and not where noise would rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from latent import held_of

import pmflow as pmf
from pmflow.embedded.check_globals import _of_gaussian
from pmflow.embedded.fit import fit_nested
from pmflow.embedded.globals import FEW, choose_globals
from pmflow.embedded.marginal import NoCentreError
from pmflow.ladder.climb import Climb
from pmflow.ladder.nested import NestedRung
from pmflow.ladder.rung import NothingGained
from pmflow.training.options import FitOptions
from pmflow.watch import watching

SCALES, EACH = 15, 12
RNG = np.random.default_rng(4)
SEEN = RNG.normal(size=(EACH, SCALES)) * np.sqrt(1 + np.exp(RNG.normal(0, 0.5, SCALES)))


def scales() -> pm.Model:
    """Each scale has groups of its own, so its marginal is an integral over one number."""
    with pm.Model() as model:
        log_tau = pm.Normal("log_tau", 0.0, 0.5, shape=SCALES)
        u = pm.Normal("u", 0.0, pt.exp(log_tau), shape=(EACH, SCALES))
        pm.Normal("y", u, 1.0, observed=SEEN)
    return model


def exact() -> tuple[np.ndarray, np.ndarray]:
    """Means and sds of the log scales, on a grid."""
    grid = np.linspace(-4, 4, 4001)[:, None]
    variance = 1 + np.exp(2 * grid)
    log_p = -(grid**2) / (2 * 0.25) - EACH / 2 * np.log(variance)
    log_p = log_p - (SEEN**2).sum(0) / (2 * variance)
    p = np.exp(log_p - log_p.max(0))
    p /= p.sum(0)
    mean = (p * grid).sum(0)
    return mean, np.sqrt((p * grid**2).sum(0) - mean**2)


@pytest.mark.parametrize("seed", [1, 2])
def test_many_scales_have_their_marginals(seed: int) -> None:
    approx: Any = pmf.fit(model=scales(), random_seed=seed, progressbar=False)
    assert isinstance(approx, pmf.EmbeddedLaplace)
    assert approx.global_names == ["log_tau"]
    assert approx.diagnosis.verdict == "reliable"
    mean, sd = exact()
    found = approx.sample(4_000, random_seed=seed).posterior["log_tau"].values[0]
    assert np.abs((found.mean(0) - mean) / sd).max() < 0.15
    assert np.abs(np.log(found.std(0) / sd)).max() < 0.12


def test_a_marginal_of_many_that_is_off_is_not_reliable() -> None:
    approx: Any = pmf.fit(model=scales(), random_seed=1, progressbar=False)
    state = approx.to_state()
    correction = np.zeros(1 + SCALES)
    correction[4] = 0.3  # a slope of log q moves a mean by itself times the variance
    wrong = replace(state, nested=replace(state.nested, correction=correction))
    found = pmf.diagnose(pmf.EmbeddedLaplace.from_state(wrong, approx.model), random_seed=1)
    assert found.verdict == "not reliable"
    shifts = found.shifts["mean_shift"].iloc[:SCALES]
    assert shifts.iloc[3] == pytest.approx(-0.3, abs=0.08)
    assert shifts.drop(shifts.index[3]).abs().max() < 0.08


def test_effects_that_are_many_stay_local() -> None:
    with pm.Model() as model:
        tau = pm.HalfNormal("tau", 1.0)
        first = pm.Normal("first", 0.0, 1.0, shape=20)
        u = pm.Normal("u", 0.0, tau, shape=40)
        of = np.arange(400)
        pm.Poisson("y", pt.exp(first[of % 20] + u[of % 40]), observed=RNG.poisson(1.0, 400))
    held = held_of(model)
    chosen = choose_globals(held)
    assert chosen[held.places["tau_log__"]].all()
    assert not chosen[held.places["first"]].any()


def test_no_more_are_chosen_than_are_allowed() -> None:
    held = held_of(scales())
    assert choose_globals(held).sum() == SCALES
    assert choose_globals(held, FEW).sum() == 0


def test_where_the_others_are_no_gaussians_few_are_global() -> None:
    with pm.Model() as model:
        log_tau = pm.Normal("log_tau", 0.0, 0.5, shape=SCALES)
        u = pm.Normal("u", 0.0, pt.exp(log_tau), shape=(4, SCALES))
        pm.Bernoulli("y", logit_p=u, observed=np.arange(4 * SCALES).reshape(4, SCALES) % 2)
        # neighbours meet, so that there are no blocks, and no scores of the scales
        pm.Potential("meet", -((u.ravel()[1:] - u.ravel()[:-1]) ** 2).sum() / 4)
    assert choose_globals(held_of(model)).sum() == SCALES
    rung, ground = NestedRung(), Climb(model, 1, None, FitOptions())
    with (
        watching(progressbar=False),
        pytest.raises(NothingGained, match="no few of its variables govern"),
    ):
        rung.climb(ground, None, None)


def test_a_correlation_is_global_though_it_begins_at_0() -> None:
    counts = RNG.poisson(2.0, 60)
    with pm.Model() as model:
        rho, sigma = pm.Uniform("rho", -1.0, 1.0), pm.HalfNormal("sigma", 1.0)
        x = pm.AR("x", rho=[rho], sigma=sigma, init_dist=pm.Normal.dist(0, 1), shape=60)
        pm.Poisson("y", pt.exp(x), observed=counts)
    held = held_of(model)
    assert held.z[held.places["rho_interval__"]] == 0.0
    chosen = choose_globals(held)
    assert [n for n, at in held.places.items() if chosen[at].all()] == [
        "rho_interval__",
        "sigma_log__",
    ]


def test_local_variables_that_are_far_from_gaussian_are_seen_at_once() -> None:
    with pm.Model() as model:
        tau = pm.HalfNormal("tau", 1.0)
        x = pm.Normal("x", 0.0, tau, shape=40)
        # flat at the mode, and steep around it; neighbours meet, so that there are no blocks
        pm.Potential("steep", -5 * (x**4).sum() - ((x[1:] * x[:-1]) ** 2).sum())
    conditional = of_tau(held_of(model))
    with pytest.raises(NoCentreError, match="far from Gaussian"):
        fit_nested(conditional, np.zeros(41), 1)


def of_tau(held: Any) -> Any:
    from pmflow.embedded.dense import conditional_of

    is_global = np.zeros(held.whole.density.dim, dtype=bool)
    is_global[held.places["tau_log__"]] = True
    return conditional_of(held.whole.density, held.whole.pattern, is_global, 100)


def test_what_a_parabola_does_to_a_gaussian() -> None:
    line, square = np.array([0.3, -0.2]), np.array([0.05, -0.1])
    coefficients = np.concatenate([[1.0], line, square])[None]
    mean, variance = _of_gaussian(coefficients)
    # of the whole parabola: it is cut off two sds from the middle, where little is left
    precision = 1 - 2 * square
    np.testing.assert_allclose(mean[0], line / precision, atol=0.03)
    np.testing.assert_allclose(variance[0], 1 / precision, rtol=0.06)
    z = np.random.default_rng(1).normal(size=200_000)
    near = np.clip(z, -2, 2)
    weights = np.exp(line[0] * near + square[0] * near**2)
    expected = (weights * z).sum() / weights.sum()
    assert mean[0, 0] == pytest.approx(expected, abs=0.01)
