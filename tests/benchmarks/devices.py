"""A fit over several devices against the one on one: ``python -m tests.benchmarks.devices``.

A CPU that counts as eight devices, 1,000 steps of some rows of the table of speed and of a
hierarchy of 20,000 dimensions. Largest relative difference of losses to one device, collectives in
the program that XLA has made, bytes of data that the first device holds. Seconds say nothing: the
devices share the cores, and pmflow is told here to cut what it would not.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm

import pmflow as pmf
from pmflow.graphs import devices as layouts

_HIERARCHY = "hierarchy"
_DEVICES = (1, 2, 4, 8)
_STEPS = 1_000
_COLLECTIVE = re.compile(
    r" (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
)


def _one(name: str, devices: int) -> dict[str, Any]:
    import jax

    jax.config.update("jax_enable_compilation_cache", val=False)  # type: ignore[no-untyped-call]
    vars(layouts)["_WORTH"] = {"cpu": 0}
    if name == _HIERARCHY:
        hierarchy = import_module("tests.benchmarks.large.models.binary_intercepts")
        model = hierarchy.build_model(20_000, rows_each=50)[0]
        formula, draws = "scale-loc", 1
    else:
        row = import_module("tests.benchmarks.speed.rows").ROWS[name]
        model = import_module("tests.benchmarks.speed.models").build_model(row.target)
        formula, draws = row.formula, row.draws
    inference = pmf.NFVI(formula, model=model, random_seed=1)
    inference.fit(
        _STEPS,
        obj_n_mc=draws,
        obj_optimizer=pm.adam(learning_rate=0.01),
        devices=devices,
        progressbar=False,
    )
    first = jax.devices()[0]
    shards = [
        s.data.nbytes
        for array in jax.live_arrays()  # type: ignore[no-untyped-call]
        if array.size > 2**16 and array.shape[0] != 2**18  # none of what steps have recorded
        for s in array.addressable_shards
        if s.device == first
    ]
    return {"losses": [float(loss) for loss in inference.hist], "bytes": sum(shards)}


def _told(name: str, devices: int) -> tuple[dict[str, Any], Counter[str]]:
    with tempfile.TemporaryDirectory() as folder:
        flags = "--xla_force_host_platform_device_count=8 --xla_dump_hlo_as_text "
        flags += f"--xla_dump_hlo_module_re=jit_run --xla_dump_to={folder}"
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.devices", "--one", name, str(devices)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env={**os.environ, "XLA_FLAGS": flags},
        )
        programs = list(Path(folder).glob("*jit_run*cpu_after_optimizations.txt"))
        text = "".join(program.read_text() for program in programs)
    return json.loads(done.stdout.splitlines()[-1]), Counter(_COLLECTIVE.findall(text))


def main() -> None:
    """Measure, and print a table."""
    names = ["A", "D20", "F", _HIERARCHY]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="+", choices=names, default=names)
    parser.add_argument("--one", nargs=2, metavar=("ROW", "DEVICES"))
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(_one(chosen.one[0], int(chosen.one[1]))))
        return
    print("| row | devices | largest difference of losses | collectives | MB on a device |")
    print("|---|---|---|---|---|")
    for name in chosen.rows:
        alone = np.empty(0)
        for devices in _DEVICES:
            found, collectives = _told(name, devices)
            losses = np.array(found["losses"])
            alone = losses if devices == 1 else alone
            difference = np.abs(losses / alone - 1).max()
            told = ", ".join(f"{count} {kind}" for kind, count in collectives.items()) or "none"
            megabytes = found["bytes"] / 2**20
            print(
                f"| {name} | {devices} | {difference:.1e} | {told} | {megabytes:.2f} |", flush=True
            )


if __name__ == "__main__":
    main()
