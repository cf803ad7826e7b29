"""A survey of 20,000 with four crossed groupings, not centred."""

import numpy as np
import pymc as pm

LEVELS = {"state": 50, "education": 5, "age": 6, "education_age": 30}


def build_model() -> tuple[pm.Model, None]:
    rng = np.random.default_rng(16)
    of = {name: rng.integers(0, levels, 20_000) for name, levels in LEVELS.items()}
    of["education_age"] = of["education"] * 6 + of["age"]
    logits = -0.2 + sum(rng.normal(0.0, 0.2, LEVELS[name])[at] for name, at in of.items())
    yes = (rng.random(20_000) < 1 / (1 + np.exp(-logits))).astype(int)
    with pm.Model() as model:
        found = pm.Normal("level", 0.0, 2.0)
        for name, at in of.items():
            scale = pm.Exponential(f"{name}_scale", 2.0)
            found = found + (scale * pm.Normal(f"{name}_raw", shape=LEVELS[name]))[at]
        pm.Bernoulli("y", logit_p=found, observed=yes)
    return model, None
