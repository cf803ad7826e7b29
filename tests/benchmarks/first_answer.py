"""From a model to a judged answer, beside NUTS: ``python -m tests.benchmarks.first_answer``.

For each posterior whose moments are known, `pmflow.fit(model=model)` and nutpie (compilation and
four chains of 1,000 draws) in turn, each in a process of its own: cold, with empty caches of
PyTensor and numba, and warm, with those that the cold run left. Seconds are those from the model to
the answer; how long imports take is not counted on either side. Nothing else may run on the
machine.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["main"]

_RESULTS = Path(__file__).parent / "results"
_DRAWS = 10_000
_MOST_SECONDS = 900


def _pmflow(model: Any, seed: int) -> tuple[Any, dict[str, Any]]:
    import pmflow as pmf

    approx = pmf.fit(model=model, random_seed=seed, progressbar=False)
    rungs = [rung.formula for rung in approx.ladder.rungs]
    found = approx.diagnosis
    about = {"verdict": found.verdict, "taken": rungs[approx.ladder.taken], "rungs": rungs}
    return approx, about


def _nutpie(model: Any, seed: int) -> tuple[Any, dict[str, Any]]:
    import nutpie

    compiled = nutpie.compile_pymc_model(model)
    return nutpie.sample(compiled, draws=1000, chains=4, seed=seed, progress_bar=False), {}


def _one(name: str, what: str, seed: int) -> dict[str, Any]:
    """One answer, in this process."""
    known = _posteriors()
    if what == "pmflow":
        import pmflow  # noqa: F401 - its import is no part of the answer
    else:
        import nutpie  # noqa: F401
    posterior = known.ALL[name]
    model = posterior.build()
    began, cpu = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, about = (_pmflow if what == "pmflow" else _nutpie)(model, seed)
    seconds = {"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu}
    draws = (
        found.sample(_DRAWS, random_seed=seed)["posterior"] if what == "pmflow" else found.posterior
    )
    x = known.columns(draws, posterior.names)
    error = np.abs(x.mean(0) - posterior.reference_mean) / posterior.reference_sd
    ratio = x.std(0) / posterior.reference_sd
    accuracy = {"mean": float(error.max()), "sd": [float(ratio.min()), float(ratio.max())]}
    return {"dim": posterior.dim, **seconds, **accuracy, **about}


def _in_a_process(name: str, what: str, seed: int, folder: Path) -> dict[str, Any] | None:
    """None where it did not come to an end."""
    flags = f"base_compiledir={folder / 'pytensor'}"
    rest = {"PYTENSOR_FLAGS": flags, "NUMBA_CACHE_DIR": str(folder / "numba")}
    command = [sys.executable, "-m", __spec__.name, "--one", name, what, str(seed)]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **rest},
            capture_output=True,
            text=True,
            timeout=_MOST_SECONDS,
            check=True,
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        print(f"{name}, {what}: {error}", file=sys.stderr)
        return None
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _row(name: str, runs: dict[str, Any]) -> str:
    cells = [name]
    for heat in ("cold", "warm"):
        ours, theirs = runs[f"pmflow, {heat}"], runs[f"nutpie, {heat}"]
        both = ours and theirs
        cells += [f"{run['wall']:.1f}" if run else "-" for run in (ours, theirs)]
        cells.append(f"{ours['wall'] / theirs['wall']:.2f}" if both else "-")
    ours = runs["pmflow, warm"]
    if ours:
        low, high = ours["sd"]
        cells += [f"{ours['mean']:.3f}", f"{low:.2f} to {high:.2f}", ours["verdict"], ours["taken"]]
    return f"| {' | '.join(cells)} |"


_COLUMNS = (
    *("posterior", "cold, s", "nutpie", "ratio", "warm, s", "nutpie", "ratio"),
    *("worst mean, sd", "sds", "verdict", "taken"),
)
_HEAD = f"| {' | '.join(_COLUMNS)} |\n|{'---|' * len(_COLUMNS)}"


def _posteriors() -> Any:
    # by its name: the package of the benchmark is a program, not a library
    return importlib.import_module("tests.benchmarks.accuracy.posteriors")


def main() -> None:
    """Measure, print a table, and keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--only", nargs="*", default=[], help="parts of names of posteriors")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        name, what, seed = given.one
        print(json.dumps(_one(name, what, int(seed))))
        return
    names = [
        n for n in _posteriors().ALL if not given.only or any(part in n for part in given.only)
    ]
    found: dict[str, Any] = {}
    print(_HEAD)
    for name in names:
        runs = {}
        for what in ("pmflow", "nutpie"):
            with tempfile.TemporaryDirectory() as folder:
                for heat in ("cold", "warm"):
                    runs[f"{what}, {heat}"] = _in_a_process(name, what, given.seed, Path(folder))
        found[name] = runs
        print(_row(name, runs), flush=True)
    if not given.only:
        table = "\n".join([_HEAD, *(_row(name, runs) for name, runs in found.items())])
        (_RESULTS / "first_answer.md").write_text(table + "\n")
        (_RESULTS / "first_answer.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
