"""Fits by minibatches, held against what is known: ``python -m tests.benchmarks.minibatches``.

Logistic regressions, whose posterior is told by Newton's method on all rows, and a hierarchical
Poisson regression with a binary covariate, whose rows collapse to counts: of those NUTS gives the
reference. Each fit runs in a process of its own, which says how much more memory it held at its
peak than before; a fit of 1 % of the rows has compiled before it. Nothing else may run on the
machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm
from numpy.typing import NDArray

__all__ = ["main"]

_RESULTS = Path(__file__).parent / "results"
_BATCH = 2_048
_DRAWS = 50_000
_GROUPS = 500
CASES = {
    "8 columns, 1e5 rows": ("logistic", 100_000, 8),
    "8 columns, 4e5 rows": ("logistic", 400_000, 8),
    "8 columns, 1e7 rows": ("logistic", 10_000_000, 8),
    "100 columns, 1e5 rows": ("logistic", 100_000, 100),
    "500 groups, 1e6 rows": ("poisson", 1_000_000, _GROUPS),
}

type Array = NDArray[np.float64]


def _logistic(rows: int, columns: int, seed: int) -> tuple[pm.Model, dict[str, Array]]:
    rng = np.random.default_rng(seed)
    x, truth = rng.normal(size=(rows, columns)), rng.normal(size=columns) / np.sqrt(columns)
    y = (rng.random(rows) < 1 / (1 + np.exp(-x @ truth))).astype("int32")
    with pm.Model() as model:
        some, seen = pm.Minibatch(x, y, batch_size=_BATCH)
        b = pm.Normal("b", 0.0, 2.0, shape=columns)
        pm.Bernoulli("y", logit_p=some @ b, observed=seen, total_size=rows)
    mode = truth
    for _ in range(8):
        hessian, slope = np.eye(columns) / 4, -mode / 4
        for i in range(0, rows, 100_000):
            part = x[i : i + 100_000]
            p = 1 / (1 + np.exp(-part @ mode))
            hessian = hessian + (part.T * p * (1 - p)) @ part
            slope = slope + part.T @ (y[i : i + 100_000] - p)
        mode = mode + np.linalg.solve(hessian, slope)
    return model, {"mean": mode, "sd": np.sqrt(np.diag(np.linalg.inv(hessian)))}


@cache
def _counts(rows: int, groups: int, seed: int) -> tuple[Any, ...]:
    rng = np.random.default_rng(seed)
    group, x = rng.integers(groups, size=rows), rng.integers(2, size=rows)
    effect = 0.5 + 0.4 * rng.normal(size=groups)
    return group, x, rng.poisson(np.exp(effect[group] + 0.3 * x)).astype("int32")


def _priors(groups: int) -> tuple[Any, Any]:
    mean, scale = pm.Normal("mean", 0.0, 1.0), pm.HalfNormal("scale", 1.0)
    slope = pm.Normal("slope", 0.0, 1.0)
    return pm.Normal("effect", mean, scale, shape=groups), slope


def _poisson(rows: int, groups: int, seed: int) -> tuple[pm.Model, dict[str, Array]]:
    group, x, y = _counts(rows, groups, seed)
    with pm.Model() as model:
        g, some, seen = pm.Minibatch(group, x, y, batch_size=_BATCH)
        effect, slope = _priors(groups)
        rate = pm.math.exp(effect[g] + slope * some)
        pm.Poisson("y", rate, observed=seen, total_size=rows)
    cell = 2 * group + x
    size, total = np.bincount(cell, minlength=2 * groups), np.bincount(cell, y, 2 * groups)
    with pm.Model() as collapsed:
        effect, slope = _priors(groups)
        places = np.arange(2 * groups)
        log_rate = effect[places // 2] + slope * (places % 2) + np.log(size)
        pm.Poisson("y", pm.math.exp(log_rate), observed=total)
    import nutpie

    run = nutpie.sample(
        nutpie.compile_pymc_model(collapsed), draws=5_000, chains=4, seed=1, progress_bar=False
    )
    import arviz as az

    assert float(az.summary(run, kind="diagnostics")["r_hat"].max()) < 1.01
    draws = run["posterior"].dataset if hasattr(run["posterior"], "dataset") else run["posterior"]
    parts = [np.asarray(draws[name]).reshape(20_000, -1) for name in _NAMES]
    every = np.concatenate(
        [
            np.log(part) if name == "scale" else part
            for name, part in zip(_NAMES, parts, strict=True)
        ],
        axis=1,
    )
    return model, {"mean": every.mean(0), "sd": every.std(0)}


_NAMES = ("mean", "scale", "slope", "effect")
"""In the order of the model's variables; ``scale`` on the log scale."""


@contextmanager
def _watched_memory() -> Iterator[list[float]]:
    """Megabytes that the process holds, from the beginning on, every 20 milliseconds."""
    seen, ended = [_megabytes()], threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            seen.append(_megabytes())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def _megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _one(case: str, seed: int) -> dict[str, Any]:
    """One fit, in this process."""
    kind, rows, size = CASES[case]
    make = {"logistic": _logistic, "poisson": _poisson}[kind]
    model, known = make(rows, size, seed)
    small, _ = _logistic(rows // 100, size, seed) if kind == "logistic" else (None, None)
    import pmflow as pmf
    from pmflow.posterior.rows import streamed

    if small is not None:
        pmf.fit(model=small, random_seed=seed, progressbar=False)
    evaluated = []

    def counted(of: Any) -> Any:
        def count(self: Any, z: Any, rows: Any = None) -> Any:
            evaluated.append(len(z) * len(self.table if rows is None else rows))
            return of(self, z, rows)

        return count

    for name in ("value", "value_and_gradient", "terms"):
        setattr(streamed.RowSum, name, counted(getattr(streamed.RowSum, name)))
    began, cpu = time.perf_counter(), time.process_time()
    with warnings.catch_warnings(), _watched_memory() as memory:
        warnings.simplefilter("ignore")
        approx = pmf.fit(model=model, random_seed=seed, progressbar=False)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    z = approx.draw(_DRAWS, seed).latent
    found = approx.diagnosis
    return {
        "case": case,
        "seed": seed,
        "seconds": seconds,
        "cpu": cpu,
        "passes": sum(evaluated) / rows,
        "mean_error": float(np.abs((z.mean(0) - known["mean"]) / known["sd"]).max()),
        "sd_ratios": [float(f(z.std(0) / known["sd"])) for f in (np.min, np.max)],
        "verdict": found.verdict,
        "k_hat": found.k_hat,
        "megabytes": max(memory) - memory[0],
        "reason": found.reasons[-1],
    }


def main() -> None:
    """Run what was asked for, and write a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=list(CASES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one is not None:
        print(json.dumps(_one(asked.cases[0], asked.one)))
        return
    found = []
    for case in asked.cases:
        for seed in range(1, asked.seeds + 1):
            run = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.minibatches"]
            done = subprocess.run(
                [*run, case, "--one", str(seed)], capture_output=True, text=True, env=os.environ
            )
            if done.returncode:
                print(case, seed, "failed:", done.stderr[-2000:])
                continue
            found.append(json.loads(done.stdout.splitlines()[-1]))
            print(found[-1], flush=True)
    (_RESULTS / "minibatches.json").write_text(json.dumps(found, indent=1))
    (_RESULTS / "minibatches.md").write_text(_table(found))


def _table(found: list[dict[str, Any]]) -> str:
    lines = [
        "| | seeds | largest error of a mean | sd over exact | verdicts | seconds | rows gone "
        "through, in passes over all |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in dict.fromkeys(one["case"] for one in found):
        of = [one for one in found if one["case"] == case]
        verdicts = ", ".join(sorted({one["verdict"] for one in of}))
        low, high = (f([one["sd_ratios"][i] for one in of]) for i, f in ((0, min), (1, max)))
        lines.append(
            f"| {case} | {len(of)} | {max(one['mean_error'] for one in of):.3f} sd "
            f"| {low:.3f} to {high:.3f} | {verdicts} "
            f"| {np.median([one['seconds'] for one in of]):.1f} "
            f"| {np.median([one['passes'] for one in of]):.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
