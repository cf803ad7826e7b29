"""A logistic regression with five correlated slopes for each of 200 groups."""

import numpy as np
import pymc as pm

GROUPS, SLOPES, ROWS = 200, 5, 6_000


def build_model() -> tuple[pm.Model, None]:
    rng = np.random.default_rng(2)
    group = np.sort(rng.integers(0, GROUPS, ROWS))
    x = rng.normal(size=(ROWS, SLOPES))
    x[:, 0] = 1.0
    root = np.tril(rng.normal(0.0, 0.3, (SLOPES, SLOPES)), -1) + np.diag(np.full(SLOPES, 0.5))
    true = rng.normal(0.0, 0.5, SLOPES) + rng.normal(size=(GROUPS, SLOPES)) @ root.T
    seen = rng.random(ROWS) < 1 / (1 + np.exp(-(x * true[group]).sum(1)))
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 1.0, shape=SLOPES)
        chol, *_ = pm.LKJCholeskyCov("chol", n=SLOPES, eta=2.0, sd_dist=pm.Exponential.dist(1.0))
        slope = pm.MvNormal("slope", mu, chol=chol, shape=(GROUPS, SLOPES))
        pm.Bernoulli("y", logit_p=(x * slope[group]).sum(-1), observed=seen.astype(int))
    return model, None
