"""Modes and evidence: what several starts find, and whether errors of the evidence are honest.

``python -m tests.benchmarks.modes [potential] [switched] [evidence]`` writes
``results/modes.{json,md}``. All settings are below; nothing else is tuned.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm

import pmflow as pmf

OUT = Path(__file__).parent / "results"
DRAWS = 100_000


def potential(seed: int) -> dict[str, float]:
    """Two modes of a ring: planar*8, annealed, four starts, the best one."""
    target = pmf.targets.ALL["potential_1"]
    inference = pmf.NFVI("planar*8", model=target.model(), random_seed=seed, jitter=0.5)
    approx = inference.fit(anneal=True, restarts=4, obj_n_mc=256, backend="jax", progressbar=False)
    drawn = approx.sample(DRAWS, random_seed=seed)
    z = np.asarray(next(iter(drawn["posterior"].data_vars.values())))[0]
    stats = drawn["sample_stats"]
    elbo = float(np.mean(np.asarray(stats["log_p"]) - np.asarray(stats["log_q"])))
    return {"kl": target.log_evidence - elbo, "weight": float((z[:, 0] > 0).mean())}


def switched_model() -> pm.Model:
    """An unordered mixture of two normals: each labelling is a mode of weight 1/2."""
    rng = np.random.default_rng(0)
    data = np.concatenate([rng.normal(-2, 1, 100), rng.normal(2, 1, 100)])
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 5, shape=2)
        sigma = pm.HalfNormal("sigma", 2, shape=2)
        share = pm.Beta("share", 2, 2)
        weights = pm.math.stack([share, 1 - share])
        pm.NormalMixture("y", w=weights, mu=mu, sigma=sigma, observed=data)
    return model


def switched(seed: int) -> dict[str, float]:
    """Weight of one labelling, by the ladder with eight starts, stacked."""
    approx = pmf.fit(model=switched_model(), restarts=8, random_seed=seed, progressbar=False)
    mu = np.asarray(approx.sample(20_000, random_seed=seed)["posterior"]["mu"])[0]
    return {"weight": float((mu[:, 0] < mu[:, 1]).mean())}


EVIDENCE = ("gaussian_mixture", "banana", "ill_conditioned")


def evidence(seed: int) -> dict[str, Any]:
    """Errors of the log evidence by `diagnose`, in standard errors, on targets that know it."""
    found: dict[str, Any] = {}
    for name in EVIDENCE:
        target = pmf.targets.ALL[name]
        approx = pmf.fit(model=target.model(), random_seed=seed, progressbar=False)
        for repeat in range(4):
            seen = pmf.diagnose(approx, random_seed=100 * seed + repeat)
            error = seen.log_evidence - target.log_evidence
            found[f"{name} {repeat}"] = error / seen.log_evidence_se
            found[f"{name} {repeat} verdict"] = seen.verdict
    return found


JOBS: dict[str, tuple[Callable[[int], dict[str, Any]], int]] = {
    "potential": (potential, 10),
    "switched": (switched, 5),
    "evidence": (evidence, 3),
}


def main(names: list[str]) -> None:
    warnings.simplefilter("ignore", pmf.errors.FitWarning)
    path = OUT / "modes.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for name in names or JOBS:
        job, seeds = JOBS[name]
        results[name] = []
        for seed in range(seeds):
            began = time.perf_counter()
            row = job(seed)
            results[name].append({"seed": seed, **row, "seconds": time.perf_counter() - began})
            print(name, results[name][-1], flush=True)
        path.write_text(json.dumps(results, indent=1) + "\n")
    (OUT / "modes.md").write_text(table(results))
    print(table(results))


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    lines = ["| what | goal | worst | median |", "|---|---|---|---|"]
    if rows := results.get("potential"):
        kl = [row["kl"] for row in rows]
        off = [abs(row["weight"] - 0.5) for row in rows]
        lines.append(f"| potential 1, KL | 0.03 | {max(kl):.4f} | {np.median(kl):.4f} |")
        lines.append(f"| its mode weight off 0.5 | 0.05 | {max(off):.3f} | {np.median(off):.3f} |")
    if rows := results.get("switched"):
        off = [abs(row["weight"] - 0.5) for row in rows]
        lines.append(
            f"| switched labels, weight off 0.5 | 0.1 | {max(off):.3f} | {np.median(off):.3f} |"
        )
    if rows := results.get("evidence"):
        errors = np.array(
            [abs(v) for row in rows for k, v in row.items() if k[-1].isdigit()], dtype=float
        )
        lines.append(
            f"| log evidence, share within 3 standard errors | 95 % | {np.mean(errors < 3):.1%} "
            f"of {len(errors)} | largest {errors.max():.1f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
