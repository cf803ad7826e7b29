"""Logistic regression with one intercept for each of 2,000 groups, centred."""

import numpy as np
import pymc as pm


def build_model(*, centred: bool = True) -> tuple[pm.Model, None]:
    rng = np.random.default_rng(11)
    group = np.repeat(np.arange(2_000), 10)
    rows = rng.normal(size=(len(group), 4))
    logits = -0.3 + rng.normal(0.0, 0.8, 2_000)[group] + rows @ [0.5, -0.4, 0.2, 0.0]
    outcome = rng.random(len(group)) < 1 / (1 + np.exp(-logits))
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 2.0)
        tau = pm.HalfNormal("tau", 1.0)
        if centred:
            intercept = pm.Normal("intercept", mu, tau, shape=2_000)
        else:
            raw = pm.Normal("raw", shape=2_000)
            intercept = pm.Deterministic("intercept", mu + tau * raw)
        slopes = pm.Normal("slopes", 0.0, 1.0, shape=4)
        pm.Bernoulli("y", logit_p=intercept[group] + rows @ slopes, observed=outcome.astype(int))
    return model, None
