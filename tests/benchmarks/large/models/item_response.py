"""Two-parameter item response: 500 persons, 40 items."""

import numpy as np
import pymc as pm


def build_model() -> tuple[pm.Model, None]:
    rng = np.random.default_rng(14)
    ability, slope = rng.normal(size=(500, 1)), np.exp(rng.normal(0.0, 0.3, 40))
    logits = slope * (ability - rng.normal(size=40))
    right = (rng.random((500, 40)) < 1 / (1 + np.exp(-logits))).astype(int)
    with pm.Model() as model:
        theta = pm.Normal("theta", shape=500)
        log_slope = pm.Normal("log_slope", 0.0, 0.5, shape=40)
        mu = pm.Normal("mu", 0.0, 1.0)
        sigma = pm.HalfNormal("sigma", 1.0)
        difficulty = pm.Normal("difficulty", mu, sigma, shape=40)
        found = pm.math.exp(log_slope) * (theta[:, None] - difficulty)
        pm.Bernoulli("y", logit_p=found, observed=right)
    return model, None
