"""Small models that several tests fit."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt

__all__ = ["conjugate_normal", "eight_schools", "gaussian", "ring"]

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


def eight_schools() -> pm.Model:
    """The eight schools (Rubin, 1981) in non-centred form."""
    effect = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    error = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
    with pm.Model(coords={"school": list("ABCDEFGH")}) as model:
        mu = pm.Normal("mu", 0, 5)
        tau = pm.HalfCauchy("tau", 5)
        theta_trans = pm.Normal("theta_trans", 0, 1, dims="school")
        theta = pm.Deterministic("theta", mu + tau * theta_trans, dims="school")
        pm.Normal("y", theta, error, observed=effect, dims="school")
    return model


def ring() -> pm.Model:
    """A narrow ring of radius 2: no finite mode, so nothing starts easily on it."""
    with pm.Model() as model:
        z = pm.Flat("z", shape=2)
        pm.Potential("ring", -0.5 * ((pt.sqrt((z**2).sum()) - 2) / 0.4) ** 2)
    return model
