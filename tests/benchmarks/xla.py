"""How far XLA optimises a step, what that costs and brings: ``python -m tests.benchmarks.xla``.

Each model and formula at each level of optimisation, each in a process of its own without a
cache: CPU seconds until the first steps are done, of all that JAX and PyTensor do, and those of
2,000 steps from then on. Nothing else may run on the machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import Any

import numpy as np

from pmflow.demo import eight_schools

_LEVELS = (1, 2, 3)
_STEPS = 2000
_FORMULAS = (
    "coupling[hidden=16]*2-sinh-scale-loc",
    "coupling[hidden=32]*4-spline[hidden=0]-sinh-scale-loc",
    "iaf*2-scale-loc",
    "planar*8-scale-loc",
)


def _clinics() -> Any:
    import pymc as pm

    rng = np.random.default_rng(0)
    x, group = rng.normal(size=(3000, 4)), rng.integers(40, size=3000)
    y = rng.random(3000) < 1 / (1 + np.exp(-x @ [1.0, -0.5, 0.3, 0.0]))
    with pm.Model() as model:
        levels = pm.Normal("levels", 0, pm.HalfNormal("sd"), shape=40)
        pm.Bernoulli("y", logit_p=levels[group] + x @ pm.Normal("b", shape=4), observed=y)
    return model


_MODELS = {"eight schools": eight_schools, "clinics": _clinics}


def _one(name: str, formula: str, level: int) -> dict[str, float]:
    import jax

    import pmflow as pmf
    from pmflow.graphs import xla

    vars(xla)["_LEVEL"] = level
    jax.config.update("jax_enable_compilation_cache", val=False)  # type: ignore[no-untyped-call]
    inference = pmf.NFVI(formula, model=_MODELS[name](), random_seed=1)
    seconds = []
    for steps in (10, _STEPS):
        began = time.process_time()
        inference.fit(steps, backend="jax", obj_n_mc=64, progressbar=False, verdict=False)
        seconds.append(time.process_time() - began)
    return {"first": seconds[0], "steps": seconds[1]}


def _told(*what: str) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.xla", "--one", *what]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        name, formula, level = given.one
        print(json.dumps(_one(name, formula, int(level))))
        return
    for name in _MODELS:
        for formula in _FORMULAS:
            for level in _LEVELS:
                found = _told(name, formula, str(level))
                print(
                    f"{name}, {formula}, level {level}: first steps {found['first']:.1f} s, "
                    f"{_STEPS} more {found['steps']:.2f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
