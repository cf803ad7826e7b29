"""Stochastic volatility of many days."""

import numpy as np
import pymc as pm


def build_model(days: int = 1_000) -> tuple[pm.Model, None]:
    rng = np.random.default_rng(15)
    log_variance = -1.0 + np.cumsum(rng.normal(0.0, 0.1, days))
    returns = np.exp(log_variance / 2) * rng.standard_t(8, days)
    with pm.Model() as model:
        step = pm.Exponential("step", 10.0)
        start = pm.Normal.dist(0.0, 2.0)
        volatility = pm.GaussianRandomWalk("volatility", 0.0, step, init_dist=start, shape=days)
        nu = pm.Exponential("nu", 0.1)
        pm.StudentT("returns", nu + 2, 0.0, sigma=pm.math.exp(volatility / 2), observed=returns)
    return model, None
