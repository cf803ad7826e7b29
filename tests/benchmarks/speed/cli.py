"""Measure how fast pmflow is, beside others and beside the limit.

``python -m tests.benchmarks.speed [A B C D E F G jobs tracker memory] [--quick] [--subjects ...]``

Each number comes from a process of its own, one after the other. Rows A to F compile with an empty
cache; compilation and steps are timed apart. Nothing is left out: what fails or is not installed
has a line that says so. Results are added to those that the directory has.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .launch import empty_cache, launch
from .plan import SECTIONS, Measurement, make_plan
from .table import to_markdown

__all__ = ["main"]

_PACKAGES = ("pymc", "pytensor", "numba", "jax", "numpyro", "flowjax", "pymc-extras", "numpy")
_RESULTS = Path(__file__).resolve().parents[1] / "results"


def describe_machine() -> str:
    """Cores, processor and versions, in a line."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    versions = []
    for name in _PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"no {name}")
    return f"{os.cpu_count()} cores of {model}, Python {platform.python_version()}, float64, " + (
        ", ".join(versions)
    )


def measure(plan: list[Measurement], *, timeout: float, store: Any) -> None:
    """Carry out a plan, one process after the other."""
    with ExitStack() as stack:
        shared: dict[str, Path] = {}
        for place, item in enumerate(plan, 1):
            if item.cache and item.cache not in shared:
                shared[item.cache] = stack.enter_context(empty_cache())
            with ExitStack() as own:
                cache = shared.get(item.cache) or own.enter_context(empty_cache())
                result = launch(item.module, item.arguments, cache=cache, timeout=timeout)
            said = result.get("error") or ", ".join(
                f"{name} {result[name]:,.6g}"
                for name in ("compile_s", "steps_per_s", "seconds", "wall_s")
                if name in result
            )
            print(f"[{place}/{len(plan)}] {item.key}: {said}", file=sys.stderr, flush=True)
            store(item.key, result)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", metavar="row", help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="only see that all of it runs")
    parser.add_argument("--subjects", nargs="*", default=[], help="parts of their names")
    parser.add_argument("--out", type=Path, help="directory of speed.json and speed.md")
    parser.add_argument("--timeout", type=float, default=1_800, help="seconds for one process")
    options = parser.parse_args()
    unknown = set(options.rows) - set(SECTIONS)
    if unknown:
        parser.error(f"there is no row {', '.join(sorted(unknown))}; choose of {SECTIONS}")
    # quick numbers mean nothing, so they go nowhere unless asked for
    folder = options.out or (None if options.quick else _RESULTS)
    plan = make_plan(options.rows or SECTIONS, options.subjects, quick=options.quick)
    results = _read(folder)
    machine = describe_machine()

    def store(key: str, result: dict[str, Any]) -> None:
        results[key] = result
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            content = {"machine": machine, "results": results}
            (folder / "speed.json").write_text(json.dumps(content, indent=1) + "\n")
            (folder / "speed.md").write_text(to_markdown(results, machine))

    measure(plan, timeout=options.timeout, store=store)
    print(to_markdown(results, machine))


def _read(folder: Path | None) -> dict[str, Any]:
    path = folder / "speed.json" if folder else None
    if path is None or not path.exists():
        return {}
    results: dict[str, Any] = json.loads(path.read_text())["results"]
    return results
