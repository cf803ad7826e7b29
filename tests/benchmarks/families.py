"""How near each family of flows comes to targets whose evidence is known, over seeds.

``python -m tests.benchmarks.families [rows of the table] [--seeds 5] [--steps 10000]``

A row is a target and a formula. Every fit is the same call: steps of adam(0.01), then a half or a
quarter as many at each of four smaller rates down to 0.0001, 100 draws a step. The divergence that
is left comes from 100,000 fresh draws of the final flow. Results are added to those that
``results/families.json`` has; ``results/families.md`` is the table.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm

import pmflow as pmf

__all__ = ["ROWS", "measure"]

_DRAWS = 100_000
_RATES = ((0.01, 1.0), (0.003, 0.5), (0.001, 0.5), (0.0003, 0.25), (0.0001, 0.25))
_RESULTS = Path(__file__).parent / "results"

TARGETS = {**pmf.targets.ALL, "banana, 10": pmf.targets.banana(10)}

_WAVES = "sinh-scale-naf-iaf[hidden=64,activation=sin]-loc"

ROWS: dict[str, tuple[str, str, dict[str, Any]]] = {
    **{
        f"mixture/{formula}": ("gaussian_mixture", formula, {})
        for formula in (
            "planar*8",
            "radial*16-scale-loc",
            "sylvester*8",
            "(iaf-reverse)*4",
            "(maf-reverse)*5",
            "(naf-reverse)*2",
            "(bnaf-reverse)*4-scale-loc",
            "scale-(poly-reverse)*3-loc",
            "coupling*4",
            "spline*2-scale-loc",
        )
    },
    "potential 1": ("potential_1", "sylvester*24-scale-loc", {}),
    "potential 2": ("potential_2", "sinh-scale-iaf[hidden=64,activation=sin]-loc", {}),
    "potential 3": ("potential_3", _WAVES, {}),
    "potential 4": (
        "potential_4",
        "sinh-scale-iaf[hidden=64,activation=sin]-naf-iaf[hidden=64,activation=sin]-loc",
        {"heat": 10.0},
    ),
    "funnel": ("funnel", "scale-iaf*3", {}),
    "banana, 2": ("banana", "scale-iaf*2-loc", {}),
    "banana, 10": ("banana, 10", "scale-iaf*2-loc", {}),
    "ill-conditioned": ("ill_conditioned", "tril-loc", {"steps": 40_000}),
    "student t": ("student_t", "scale-loc", {"base": "student_t"}),
}
"""By name: the target, the formula, further arguments of `NFVI`; `steps` where more are needed;
`heat` where the fit begins on a flatter target, its log density divided by that."""


def measure(
    target: pmf.targets.Target,
    formula: str,
    seed: int,
    steps: int,
    *,
    heat: float = 1.0,
    **options: Any,
) -> dict[str, float]:
    """Divergence left and its standard error, seconds, parameters, moments of ``z[0]``."""
    approx = pmf.NormalizingFlow(formula, model=target.model(), random_seed=seed, **options)
    began = time.perf_counter()
    phases = [(beta, _RATES[:1], 0.5) for beta in (heat, heat**0.5) if beta > 1]
    for beta, rates, part in [*phases, (1.0, _RATES, 1.0)]:
        # the target is a potential: the more the entropy weighs, the flatter it is
        inference = pmf.NFVI(approx, beta=beta)
        for rate, share in rates:
            inference.fit(
                int(part * share * steps),
                obj_n_mc=100,
                obj_optimizer=pm.adam(learning_rate=rate),
                backend="jax",
                progressbar=False,
            )
    seconds = time.perf_counter() - began
    draws = approx.sample(_DRAWS, random_seed=1)
    terms = np.asarray(draws["sample_stats"]["log_q"] - draws["sample_stats"]["log_p"])
    first = np.asarray(draws["posterior"]["z"])[0, :, 0]
    return {
        "kl": float(terms.mean()) + target.log_evidence,
        "error": float(terms.std() / np.sqrt(_DRAWS)),
        "seconds": seconds,
        "parameters": sum(p.get_value().size for p in approx.params),
        "mean": float(first.mean()),
        "sd": float(first.std()),
        "skipped": inference.skipped,
    }


def _table(results: dict[str, Any]) -> str:
    lines = [
        "| target | formula | numbers | KL, median | KL, worst | its error | sd of z0 | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    words = ("base", "jitter", "heat")
    for entry in results.values():
        runs = entry["runs"]
        kl = np.array([run["kl"] for run in runs])
        sds = [run["sd"] for run in runs]
        cells = [
            entry["target"],
            f"`{entry['formula']}`" + "".join(f", {w} {entry[w]}" for w in words if w in entry),
            f"{runs[0]['parameters']}",
            f"{np.median(kl):.4f}",
            f"{kl.max():.4f}",
            f"{max(run['error'] for run in runs):.4f}",
            f"{min(sds):.2f} to {max(sds):.2f}",
            f"{np.median([run['seconds'] for run in runs]):.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", help=f"parts of the names: {', '.join(ROWS)}")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--target", default=None, choices=TARGETS)
    parser.add_argument("--formula", default=None, help="with --target: tried, not kept")
    options = parser.parse_args()
    path = _RESULTS / "families.json"
    if options.formula:
        chosen: dict[str, tuple[str, str, dict[str, Any]]] = {
            "tried": (options.target, options.formula, {})
        }
    else:
        words = [word.lower() for word in options.rows]
        chosen = {n: row for n, row in ROWS.items() if not words or any(w in n for w in words)}
    for name, (target, formula, given) in chosen.items():
        runs, given = [], dict(given)
        steps = given.pop("steps", options.steps)
        for seed in range(options.seeds):
            run = measure(TARGETS[target], formula, seed, steps, **given)
            runs.append(run)
            print(
                f"{name}, {formula}, seed {seed}: KL {run['kl']:.4f} +- {run['error']:.4f}, "
                f"sd {run['sd']:.3f}, {run['seconds']:.0f} s, skipped {run['skipped']}",
                flush=True,
            )
        if not options.formula:
            results = json.loads(path.read_text()) if path.exists() else {}
            results[name] = {"target": target, "formula": formula, **given, "runs": runs}
            results = {row: results[row] for row in ROWS if row in results}
            path.write_text(json.dumps(results, indent=1) + "\n")
            (_RESULTS / "families.md").write_text(_table(results))


if __name__ == "__main__":
    main()
