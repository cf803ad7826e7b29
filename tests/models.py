"""Small models that several tests fit."""

from __future__ import annotations

import numpy as np
import pymc as pm

from pmflow.demo import eight_schools

__all__ = ["conjugate_normal", "eight_schools", "gaussian"]

PRIOR_SD = 2.0
NOISE_SD = 1.0


def gaussian(mean: list[float], cov: list[list[float]]) -> pm.Model:
    """A posterior that is known exactly, without data."""
    with pm.Model() as model:
        pm.MvNormal("z", mean, cov, shape=len(mean))
    return model


def conjugate_normal(data: np.ndarray, *, batch: int | None = None) -> pm.Model:
    """Unknown mean of normal data, prior N(0, 2^2); minibatches of `batch` rows if given."""
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, PRIOR_SD)
        if batch is None:
            pm.Normal("y", mu, NOISE_SD, observed=data)
        else:
            rows = pm.Minibatch(data, batch_size=batch)
            pm.Normal("y", mu, NOISE_SD, observed=rows, total_size=len(data))
    return model


def conjugate_posterior(data: np.ndarray) -> tuple[float, float]:
    """Exact posterior mean and sd of `conjugate_normal`."""
    precision = 1 / PRIOR_SD**2 + len(data) / NOISE_SD**2
    return data.sum() / NOISE_SD**2 / precision, precision**-0.5
