"""Minibatches: the ELBO is that of all rows in expectation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytest
from models import NOISE_SD, PRIOR_SD, conjugate_normal
from scipy.stats import norm

import pmflow as pmf

pytestmark = pytest.mark.slow

PYTHON: dict[str, Any] = {"compile_kwargs": {"mode": "FAST_COMPILE"}, "progressbar": False}
DATA = np.random.default_rng(1).normal(2.0, NOISE_SD, size=60)
STEPS = 1500


def exact_loss(loc: float, sd: float) -> float:
    """KL(q || p(mu, y)) of q = N(loc, sd^2): every expectation of a square is known."""
    entropy = 0.5 * np.log(2 * np.pi * np.e * sd**2)
    prior = norm.logpdf(loc, 0, PRIOR_SD) - 0.5 * (sd / PRIOR_SD) ** 2
    rows = norm.logpdf(DATA, loc, NOISE_SD) - 0.5 * (sd / NOISE_SD) ** 2
    return float(-(entropy + prior + rows.sum()))


@pytest.mark.parametrize("batch", [1, 10, 60, None])
def test_the_loss_is_that_of_all_rows_in_expectation(batch: int | None) -> None:
    inference = pmf.NFVI(
        "scale-loc", model=conjugate_normal(DATA, batch=batch), random_seed=1, start={"mu": 1.5}
    )
    rest = pm.sgd(learning_rate=0.0)
    inference.fit(STEPS, obj_n_mc=2, obj_optimizer=rest, **PYTHON)
    loc = float(inference.approx.mean.eval(mode="FAST_COMPILE")[0])
    sd = float(inference.approx.std.eval(mode="FAST_COMPILE")[0])
    # losses of steps at rest are independent: four standard errors of their mean. PyMC divides a
    # loss by the share of rows that a step sees; `hist` is of that scale
    scale = len(DATA) / (batch or len(DATA))
    losses = inference.hist * scale
    error = 4 * losses.std() / np.sqrt(STEPS)
    assert losses.mean() == pytest.approx(exact_loss(loc, sd), abs=error)
    assert error < 0.2 * abs(exact_loss(loc, sd))
