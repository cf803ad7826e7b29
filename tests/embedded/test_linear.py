"""What is exactly Gaussian given all others: many global variables that are its scales."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from latent import held_of
from scipy.special import logsumexp
from scipy.stats import norm

from pmflow.embedded.by_scores import fit_by_scores
from pmflow.embedded.linear import gaussian_given_others
from pmflow.ladder.nested import _exact
from pmflow.watch import watching

SIZE, SPREAD = 14, 0.6
RNG = np.random.default_rng(4)
TURN = np.linalg.qr(RNG.normal(size=(SIZE, SIZE)))[0]
TURNED = RNG.normal(size=SIZE) * np.exp(RNG.normal(size=SIZE) * SPREAD) + RNG.normal(size=SIZE)


def shrunk() -> pm.Model:
    """Coefficients with a scale each, seen through a rotation: all of them meet."""
    with pm.Model() as model:
        log_scale = pm.Normal("log_scale", 0.0, SPREAD, shape=SIZE)
        z = pm.Normal("z", shape=SIZE)
        pm.Normal("y", TURN @ (z * pt.exp(log_scale)), 1.0, observed=TURN @ TURNED)
    return model


@cache
def found() -> Any:
    held = held_of(shrunk())
    conditional = _exact(held, 1)
    assert conditional is not None
    assert conditional.blocks is None  # they are a single one
    with watching(progressbar=False):
        return fit_by_scores(conditional, held.start, 1)


def test_the_marginal_is_exact() -> None:
    nested = found()
    assert nested.state.locals_by == "gaussian"
    grid = np.linspace(-6 * SPREAD, 6 * SPREAD, 2_001)[:, None]
    log_p = norm.logpdf(grid, 0.0, SPREAD) + norm.logpdf(TURNED, 0.0, np.sqrt(1 + np.exp(2 * grid)))
    evidence = logsumexp(log_p, axis=0) + np.log(grid[1] - grid[0])
    p = np.exp(log_p - logsumexp(log_p, axis=0))
    mean = (grid * p).sum(0)
    sd = np.sqrt((grid**2 * p).sum(0) - mean**2)
    points, _ = nested.draws(4_000, 1)
    scales = points[:, nested.conditional.globals]
    assert np.abs((scales.mean(0) - mean) / sd).max() < 0.1
    assert scales.std(0) / sd == pytest.approx(1.0, abs=0.06)
    assert nested.state.log_evidence == pytest.approx(evidence.sum(), abs=0.15)


def test_coefficients_are_gaussian_together_and_their_scales_are_not() -> None:
    held = held_of(shrunk())
    density = held.whole.density
    is_local = gaussian_given_others(density, held.places, held.start, 1)
    assert is_local[held.places["z"]].all()
    assert not is_local[held.places["log_scale"]].any()


def test_factors_of_a_product_are_not_gaussian_together() -> None:
    with pm.Model() as model:
        left, right = pm.Normal("left", shape=3), pm.Normal("right", shape=2)
        pm.Normal("y", left[:, None] * right, 1.0, observed=RNG.normal(size=(3, 2)))
    held = held_of(model)
    is_local = gaussian_given_others(held.whole.density, held.places, held.start, 1)
    assert is_local[held.places["left"]].all()  # the larger one
    assert not is_local[held.places["right"]].any()
