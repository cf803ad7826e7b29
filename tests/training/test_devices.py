"""A fit that is laid over several devices is the fit on one."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm
import pytest
from models import conjugate_normal

import pmflow as pmf
from pmflow.errors import ParameterError
from pmflow.graphs.devices import Layout, chosen_layout, over_devices

pytest.importorskip("jax", reason="jax is an optional extra")

HERE = Path(__file__)
DATA = ("x", "group", "y")


def hierarchy(rows: int) -> pm.Model:
    """Counts in groups, with data of `rows` rows that a user may set."""
    rng = np.random.default_rng(1)
    group = rng.integers(0, 7, rows)
    with pm.Model() as model:
        x = pm.Data("x", rng.normal(size=(rows, 2)))
        levels = pm.Normal("levels", 0, pm.HalfNormal("sd"), shape=7)
        y = pm.Data("y", rng.poisson(2.0, rows))
        eta = levels[pm.Data("group", group)] + x @ pm.Normal("b", shape=2)
        pm.Poisson("counts", pm.math.exp(eta), observed=y)
    return model


def fitted(model: pm.Model, formula: str, devices: int, **options: Any) -> pmf.NFVI:
    inference = pmf.NFVI(formula, model=model, random_seed=1)
    inference.fit(progressbar=False, devices=devices, **options)
    return inference


def cut(_: Any, hist: Any, step: int) -> None:
    """Break a fit off after 40 steps."""
    assert len(hist) == step
    if step == 40:
        raise ZeroDivisionError


def held_rows(rows: int) -> list[int]:
    """How many rows the first device holds, of all arrays of about so many."""
    import jax

    shards = [
        next(s for s in array.addressable_shards if s.device == jax.devices()[0])
        for array in jax.live_arrays()  # type: ignore[no-untyped-call]
        if array.shape and 0 <= array.shape[0] - rows < 8
    ]
    return [shard.data.shape[0] for shard in shards]


def measured() -> dict[str, Any]:
    """What is asserted below, in a process whose CPU counts as eight devices."""
    from pmflow.graphs import devices as layouts

    vars(layouts).update(_WORTH={"cpu": 0}, _LEAST_ROWS=100)
    line = conjugate_normal(np.linspace(1, 3, 50))
    found: dict[str, Any] = {}
    for count in (1, 8):
        draws = fitted(line, "planar*2-loc", count, n=60, obj_n_mc=10)
        quasi = fitted(line, "planar*2-loc", count, n=60, obj_n_mc=16, qmc=True)
        data = fitted(hierarchy(rows := 1_003), "scale-loc", count, n=60)
        parts = held_rows(rows)
        # other data in what was compiled: as many rows, then fewer
        with data.approx.model:
            for left in (rows, 905):
                pm.set_data(
                    {name: data.approx.model[name].get_value()[::-1][:left] for name in DATA}
                )
                data.fit(30, devices=count, progressbar=False)
        found[str(count)] = {
            "losses": [list(vi.hist) for vi in (draws, quasi, data)],
            "parts": parts,
        }
        del draws, quasi, data
        gc.collect()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.nc"
        with contextlib.suppress(ZeroDivisionError):
            broken_off = {"callbacks": [cut], "checkpoint": path}
            fitted(line, "planar*2-loc", 8, n=60, obj_n_mc=10, **broken_off)
        gone_on = pmf.resume(path, line, devices=3, progressbar=False)
        found["resumed"] = [float(loss) for loss in gone_on.hist]
    auto = pmf.fit(model=hierarchy(1_003), random_seed=1, devices=8, progressbar=False)
    assert auto.diagnosis is not None
    found["verdict"] = auto.diagnosis.verdict
    return found


@pytest.fixture(scope="module")
def found() -> Any:
    flags = "--xla_force_host_platform_device_count=8"
    paths = [str(HERE.parent), str(HERE.parents[1]), *sys.path]
    done = subprocess.run(
        [sys.executable, str(HERE)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("what", [0, 1, 2], ids=["draws", "sobol", "rows"])
def test_losses_are_those_of_one_device(found: Any, what: int) -> None:
    losses, alone = found["8"]["losses"][what], found["1"]["losses"][what]
    np.testing.assert_allclose(losses, alone, rtol=1e-10)
    assert len(losses) == (120 if what == 2 else 60)


def test_a_fit_goes_on_over_another_number_of_devices(found: Any) -> None:
    np.testing.assert_allclose(found["resumed"], found["1"]["losses"][0], rtol=1e-10)


def test_each_device_holds_its_part_of_the_rows(found: Any) -> None:
    assert found["1"]["parts"] == [1_003] * 3
    assert found["8"]["parts"] == [126] * 3


def test_the_ladder_is_climbed_on_several_devices(found: Any) -> None:
    assert found["verdict"] == "reliable"


def test_few_numbers_stay_on_one_device(caplog: pytest.LogCaptureFixture) -> None:
    import jax

    if len(jax.devices()) > 1:
        pytest.skip("this process has several devices")
    caplog.set_level(logging.INFO, "pmflow")
    # one that is there twice: the choice is made before anything is laid anywhere
    with over_devices((jax.devices()[0],) * 2):
        layouts = [
            chosen_layout(10, 20, [], lambda: 100.0),
            chosen_layout(1, 2, [(50,)], lambda: 1e9),
        ]
    assert layouts == [Layout(), Layout()]
    assert "One device is used, not 2: one call goes through 100 numbers" in caplog.messages[0]
    assert "one draw at a time, and no data with 1,000 rows a device" in caplog.messages[1]


@pytest.mark.parametrize(
    ("draws", "rows", "by_rows"), [(64, 1_000, False), (64, 1_000_000, True), (1, 3_000, True)]
)
def test_what_is_larger_is_cut(draws: int, rows: int, by_rows: bool) -> None:  # noqa: FBT001
    import jax

    with over_devices((jax.devices()[0],) * 2):
        layout = chosen_layout(draws, draws * 100, [(rows, 3), (7,)], lambda: 1e9)
    assert layout.rows == (frozenset({(rows, 3)}) if by_rows else frozenset())
    assert len(layout.devices) == 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"devices": 99}, "devices=99, but JAX has .* XLA_FLAGS=--xla_force_host"),
        ({"devices": 0}, "devices must be an integer >= 1, but is 0"),
        ({"devices": "gpu"}, "devices must be an integer >= 1, but is 'gpu'"),
        ({"devices": []}, "devices must be different devices of one kind"),
        ({"devices": 2, "backend": "numba"}, "devices= is for JAX: leave backend= out"),
    ],
)
def test_devices_that_are_none(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        pmf.NFVI("loc", model=conjugate_normal(np.ones(3))).fit(5, progressbar=False, **given)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measured()))
