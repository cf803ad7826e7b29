"""Posteriors that are known exactly are found."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pymc as pm
import pytest
from models import conjugate_normal, conjugate_posterior, gaussian

import pmflow as pmf

pytestmark = pytest.mark.slow

PYTHON: dict[str, Any] = {"compile_kwargs": {"mode": "FAST_COMPILE"}, "progressbar": False}
JAX: dict[str, Any] = {"backend": "jax", "progressbar": False}
FAST = JAX if importlib.util.find_spec("jax") else PYTHON


def fit(
    model: pm.Model, formula: str, seed: int, n: int = 1_600, draws: int = 20, **how: Any
) -> pmf.NFVI:
    how = how or FAST
    inference = pmf.NFVI(formula, model=model, random_seed=seed)
    inference.fit(n, obj_n_mc=draws, obj_optimizer=pm.adam(learning_rate=0.02), **how)
    # a smaller step at the end: the noise of the last iterate shrinks with it
    inference.fit(n // 4, obj_n_mc=draws, obj_optimizer=pm.adam(learning_rate=0.002), **how)
    return inference


def moments(approx: pmf.Approximation) -> tuple[np.ndarray, np.ndarray]:
    mean, cov = approx.mean.eval(mode="FAST_COMPILE"), approx.cov.eval(mode="FAST_COMPILE")
    return mean, cov


@pytest.mark.parametrize("seed", range(5))
def test_reflections_find_a_correlated_gaussian(seed: int) -> None:
    mean, cov = [0.0, 1.0], [[2.0, -1.0], [-1.0, 3.0]]
    found = fit(gaussian(mean, cov), "scale-hh*2-loc", seed, **PYTHON).approx
    got_mean, got_cov = moments(found)
    np.testing.assert_allclose(got_cov, cov, rtol=0.07)
    np.testing.assert_allclose(got_mean, mean, atol=0.07 * np.sqrt(2))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("formula", ["scale-loc", "scale-planar*2-radial-loc"])
def test_a_conjugate_posterior_is_found(formula: str, seed: int) -> None:
    data = np.random.default_rng(1).normal(2.0, 1.0, size=100)
    posterior = fit(conjugate_normal(data), formula, seed).approx.sample(20_000, random_seed=1)
    draws = posterior["posterior"]["mu"].values
    mean, sd = conjugate_posterior(data)
    # beyond Monte Carlo error, 0.7 % of the sd
    assert draws.mean() == pytest.approx(mean, rel=0.05)
    assert draws.std() == pytest.approx(sd, rel=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_a_conjugate_posterior_is_found_by_minibatches(seed: int) -> None:
    data = np.random.default_rng(1).normal(2.0, 1.0, size=1_000)
    model = conjugate_normal(data, batch=200)
    mean_cov = moments(fit(model, "scale-loc", seed, n=5_000, draws=5).approx)
    mean, sd = conjugate_posterior(data)
    assert mean_cov[0][0] == pytest.approx(mean, rel=0.05)
    assert np.sqrt(mean_cov[1][0, 0]) == pytest.approx(sd, rel=0.1)


def test_scale_loc_is_mean_field_advi() -> None:
    model = gaussian([0.0, 1.0], [[2.0, -1.0], [-1.0, 3.0]])
    flow = fit(model, "scale-loc", 1).approx
    with model:
        advi = pm.ADVI(random_seed=1)
        for rate, n in ((0.02, 6_000), (0.002, 1_500)):
            # PyMC loops over draws: one a step, and more steps
            advi.fit(n, obj_optimizer=pm.adam(learning_rate=rate), **PYTHON)
    # mean field on a Gaussian: sd from the diagonal of the precision, sqrt(5/3) and sqrt(5/2)
    exact = np.sqrt([5 / 3, 5 / 2])
    for approx in (flow, advi.approx):
        np.testing.assert_allclose(approx.std.eval(mode="FAST_COMPILE"), exact, rtol=0.05)
        np.testing.assert_allclose(approx.mean.eval(mode="FAST_COMPILE"), [0, 1], atol=0.1)


@pytest.mark.parametrize("target", pmf.targets.ALL.values(), ids=pmf.targets.ALL.keys())
def test_the_elbo_is_below_the_log_evidence(target: pmf.targets.Target) -> None:
    inference = pmf.NFVI("planar*4", model=target.model(), random_seed=1)
    inference.fit(300, obj_n_mc=20, **FAST)
    stats = inference.approx.sample(20_000, random_seed=1)["sample_stats"]
    terms = (stats["log_p"] - stats["log_q"]).values
    error = terms.std() / np.sqrt(terms.size)
    assert terms.mean() < target.log_evidence + 4 * error


def test_the_importance_weights_give_the_log_evidence() -> None:
    target = pmf.targets.gaussian_mixture
    inference = fit(target.model(), "planar*4", 1, n=2_000)
    stats = inference.approx.sample(50_000, random_seed=1)["sample_stats"]
    weights = np.exp(stats["log_p"] - stats["log_q"]).values
    # log p and log q agree in what they leave out: nothing. 5 standard errors of the mean
    error = 5 * weights.std() / np.sqrt(weights.size)
    assert weights.mean() == pytest.approx(np.exp(target.log_evidence), abs=error)
