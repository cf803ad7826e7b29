"""Chunks: their length, and Ctrl-C between them."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import numpy as np
import pytest
from models import conjugate_normal

import pmflow as pmf
from pmflow.training.pace import Pace, is_due, next_due


class Due:
    def __init__(self, every: int) -> None:
        self.every = every

    def __call__(self, *args: Any) -> None: ...


def plain(*args: Any) -> None: ...


@pytest.mark.parametrize(
    ("step", "callbacks", "expected"),
    [
        (0, [], None),
        (0, [plain], 1),
        (5, [plain, Due(10)], 6),
        (0, [Due(10)], 1),
        (1, [Due(10)], 10),
        (10, [Due(10), Due(4)], 12),
    ],
)
def test_the_next_step_at_which_one_is_due(step: int, callbacks: Any, expected: int | None) -> None:
    assert next_due(step, 1, callbacks) == expected


def test_only_those_that_are_due_are_called() -> None:
    assert [s for s in range(1, 9) if is_due(Due(4), s, first=1)] == [1, 4, 8]
    assert [s for s in range(1, 9) if is_due(plain, s, first=1)] == list(range(1, 9))


def test_chunks_grow_until_they_take_a_fifth_of_a_second() -> None:
    pace, chunks = Pace(), []
    for _ in range(8):
        chunks.append(pace.steps)
        with pace.measure(pace.steps):
            time.sleep(5e-4 * pace.steps)
    assert chunks[:3] == [1, 8, 64]
    assert 0.05 < 5e-4 * chunks[-1] < 0.4


def test_a_slow_step_is_a_chunk_of_its_own() -> None:
    pace = Pace()
    with pace.measure(1):
        time.sleep(0.6)
    assert pace.steps == 1


def test_what_a_call_costs_is_not_taken_for_what_steps_cost() -> None:
    pace = Pace()
    for _ in range(5):
        with pace.measure(pace.steps):
            time.sleep(0.15 + 0.01 * pace.steps)
    assert pace.steps >= 16


def test_chunks_are_longer_where_much_is_done_between_them() -> None:
    pace = Pace()
    for _ in range(6):
        with pace.measure(pace.steps):
            time.sleep(1e-3 * pace.steps)
        time.sleep(0.05)
    assert 0.3 < 1e-3 * pace.steps < 0.8


@pytest.mark.parametrize("backend", ["numba", "jax"])
def test_a_fit_interrupted_in_a_chunk_keeps_everything(backend: str) -> None:
    if backend == "jax":
        pytest.importorskip("jax", reason="jax is an optional extra")
    data = np.random.default_rng(1).normal(2.0, 1.0, size=50)
    vi = pmf.NFVI("scale-loc", model=conjugate_normal(data), random_seed=1)
    vi.fit(1, backend=backend, progressbar=False)  # compiled
    timer = threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    vi.refine(10**9, progressbar=False)
    waited = time.perf_counter()
    timer.join()
    steps = len(vi.hist)
    assert steps > 1_000
    assert np.isfinite(vi.hist).all()
    # goes on where it was interrupted, and ends what pytest would take for an interrupt
    vi.refine(10, progressbar=False)
    assert len(vi.hist) == steps + 10
    assert time.perf_counter() - waited < 30
    assert vi.approx.sample(10)["posterior"]["mu"].shape == (1, 10)


def test_fits_in_other_threads_leave_signals_alone() -> None:
    data = np.random.default_rng(1).normal(2.0, 1.0, size=50)
    vi = pmf.NFVI("scale-loc", model=conjugate_normal(data), random_seed=1)
    fast: dict[str, Any] = {"compile_kwargs": {"mode": "FAST_COMPILE"}, "progressbar": False}
    thread = threading.Thread(target=vi.fit, args=(5,), kwargs=fast)
    thread.start()
    thread.join()
    assert len(vi.hist) == 5
