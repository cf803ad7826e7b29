"""Seconds and memory of a fit against the size of its model.

``python -m tests.benchmarks.large.growth``. Hierarchies of binary data with five rows a group, and
walks of a volatility, the largest a hundred times as large as the smallest. Each fit is in a
process of its own, with compilers' caches as they are: run it twice for warm numbers. The exponent
is the slope of log seconds by log size.
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
from functools import partial

import numpy as np
import pymc as pm

from .models import binary_intercepts, volatility

__all__ = ["MODELS", "measure"]

_SIZES = (1_000, 10_000, 100_000)


MODELS: dict[str, Callable[[int], tuple[pm.Model, None]]] = {
    "hierarchy": partial(binary_intercepts.build_model, rows_each=5),
    "volatility": volatility.build_model,
}


def measure(name: str, size: int) -> dict[str, object]:
    """Fit one model in this process."""
    import pmflow as pmf

    model, _ = MODELS[name](size)
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
                [sys.executable, "-m", "tests.benchmarks.large.growth", *command],
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
