"""Fits side by side, in threads and in processes, give what each gives alone, bit for bit."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytest
from models import conjugate_normal

import pmflow as pmf
from pmflow.graphs.evaluate import GLOBAL_STATE, changed_flags

pytestmark = pytest.mark.slow

type Job = tuple[str, int]
type Result = tuple[np.ndarray, np.ndarray]

JOBS: list[Job] = [("scale-loc", 1), ("planar*2-loc", 2)]
DATA = np.random.default_rng(1).normal(2.0, 1.0, size=50)
FAST: dict[str, Any] = {"compile_kwargs": {"mode": "FAST_COMPILE"}, "progressbar": False}


def fit_one(job: Job) -> Result:
    """Losses and draws of one fit, from nothing but a formula and a seed."""
    formula, seed = job
    with GLOBAL_STATE:  # PyMC changes PyTensor's flags, for all threads, as it makes a model
        model = conjugate_normal(DATA)
    inference = pmf.NFVI(formula, model=model, random_seed=seed)
    approx = inference.fit(40, obj_n_mc=3, **FAST)
    draws = approx.sample(30, random_seed=seed)["posterior"]["mu"]
    return inference.hist, np.asarray(draws)


@pytest.fixture(scope="module")
def alone() -> list[Result]:
    return [fit_one(job) for job in JOBS]


def assert_same(found: Sequence[Result], alone: Sequence[Result]) -> None:
    assert len(found) == len(alone)
    for one, other in zip(found, alone, strict=True):
        for mine, expected in zip(one, other, strict=True):
            np.testing.assert_array_equal(mine, expected)


def in_a_pool(pool: Executor, repeat: int = 1) -> list[Result]:
    with pool:
        return list(pool.map(fit_one, JOBS * repeat))


def test_two_threads(alone: list[Result]) -> None:
    assert_same(in_a_pool(ThreadPoolExecutor(2), repeat=2), alone * 2)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_two_processes(method: str, alone: list[Result]) -> None:
    context = multiprocessing.get_context(method)
    assert_same(in_a_pool(ProcessPoolExecutor(2, mp_context=context)), alone)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # JAX's, if it is loaded
def test_two_forked_processes(alone: list[Result]) -> None:
    context = multiprocessing.get_context("fork")
    assert_same(in_a_pool(ProcessPoolExecutor(2, mp_context=context)), alone)


def test_joblib_over_seeds_and_formulas(alone: list[Result]) -> None:
    joblib = pytest.importorskip("joblib", reason="joblib is not a dependency")
    found = joblib.Parallel(n_jobs=2, backend="loky")(joblib.delayed(fit_one)(j) for j in JOBS)
    assert_same(found, alone)


def test_a_sweep_with_dask(alone: list[Result]) -> None:
    distributed = pytest.importorskip("dask.distributed", reason="Dask is an optional extra")
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")
    with cluster, distributed.Client(cluster) as client:
        assert_same(client.gather(client.map(fit_one, JOBS)), alone)


# PyTensor looks for the BLAS of C code when it is first asked, whoever asks
FLAGS = [name for name in pytensor.config._config_var_dict if name != "blas__ldflags"]


def settings() -> dict[str, Any]:
    """What is global in a process and a fit might change."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 - the global state is the subject
    return {
        "numpy": (kind, np.array(keys).tolist(), rest),
        "errors of numpy": np.geterr(),
        "pytensor": {name: getattr(pytensor.config, name) for name in FLAGS},
        "warnings": list(warnings.filters),
        "signals": {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)},
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "model": pm.modelcontext,
    }


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Names of what is not as it was."""
    flags = [f"pytensor.{f}" for f in FLAGS if before["pytensor"][f] != after["pytensor"][f]]
    return [*flags, *(n for n in before if n != "pytensor" and before[n] != after[n])]


def test_a_fit_leaves_what_is_global_alone() -> None:
    fit_one(JOBS[0])  # what is imported on demand is
    before = settings()
    fit_one(JOBS[1])
    after = settings()
    assert changed(before, after) == []


def test_flags_changed_by_two_threads_at_once_go_back() -> None:
    before = pytensor.config.cxx, pytensor.config.traceback__limit
    entered = threading.Barrier(2, timeout=0.2)

    def change() -> None:
        with changed_flags(cxx="", traceback__limit=0):
            # met by the other one only if both are inside
            with contextlib.suppress(threading.BrokenBarrierError):
                entered.wait()

    threads = [threading.Thread(target=change) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert entered.broken
    assert (pytensor.config.cxx, pytensor.config.traceback__limit) == before


def test_flags_are_changed_by_one_thread_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTensor changes some as it makes nodes: whoever does that holds the lock."""
    change, alone = type(pytensor.config).change_flags, []

    def seen(config: Any, *args: Any, **flags: Any) -> Any:
        alone.append(GLOBAL_STATE._is_owned())  # type: ignore[attr-defined]
        return change(config, *args, **flags)

    monkeypatch.setattr(type(pytensor.config), "change_flags", seen)
    fit_one(JOBS[0])
    assert alone
    assert all(alone)


def test_a_fit_in_another_thread_leaves_what_is_global_alone() -> None:
    before = settings()
    in_a_pool(ThreadPoolExecutor(2))
    after = settings()
    assert changed(before, after) == []
