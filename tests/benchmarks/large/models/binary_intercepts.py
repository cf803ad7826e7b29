"""Logistic regression with one intercept for each of many groups, centred."""

import numpy as np
import pymc as pm


def build_model(
    groups: int = 2_000, rows_each: int = 10, *, centred: bool = True
) -> tuple[pm.Model, None]:
    rng = np.random.default_rng(11)
    group = np.repeat(np.arange(groups), rows_each)
    rows = rng.normal(size=(len(group), 4))
    logits = -0.3 + rng.normal(0.0, 0.8, groups)[group] + rows @ [0.5, -0.4, 0.2, 0.0]
    outcome = rng.random(len(group)) < 1 / (1 + np.exp(-logits))
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 2.0)
        tau = pm.HalfNormal("tau", 1.0)
        if centred:
            intercept = pm.Normal("intercept", mu, tau, shape=groups)
        else:
            raw = pm.Normal("raw", shape=groups)
            intercept = pm.Deterministic("intercept", mu + tau * raw)
        slopes = pm.Normal("slopes", 0.0, 1.0, shape=4)
        pm.Bernoulli("y", logit_p=intercept[group] + rows @ slopes, observed=outcome.astype(int))
    return model, None
