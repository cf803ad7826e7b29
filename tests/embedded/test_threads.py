"""BLAS by one thread, for as long as anybody asks for it."""

from __future__ import annotations

import threading

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from pmflow.embedded.threads import one_thread


def numbers() -> list[int]:
    return [found["num_threads"] for found in threadpool_info() if found["user_api"] == "blas"]


def test_it_is_as_it_was_afterwards() -> None:
    with threadpool_limits(2, user_api="blas"):
        with one_thread():
            with one_thread():
                assert set(numbers()) == {1}
            assert set(numbers()) == {1}
        assert set(numbers()) == {2}
        with pytest.raises(RuntimeError, match="within"), one_thread():
            raise RuntimeError("within")
        assert set(numbers()) == {2}


def test_two_threads_that_overlap_leave_it_as_it_was() -> None:
    begun, ended = threading.Event(), threading.Event()

    def first() -> None:
        with one_thread():
            begun.set()
            ended.wait(10)

    with threadpool_limits(2, user_api="blas"):
        other = threading.Thread(target=first)
        other.start()
        begun.wait(10)
        with one_thread():  # begins within the other and ends after it
            ended.set()
            other.join(10)
        assert set(numbers()) == {2}
