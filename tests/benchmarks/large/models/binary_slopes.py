"""A logistic regression with twenty slopes for each of 300 groups."""

import numpy as np
import pymc as pm

GROUPS, SLOPES, ROWS = 300, 20, 30_000


def build_model() -> tuple[pm.Model, None]:
    rng = np.random.default_rng(0)
    group = np.sort(rng.integers(0, GROUPS, ROWS))
    x = rng.normal(size=(ROWS, SLOPES))
    x[:, 0] = 1.0
    true_mu, true_tau = rng.normal(0.0, 0.5, SLOPES), rng.uniform(0.3, 1.0, SLOPES)
    true = true_mu + true_tau * rng.normal(size=(GROUPS, SLOPES))
    seen = rng.random(ROWS) < 1 / (1 + np.exp(-(x * true[group]).sum(1)))
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 1.0, shape=SLOPES)
        tau = pm.HalfNormal("tau", 1.0, shape=SLOPES)
        slope = pm.Normal("slope", mu, tau, shape=(GROUPS, SLOPES))
        pm.Bernoulli("y", logit_p=(x * slope[group]).sum(-1), observed=seen.astype(int))
    return model, None
