"""Work that is done elsewhere: as here, bit for bit, and once more where a worker is lost."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import pytest
from models import conjugate_normal
from workers import InPlace

import pmflow as pmf
from pmflow.errors import BackendError, FitWarning
from pmflow.starts.executors import Lost, done_by

QUIET: dict[str, Any] = {"random_seed": 1, "progressbar": False}
RNG = np.random.default_rng(5)
DATA = [{"y": RNG.normal(k, 1.0, size=20)} for k in range(6)]


@cache
def first() -> pmf.Approximation:
    return pmf.fit(model=conjugate_normal(np.zeros(20)), **QUIET)


@cache
def alone() -> pmf.Refits:
    return pmf.refit(first(), DATA, **QUIET)


def assert_same(found: pmf.Refits) -> None:
    assert found.verdicts == alone().verdicts
    assert [one.kl for one in found.diagnoses if one] == [x.kl for x in alone().diagnoses if x]
    for one, other in zip(found, alone(), strict=True):
        np.testing.assert_array_equal(one.log_prob([[1.0]]), other.log_prob([[1.0]]))


def double(x: int) -> int:
    return 2 * x


def test_what_is_lost_is_done_once_more() -> None:
    found = list(done_by(InPlace(1, 5), double, [1, 2, 3, 4]))
    assert found[0] == (0, 2, 0)
    number, lost, again = found[1]  # the fifth one begun is the second try
    assert (number, again) == (1, 1)
    assert isinstance(lost, int)
    assert found[2:] == [(2, 6, 0), (3, 8, 0)]


def test_what_is_lost_twice_is_told() -> None:
    (_, found, again), _ = done_by(InPlace(0, 2), double, [1, 2])
    assert found == Lost("RuntimeError: killed")
    assert again == 1


def test_fits_are_the_same_wherever_they_are_made() -> None:
    assert_same(pmf.refit(first(), DATA, executor=InPlace(), **QUIET))


def test_a_worker_that_dies_is_counted_and_nothing_lost() -> None:
    found = pmf.refit(first(), DATA, executor=InPlace(2), **QUIET)
    assert_same(found)
    assert found.retried == 1
    assert repr(found) == "6 fits: 6 reliable; 1 begun again"


def test_the_others_arrive_where_one_is_lost_twice() -> None:
    with pytest.warns(FitWarning, match="1 of 6 fits could not be made. The first: Its worker was"):
        found = pmf.refit(first(), DATA, executor=InPlace(2, 6), **QUIET)
    assert list(found.failures) == [2]
    assert found.verdicts.count("reliable") == 5


def test_an_executor_that_does_nothing_is_told() -> None:
    with pytest.raises(BackendError, match=r"none of its work.*The last: RuntimeError: killed"):
        pmf.refit(first(), DATA, executor=InPlace(*range(12)), **QUIET)


def test_an_error_of_ours_is_raised_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("in the fit")

    monkeypatch.setattr("pmflow.ladder.again.Again.__call__", broken)
    with pytest.raises(ZeroDivisionError, match="in the fit"):
        pmf.refit(first(), DATA, executor=InPlace(), **QUIET)


def test_in_two_threads() -> None:
    """They take turns: the data are those of one model."""
    with ThreadPoolExecutor(2) as executor:
        assert_same(pmf.refit(first(), DATA, executor=executor, **QUIET))


@pytest.mark.slow
def test_in_two_processes() -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        assert_same(pmf.refit(first(), DATA, executor=executor, **QUIET))


@pytest.mark.slow
def test_by_dask_with_a_worker_killed_in_the_middle() -> None:
    distributed = pytest.importorskip("dask.distributed", reason="Dask is an optional extra")
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")
    with cluster, distributed.Client(cluster) as client:
        first_worker = client.run(os.getpid)

        def kill() -> None:
            time.sleep(3)
            os.kill(next(iter(first_worker.values())), signal.SIGKILL)

        thread = threading.Thread(target=kill)
        thread.start()
        found = pmf.refit(first(), DATA, executor=client, **QUIET)
        thread.join()
        assert_same(found)
