"""The Gaussian with the model's pattern: against exact posteriors and the best Gaussian by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest

import pmflow as pmf
from pmflow.embedded.structure import read_structure
from pmflow.ladder.climb import Climb
from pmflow.ladder.sparse import SparseRung
from pmflow.ladder.structured import density_at_start
from pmflow.training.options import FitOptions
from pmflow.watch import watching

STEPS = 60
SEEN = np.cumsum(np.random.default_rng(1).normal(size=STEPS))
FIRST, SECOND, ROWS = 10, 8, 90
RNG = np.random.default_rng(3)
OF_A, OF_B = RNG.integers(0, FIRST, ROWS), RNG.integers(0, SECOND, ROWS)
COUNTS = RNG.poisson(1.0, ROWS)


def fitted(model: pm.Model, seed: int = 1) -> Any:
    with watching(progressbar=False):
        return SparseRung().climb(Climb(model, seed, None, FitOptions()), None, None)


@cache
def walk() -> Any:
    """Steps of sd 0.5 from N(0, 1), each seen with an error of 1: a Gaussian."""
    with pm.Model() as model:
        x = pm.GaussianRandomWalk(
            "x", mu=0.0, sigma=0.5, init_dist=pm.Normal.dist(0.0, 1.0), shape=STEPS
        )
        pm.Normal("y", x, 1.0, observed=SEEN)
    return fitted(model)


def walk_by_hand() -> tuple[np.ndarray, np.ndarray, float]:
    """Mean, precision and log evidence."""
    steps = np.eye(STEPS) - np.eye(STEPS, k=-1)
    prior = steps.T @ np.diag(np.r_[1.0, np.full(STEPS - 1, 4.0)]) @ steps
    precision = prior + np.eye(STEPS)
    covariance = np.linalg.inv(prior) + np.eye(STEPS)  # of what is seen
    evidence = -0.5 * (
        SEEN @ np.linalg.solve(covariance, SEEN) + np.linalg.slogdet(2 * np.pi * covariance)[1]
    )
    return np.linalg.solve(precision, SEEN), precision, float(evidence)


@cache
def crossed() -> Any:
    with pm.Model() as model:
        a = pm.Normal("a", 0.0, 1.0, shape=FIRST)
        b = pm.Normal("b", 0.5, 0.5, shape=SECOND)
        pm.Poisson("y", pt.exp(a[OF_A] + b[OF_B]), observed=COUNTS)
    return fitted(model)


def crossed_by_hand() -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the best Gaussian: E exp(eta) is exp(mean + variance / 2)."""
    x = np.zeros((ROWS, FIRST + SECOND))
    x[np.arange(ROWS), OF_A] = 1.0
    x[np.arange(ROWS), FIRST + OF_B] = 1.0
    prior_mean = np.repeat([0.0, 0.5], [FIRST, SECOND])
    prior = np.repeat([1.0, 4.0], [FIRST, SECOND])
    mean, covariance = prior_mean.copy(), np.diag(1 / prior)
    for _ in range(200):
        rate = np.exp(x @ mean + ((x @ covariance) * x).sum(1) / 2)
        covariance = np.linalg.inv((x.T * rate) @ x + np.diag(prior))
        slope = x.T @ (COUNTS - rate) - prior * (mean - prior_mean)
        mean = mean + 0.5 * covariance @ slope
    return mean, covariance


def test_a_gaussian_is_found_exactly() -> None:
    made = walk()
    mean, precision, evidence = walk_by_hand()
    sds = np.sqrt(np.diag(np.linalg.inv(precision)))
    assert made.gaussian.mean == pytest.approx(mean, abs=1e-4 * sds.min())
    points = mean + np.random.default_rng(2).normal(size=(5, STEPS))
    away = points - mean
    norm = np.linalg.slogdet(precision / (2 * np.pi))[1] / 2
    expected = norm - ((away @ precision) * away).sum(1) / 2
    assert made.gaussian.log_density(points) == pytest.approx(expected, abs=1e-4)
    found = pmf.diagnose(made, random_seed=1)
    assert found.verdict == "reliable"
    assert found.log_evidence == pytest.approx(evidence, abs=1e-3)
    assert found.kl == pytest.approx(0.0, abs=1e-4)
    assert "k-hat" not in found.summary
    assert "to second order" in str(found)


def test_draws_are_those_of_the_gaussian() -> None:
    mean, precision, _ = walk_by_hand()
    drawn = walk().sample(20_000, random_seed=1)
    x = np.asarray(drawn["posterior"]["x"])[0]
    covariance = np.linalg.inv(precision)
    sds = np.sqrt(np.diag(covariance))
    assert np.abs((x.mean(0) - mean) / sds).max() < 0.04
    assert np.abs(np.cov(x.T) / np.outer(sds, sds) - covariance / np.outer(sds, sds)).max() < 0.05
    log_q, log_p = (np.asarray(drawn["sample_stats"][name])[0] for name in ("log_q", "log_p"))
    assert log_p - log_q == pytest.approx((log_p - log_q).mean() * np.ones(20_000), abs=1e-3)
    assert walk().log_prob(x[:100]) == pytest.approx(log_q[:100], abs=1e-6)


def test_it_is_the_best_of_all_gaussians() -> None:
    mean, covariance = crossed_by_hand()
    sds = np.sqrt(np.diag(covariance))
    made = crossed()
    assert np.abs((made.gaussian.mean - mean) / sds).max() < 0.03
    found = made.gaussian.factor.coloured(np.eye(len(mean)))
    assert np.abs(np.sqrt((found**2).sum(0)) / sds - 1).max() < 0.02


def test_a_mean_that_is_off_is_seen() -> None:
    made = walk()
    sds = np.sqrt(np.diag(np.linalg.inv(walk_by_hand()[1])))
    state = made.to_state()
    moved = replace(state.gaussian, mean=state.gaussian.mean + 0.3 * sds)
    found = pmf.diagnose(
        pmf.SparseGaussian.from_state(replace(state, gaussian=moved), made.model), random_seed=1
    )
    assert found.verdict == "not reliable"
    assert found.shifts["mean_shift"].mean() == pytest.approx(-0.3, abs=0.05)


def test_a_funnel_is_not_reliable() -> None:
    with pm.Model() as model:
        log_tau = pm.Normal("log_tau", 0.0, 1.0)
        pm.Normal("u", 0.0, pt.exp(log_tau), shape=50)
    found = pmf.diagnose(fitted(model), random_seed=1)
    assert found.verdict == "not reliable"


def test_it_begins_where_many_scales_are_held() -> None:
    with pm.Model() as model:
        tau = pm.HalfNormal("tau", 1.0, shape=12)
        b = pm.Normal("b", 0.0, tau, shape=(5, 12))
        pm.Normal("y", b, 1.0, observed=np.linspace(-2, 2, 60).reshape(5, 12))
    with watching(progressbar=False):
        flow = pmf.NormalizingFlow("scale-loc", model=model, jitter=0.0)
        held = read_structure(*density_at_start(flow), 1)
        z = held.of_larger
    np.testing.assert_array_equal(z[:12], held.start[:12])
    np.testing.assert_array_equal(held.z, z)  # it is where the global variables are chosen
    variance = np.exp(2 * z[:12])
    mode = np.linspace(-2, 2, 60).reshape(5, 12) * variance / (1 + variance)
    assert z[12:].reshape(5, 12) == pytest.approx(mode, abs=1e-3)
