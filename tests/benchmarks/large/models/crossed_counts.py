"""Counts with two crossed groupings, of 300 and 200 levels."""

import numpy as np
import pymc as pm


def build_model() -> tuple[pm.Model, None]:
    rng = np.random.default_rng(13)
    first, second = rng.integers(0, 300, 20_000), rng.integers(0, 200, 20_000)
    logs = 0.4 + rng.normal(0.0, 0.4, 300)[first] + rng.normal(0.0, 0.3, 200)[second]
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 2.0)
        scales = pm.HalfNormal("scales", 1.0, shape=2)
        a = pm.Normal("a", 0.0, scales[0], shape=300)
        b = pm.Normal("b", 0.0, scales[1], shape=200)
        rate = pm.math.exp(mu + a[first] + b[second])
        pm.Poisson("y", rate, observed=rng.poisson(np.exp(logs)))
    return model, None
