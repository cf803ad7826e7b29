"""Starts of one flow by one worker and by two: ``python -m tests.benchmarks.restarts``.

Sixteen starts of `planar*8` on Potential 1, on a cluster of Dask's of one worker and of two:
seconds of each, the start of the cluster not counted, and whether the losses are the same. Nothing
else may run on the machine; the first line warms the caches of the compiler.
"""

from __future__ import annotations

import argparse
import time
from importlib import import_module
from typing import Any

import numpy as np

import pmflow as pmf

__all__ = ["main"]


def _fitted(executor: Any, steps: int) -> tuple[float, Any]:
    model = import_module("tests.benchmarks.speed.models").build_model("potential_1")
    inference = pmf.NFVI("planar*8", model=model, random_seed=1)
    began = time.perf_counter()
    inference.fit(
        steps, obj_n_mc=64, restarts=16, backend="numba", executor=executor, progressbar=False
    )
    return time.perf_counter() - began, inference.hist


def main() -> None:
    """Measure."""
    from dask.distributed import Client, LocalCluster

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[20_000, 100_000])
    for steps in [200, *parser.parse_args().steps]:
        found = []
        for workers in (1, 2):
            with (
                LocalCluster(n_workers=workers, threads_per_worker=1) as cluster,
                Client(cluster) as client,
            ):
                found.append(_fitted(client, steps))
        (one, losses), (two, others) = found
        same = "the same losses" if np.array_equal(losses, others) else "OTHER LOSSES"
        print(f"{steps:,} steps: {one:.1f} s, {two:.1f} s, {one / two:.2f} times; {same}")


if __name__ == "__main__":
    main()
