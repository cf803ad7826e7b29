"""Memory of fits to many rows on disk and to many dimensions: ``python -m tests.benchmarks.scale``.

Each number is measured in a process of its own. ``RssAnon`` is the memory that a process holds for
itself: pages of a file that is mapped into memory are not part of it, since the system takes them
back whenever it needs them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["measure_dim", "measure_rows"]

_MIB = 2**20
_BLOCK = 1_000_000


def anonymous_mib() -> float:
    """Memory of this process that is not a mapped file, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    raise OSError("RssAnon is known on Linux alone")


def write_rows(path: Path, rows: int) -> None:
    """Draws from N(2, 1) in a file, a block at a time."""
    rng = np.random.default_rng(1)
    with path.open("wb") as file:
        for begin in range(0, rows, _BLOCK):
            file.write(rng.normal(2.0, 1.0, size=min(_BLOCK, rows - begin)).tobytes())


def _rows_child(path: str, rows: int, way: str) -> dict[str, float]:
    import pymc as pm

    import pmflow as pmf

    data = np.memmap(path, dtype="float64", mode="r", shape=(rows,))
    rng = np.random.default_rng(0)
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 10)
        if way == "minibatch":
            batch = pm.Minibatch(data, batch_size=200)
        else:
            batch = pm.Data("batch", np.array(data[:200]))
        pm.Normal("y", mu, 1.0, observed=batch, total_size=rows)
    before, peak = anonymous_mib(), 0.0

    def watch(approx: Any, losses: Any, step: int) -> None:
        nonlocal peak
        peak = max(peak, anonymous_mib())
        if way == "set_data":
            model.set_data("batch", data[rng.integers(rows, size=200)])

    inference = pmf.NFVI("scale-loc", model=model, random_seed=1)
    inference.fit(
        400,
        obj_n_mc=4,
        obj_optimizer=pm.adam(learning_rate=0.05),
        callbacks=[watch],
        compile_kwargs={"mode": "FAST_COMPILE"},
        progressbar=False,
    )
    mean = float(inference.approx.params[1].get_value()[0])
    return {"before": before, "peak": peak, "mean": mean}


def _dim_child(formula: str, dim: int) -> dict[str, float]:
    import pymc as pm

    import pmflow as pmf

    before, peak = anonymous_mib(), 0.0

    def watch(approx: Any, losses: Any, step: int) -> None:
        nonlocal peak
        peak = max(peak, anonymous_mib())

    with pm.Model() as model:
        pm.Normal("x", 1.0, 2.0, shape=dim)
    inference = pmf.NFVI(formula, model=model, random_seed=1)
    inference.fit(
        20,
        obj_n_mc=4,
        callbacks=[watch],
        compile_kwargs={"mode": "FAST_COMPILE"},
        progressbar=False,
    )
    inference.approx.sample(100, random_seed=1)
    peak = max(peak, anonymous_mib())
    return {"before": before, "peak": peak, "loss": float(inference.hist[-1])}


def _in_a_process(*arguments: str) -> dict[str, float]:
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.scale", *arguments],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    if result.returncode:
        raise RuntimeError(result.stderr[-2000:])
    found: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return found


def measure_rows(rows: int, way: str) -> dict[str, float]:
    """Anonymous memory of a fit to `rows` rows on disk, in MiB: before, and the peak of the fit.

    Parameters
    ----------
    rows : int
    way : {"minibatch", "set_data"}
        `pm.Minibatch` of a memory-mapped array, or `pm.Data` that a callback exchanges.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.dat"
        write_rows(path, rows)
        return _in_a_process("rows", str(path), str(rows), way)


def measure_dim(formula: str, dim: int) -> dict[str, float]:
    """Anonymous memory of a fit of `dim` dimensions, and of 100 draws, in MiB."""
    return _in_a_process("dim", formula, str(dim))


def main(arguments: list[str]) -> None:
    """Measure everything, or, as a child, one thing."""
    match arguments:
        case ["rows", path, length, kind]:
            print(json.dumps(_rows_child(path, int(length), kind)))
        case ["dim", text, length]:
            print(json.dumps(_dim_child(text, int(length))))
        case _:
            for way in ("minibatch", "set_data"):
                for rows in (1_000_000, 10_000_000):
                    found = measure_rows(rows, way)
                    print(f"{way:10} {rows:>10,} rows ({rows * 8 / _MIB:5.0f} MiB): {found}")
            for formula in ("scale-loc", "lowrank[rank=10]-loc"):
                for dim in (1_000, 10_000, 20_000):
                    print(f"{formula:22} {dim:>6,} dimensions: {measure_dim(formula, dim)}")


if __name__ == "__main__":
    main(sys.argv[1:])
