"""An executor for tests: it does the work at once, and some of its workers die."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any


class InPlace(Executor):
    """Does the work at once.

    Parameters
    ----------
    lost : iterable of int
        Which pieces of work are lost, in the order in which they are begun.
    """

    def __init__(self, *lost: int) -> None:
        self.begun, self._lost = 0, lost

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if self.begun in self._lost:
            future.set_exception(RuntimeError("killed\nby someone"))
        else:
            future.set_result(fn(*args, **kwargs))
        self.begun += 1
        return future
