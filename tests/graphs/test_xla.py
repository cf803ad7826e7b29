"""How JAX compiles: kept on disk, where the user has it or beside PyTensor's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytensor.tensor as pt
import pytest
from pytensor.graph.fg import FunctionGraph
from pytensor.raise_op import Assert

from pmflow.graphs.xla import as_jax

pytestmark = pytest.mark.jax

ONE_FIT = """
import json, jax
from jax._src import monitoring
import pymc as pm, pmflow as pmf
events = []
monitoring.register_event_listener(lambda name, **_: events.append(name))
with pm.Model() as model:
    pm.Normal("x", 1.0, 2.0, shape=3)
approx = pmf.fit(200, method="nfvi=planar-scale-loc", model=model, backend="jax", random_seed=1,
                 progressbar=False)
said = {
    "hits": sum(e.endswith("cache_hits") for e in events),
    "folder": jax.config.jax_compilation_cache_dir,
    "losses": approx.hist.tolist(),
}
print(json.dumps(said))
"""


def fit_in_a_process(folder: Path, **environ: str) -> dict[str, Any]:
    flags = {"PYTENSOR_FLAGS": f"base_compiledir={folder}"}
    done = subprocess.run(
        [sys.executable, "-c", ONE_FIT],
        env={**os.environ, **flags, **environ},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def test_a_second_process_finds_the_machine_code_of_the_first(tmp_path: Path) -> None:
    first, second = (fit_in_a_process(tmp_path) for _ in range(2))
    assert first["hits"] == 0
    assert second["hits"] > 0
    assert Path(second["folder"]).is_relative_to(tmp_path)
    assert second["losses"] == first["losses"]


def test_the_users_own_folder_is_used(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    said = fit_in_a_process(tmp_path, JAX_COMPILATION_CACHE_DIR=str(mine))
    assert said["folder"] == str(mine)


def test_no_word_is_said_of_checks_that_can_not_be_traced() -> None:
    pytest.importorskip("jax")
    x = pt.vector("x", shape=(3,))
    checked = Assert("x is positive")(x * 2, pt.all(x > 0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = as_jax(FunctionGraph([x], [checked], clone=True))
    np.testing.assert_array_equal(run(np.ones(3))[0], [2.0, 2.0, 2.0])
