"""Seconds and memory of a fit against the size of its model: ``python -m tests.benchmarks.growth``.

Hierarchies of binary data with five rows a group, and walks of a volatility, each a hundred times
as large as the smallest. Each fit is in a process of its own, with compilers' caches as they are:
run it twice for warm numbers. The exponent is the slope of log seconds by log size.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
import pymc as pm

__all__ = ["MODELS", "measure"]

_SIZES = (1_000, 10_000, 100_000)


def hierarchy(groups: int) -> pm.Model:
    """Logistic regression with an intercept for each group, centred."""
    rng = np.random.default_rng(groups)
    group = np.repeat(np.arange(groups), 5)
    rows = rng.normal(size=(len(group), 4))
    logits = -0.3 + rng.normal(0.0, 0.8, groups)[group] + rows @ [0.5, -0.4, 0.2, 0.0]
    outcome = rng.random(len(group)) < 1 / (1 + np.exp(-logits))
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 2.0)
        tau = pm.HalfNormal("tau", 1.0)
        intercept = pm.Normal("intercept", mu, tau, shape=groups)
        slopes = pm.Normal("slopes", 0.0, 1.0, shape=4)
        pm.Bernoulli("y", logit_p=intercept[group] + rows @ slopes, observed=outcome.astype(int))
    return model


def volatility(steps: int) -> pm.Model:
    """Stochastic volatility with heavy tails."""
    rng = np.random.default_rng(steps)
    level, log_variance = -1.0, np.empty(steps)
    for step, change in enumerate(rng.normal(0.0, 0.15, steps)):
        level = -1.0 + 0.98 * (level + 1.0) + change
        log_variance[step] = level
    returns = np.exp(log_variance / 2) * rng.standard_t(8, steps)
    with pm.Model() as model:
        step_sd = pm.Exponential("step", 10.0)
        walk = pm.GaussianRandomWalk(
            "volatility", 0.0, step_sd, init_dist=pm.Normal.dist(0.0, 2.0), shape=steps
        )
        nu = pm.Exponential("nu", 0.1)
        pm.StudentT("returns", nu + 2, 0.0, sigma=pm.math.exp(walk / 2), observed=returns)
    return model


MODELS: dict[str, Callable[[int], pm.Model]] = {"hierarchy": hierarchy, "volatility": volatility}


def measure(name: str, size: int) -> dict[str, object]:
    """Fit one model in this process."""
    import pmflow as pmf

    model = MODELS[name](size)
    warnings.simplefilter("ignore")
    began = time.perf_counter()
    approx = pmf.fit(model=model, random_seed=1, progressbar=False)
    seconds = time.perf_counter() - began
    found = approx.diagnosis
    return {
        "seconds": round(seconds, 1),
        "gigabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "fit": type(approx).__name__,
        "verdict": None if found is None else found.verdict,
    }


def main() -> None:
    """Measure each model at each size, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=[*MODELS])
    parser.add_argument("--sizes", nargs="+", type=int, default=_SIZES)
    parser.add_argument("--one", action="store_true", help="measure the first, print it as JSON")
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(measure(chosen.models[0], chosen.sizes[0])))
        return
    print("| model | size | seconds | GB | fit | verdict |\n|---|---|---|---|---|---|")
    for name in chosen.models:
        seconds = []
        for size in chosen.sizes:
            command = ["--one", "--models", name, "--sizes", str(size)]
            run = subprocess.run(
                [sys.executable, "-m", "tests.benchmarks.growth", *command],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            found = json.loads(run.stdout.splitlines()[-1])
            seconds.append(found["seconds"])
            print(f"| {name} | {size:,} | {' | '.join(map(str, found.values()))} |", flush=True)
        if len(seconds) > 1:
            exponent = np.polyfit(np.log(chosen.sizes), np.log(seconds), 1)[0]
            print(f"| {name} | exponent | {exponent:.2f} | | | |", flush=True)


if __name__ == "__main__":
    main()
