"""Measure how near fits come to posteriors that are known, beside other methods.

``python -m tests.benchmarks.accuracy [--posterior NAME ...] [--method NAME ...] [--seeds 5]``

A name may be a part of one. All fits are made in one process that begins with empty caches, seed
after seed: the first of a posterior and a method is marked as such, since it compiles. Each result
is kept at once, so that a run that was stopped is lost only in part, and the next one makes what is
missing. A failure is a result too; ``--again`` measures anew what is there.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from ..speed.cli import describe_machine  # noqa: TID252 - `tests` or `benchmarks` is the root
from .methods import METHODS, Fit, run
from .posteriors import ALL, TARGETS, Posterior
from .scores import moments
from .table import Run, in_order, to_markdown

__all__ = ["choose", "main", "measure", "read", "write"]

_RESULTS = Path(__file__).resolve().parents[1] / "results"
_POSTERIORS = {**ALL, **TARGETS}


def choose(words: Collection[str], names: Iterable[str], what: str) -> list[str]:
    """The names asked for: the one that is the word, or else each that holds it."""
    names = list(names)
    found: set[str] = set()
    for word in words:
        fits = {n for n in names if word == n} or {n for n in names if word.lower() in n.lower()}
        if not fits:
            raise ValueError(f"There is no {what} {word!r}; choose of {', '.join(names)}.")
        found |= fits
    return [n for n in names if n in found] if words else names


def as_run(posterior: Posterior, method: str, seed: int, fit: Fit, *, first: bool) -> Run:
    """A fit as it is stored: numbers in place of draws."""
    found: dict[str, Any] = {
        "posterior": posterior.name,
        "method": method,
        "seed": seed,
        "first": first,
        "seconds": fit.seconds,
        "error": fit.error,
    }
    if fit.draws is not None:
        found["mean_error"], found["sd_ratio"] = moments(fit.draws, posterior)
    if fit.elbo is not None:
        found["gap"] = posterior.log_evidence - fit.elbo
        found["gap_error"] = fit.elbo_error
    found["khat"] = fit.khat
    # JSON has no infinity: what is not a number is not known
    return {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in found.items()
    }


def measure(
    posteriors: Iterable[str],
    methods: Collection[str],
    seeds: int,
    folder: Path,
    *,
    again: bool = False,
) -> None:
    """Make the fits that are missing in the folder, or all; keep each result at once."""
    runs = read(folder)
    fitted: set[tuple[str, str]] = set()
    for name in posteriors:
        for method in methods:
            for seed in range(seeds):
                key = (name, method, seed)
                if not again and any((r["posterior"], r["method"], r["seed"]) == key for r in runs):
                    continue
                posterior = _POSTERIORS[name]
                fit = run(METHODS[method], posterior, seed)
                new = as_run(posterior, method, seed, fit, first=(name, method) not in fitted)
                fitted.add((name, method))
                runs = [r for r in runs if (r["posterior"], r["method"], r["seed"]) != key]
                runs = in_order([*runs, new])
                write(folder, runs)
                print(_line(new), flush=True)


def _line(found: Run) -> str:
    begin = f"{found['posterior']}, {found['method']}, seed {found['seed']}: "
    numbers = ("mean_error", "sd_ratio", "gap", "khat", "seconds")
    said = [f"{n} {found[n]:.4g}" for n in numbers if found.get(n) is not None]
    return begin + (found["error"] or ", ".join(said))


def read(folder: Path) -> list[Run]:
    """The results of a folder; none if it has none."""
    path = folder / "accuracy.json"
    return json.loads(path.read_text())["runs"] if path.exists() else []


def write(folder: Path, runs: list[Run]) -> None:
    """Results and table. A process that is stopped half-way leaves the old results whole."""
    folder.mkdir(parents=True, exist_ok=True)
    machine = describe_machine()
    lines = ",\n  ".join(json.dumps(r, allow_nan=False) for r in runs)
    text = f'{{\n "machine": {json.dumps(machine)},\n "runs": [\n  {lines}\n ]\n}}\n'
    for name, content in (("accuracy.json", text), ("accuracy.md", to_markdown(runs, machine))):
        new = folder / f"{name}.new"
        new.write_text(content)
        os.replace(new, folder / name)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--posterior", nargs="*", default=[], help=f"of {', '.join(_POSTERIORS)}")
    parser.add_argument("--method", nargs="*", default=[], help=f"of {', '.join(METHODS)}")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=_RESULTS, help="of accuracy.json, accuracy.md")
    parser.add_argument("--again", action="store_true", help="measure anew what is there")
    options = parser.parse_args()
    try:
        posteriors = choose(options.posterior, _POSTERIORS, "posterior")
        methods = choose(options.method, METHODS, "method")
    except ValueError as error:
        parser.error(str(error))
    measure(posteriors, methods, options.seeds, options.out, again=options.again)
    print((options.out / "accuracy.md").read_text())
