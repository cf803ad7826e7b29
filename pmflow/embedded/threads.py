"""BLAS by one thread, for many short calls.

Beside the threads of JAX, those of BLAS wait for each other in a loop: on two cores a factor of 300
variables took 12 ms in place of 0.5. With 1,000 variables one thread is as quick as two.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from pmflow.watch import importing

__all__ = ["one_thread"]


class _Held:
    """How many ask for one thread now: the number of threads belongs to the process.

    Newer versions of threadpoolctl let one thread of Python change it, and ignore others.
    """

    def __init__(self) -> None:
        self._lock, self._number = threading.Lock(), 0
        self._limit: Any = None

    def enter(self) -> None:
        """The first one sets it."""
        with self._lock:
            if not self._number:
                self._limit = _controller().limit(limits=1, user_api="blas")
            self._number += 1

    def leave(self) -> None:
        """The last one sets it back."""
        with self._lock:
            self._number -= 1
            if not self._number:
                self._limit.restore_original_limits()


_held = _Held()


@cache
def _controller() -> Any:
    with importing("scipy.linalg"):
        import scipy.linalg  # noqa: F401  # its BLAS is another one than NumPy's
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it BLAS runs in the thread that calls it, in all threads of the process."""
    _held.enter()
    try:
        yield
    finally:
        _held.leave()
