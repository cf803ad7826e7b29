"""A regression with an intercept and a slope for each of 85 counties."""

import numpy as np
import pymc as pm


def build_model() -> tuple[pm.Model, None]:
    rng = np.random.default_rng(12)
    county, floor = rng.integers(0, 85, 919), rng.integers(0, 2, 919)
    seen = rng.normal(1.5, 0.4, 85)[county] + rng.normal(-0.7, 0.3, 85)[county] * floor
    seen += rng.normal(0.0, 0.75, 919)
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 5.0, shape=2)
        tau = pm.HalfNormal("tau", 1.0, shape=2)
        intercept = pm.Normal("intercept", mu[0], tau[0], shape=85)
        slope = pm.Normal("slope", mu[1], tau[1], shape=85)
        sigma = pm.HalfNormal("sigma", 1.0)
        pm.Normal("y", intercept[county] + slope[county] * floor, sigma, observed=seen)
    return model, None
