"""A board of models that nobody tuned on: ``python -m tests.benchmarks.catalogue PATH``.

PATH is a checkout of the public catalogue ``ricardoV94/pymc-model-catalogue``; neither its code nor
its data are part of pmflow. For each model `pmflow.fit(model=model)` and nutpie (compilation and
four chains of 1,000 draws, and again 4,000 where R-hat or the effective sample size is bad; the
time is that of the first) run in turn, each in a process of its own: cold, with empty caches, and
warm, with those that the cold run left. Imports and the building of the model are not timed. What
was measured is kept in a folder, and not measured again. Nothing else may run on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from .pictures import draw
from .table import table

__all__ = ["main"]

_RESULTS = Path(__file__).parents[1] / "results" / "catalogue.md"
_HALVES = {"even": 0, "odd": 1}


def _limited(cpu: int, memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 5))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _in_a_process(
    given: argparse.Namespace, name: str, what: str, seed: int, caches: Path
) -> dict[str, Any]:
    kept = given.kept / f"{name}.{what}.{seed}.npz"
    command = [sys.executable, "-m", f"{__package__}.child"]
    command += [str(given.path.resolve()), name, what, str(seed), str(kept.resolve())]
    flags = f"base_compiledir={caches / 'pytensor'}"
    environ = {"PYTENSOR_FLAGS": flags, "NUMBA_CACHE_DIR": str(caches / "numba")}
    here = str(Path(__file__).parents[3])
    done = subprocess.run(
        command,
        env={**os.environ, **environ, "PYTHONPATH": here},
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=partial(_limited, given.seconds, given.memory * 2**30),
    )
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        killed = done.returncode in (-24, -9)  # SIGXCPU, or SIGKILL after it
        return {"error": "not done" if killed else f"ended with {done.returncode}"}
    said: dict[str, Any] = json.loads(lines[-1])
    said["printed"] = "Traceback" in done.stderr
    return said


def _measured(given: argparse.Namespace, name: str) -> None:
    """What is missing of a model, measured and kept."""
    jobs = [("pmflow", seed) for seed in range(1, given.seeds + 1)]
    jobs += [] if given.no_nuts else [("nutpie", 1)]
    for what, seed in jobs:
        with tempfile.TemporaryDirectory() as folder:
            for heat in ("cold", "warm")[: 2 if given.warm and seed == 1 else 1]:
                file = given.kept / f"{name}.{what}.{seed}.{heat}.json"
                if not file.exists():
                    said = _in_a_process(given, name, what, seed, Path(folder))
                    file.write_text(json.dumps(said) + "\n")


def main(path: Path | None = None, results: Path = _RESULTS) -> None:
    """Measure what is missing, print the table and keep it.

    Parameters
    ----------
    path : Path, optional
        Of a folder of the catalogue's layout, in place of that of the command line.
    results : Path, optional
        Where the table goes.
    """
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    if path is None:
        parser.add_argument("path", type=Path)
    parser.set_defaults(path=path)
    parser.add_argument("--kept", type=Path, default=Path("catalogue-board"), help="a folder")
    parser.add_argument("--only", nargs="*", default=[], help="names of models")
    parser.add_argument("--half", choices=_HALVES, help="of the sorted list, the first is even")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=300, help="of CPU time, for one answer")
    parser.add_argument("--memory", type=int, default=16, help="in GiB")
    parser.add_argument("--warm", action="store_true", help="time a second process too")
    parser.add_argument("--no-nuts", action="store_true")
    given = parser.parse_args()
    names = sorted(f.stem for f in (given.path / "models").glob("*.py") if f.stem[0] != "_")
    if given.half:
        names = names[_HALVES[given.half] :: 2]
    names = [n for n in names if not given.only or n in given.only]
    given.kept.mkdir(parents=True, exist_ok=True)
    for name in names:
        _measured(given, name)
        print(table(given.kept, [name]).splitlines()[-1], flush=True)
    if not given.only:
        results.write_text(table(given.kept, names) + "\n")
        print(draw(given.kept, names, results.with_suffix(".png")))
