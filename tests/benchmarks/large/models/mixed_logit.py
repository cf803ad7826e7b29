"""Choices among four by 200 people, who differ in how they weigh six attributes."""

import numpy as np
import pymc as pm

PEOPLE, TIMES, OPTIONS, ATTRIBUTES = 200, 8, 4, 6


def build_model(*, centred: bool = True) -> tuple[pm.Model, None]:
    rng = np.random.default_rng(11)
    x = rng.normal(size=(PEOPLE, TIMES, OPTIONS, ATTRIBUTES))
    true_mu, true_tau = rng.normal(0.0, 0.7, ATTRIBUTES), rng.uniform(0.2, 1.0, ATTRIBUTES)
    true = true_mu + true_tau * rng.normal(size=(PEOPLE, ATTRIBUTES))
    worth = (x * true[:, None, None]).sum(-1) + rng.gumbel(size=(PEOPLE, TIMES, OPTIONS))
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 1.5, shape=ATTRIBUTES)
        tau = pm.HalfNormal("tau", 1.0, shape=ATTRIBUTES)
        shape = (PEOPLE, ATTRIBUTES)
        if centred:
            weight = pm.Normal("weight", mu, tau, shape=shape)
        else:
            weight = pm.Deterministic("weight", mu + tau * pm.Normal("z", shape=shape))
        utility = (x * weight[:, None, None, :]).sum(-1)
        pm.Categorical("choice", logit_p=utility, observed=worth.argmax(-1))
    return model, None
