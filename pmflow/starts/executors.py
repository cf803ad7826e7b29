"""Work that is done somewhere else: in processes, or on machines."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pmflow.errors import ParameterError
from pmflow.watch import tick

__all__ = ["NOTHING_DONE", "Executor", "Lost", "check_executor", "done_by"]

_log = logging.getLogger("pmflow")

NOTHING_DONE = (
    "The executor has done none of its work. Each process imports your script: is what begins the "
    'work under `if __name__ == "__main__":`? And pmflow must be installed there too. The last'
)
"""What to say where nothing has arrived, before what the executor says."""

_LOOK = 0.02
"""Seconds between two looks at whether a piece of work is done, or Ctrl-C was pressed."""


class Executor(Protocol):
    """Whatever does work elsewhere: an executor of `concurrent.futures`, Dask's client, loky."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Any:
        """Begin ``fn(*args)``, and return its future."""


@dataclass(frozen=True)
class Lost:
    """What never arrived, as whoever worked on it died twice, or could not begin again.

    Attributes
    ----------
    why : str
    """

    why: str


def check_executor(executor: Any) -> None:
    """Refuse what can't do any work.

    Raises
    ------
    ParameterError
    """
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise ParameterError(
            "executor must have a method submit, as concurrent.futures.ProcessPoolExecutor, the "
            f"Client of dask.distributed and loky have, but is {executor!r:.60}."
        )


def done_by(
    executor: Executor, work: Callable[[Any], Any], pieces: Sequence[Any]
) -> Iterator[tuple[int, Any, int]]:
    """Have pieces of work done, and what is lost done once more.

    Parameters
    ----------
    executor : Executor
    work : callable
        What to do with a piece. It can be pickled, and returns its own errors: one that is raised
        is of the executor, whose worker has died.
    pieces : sequence

    Yields
    ------
    tuple of int, object and int
        The number of a piece, what came of it or `Lost`, and how often it was begun again; in the
        order of the pieces.
    """
    futures = [executor.submit(_done, work, piece, 1) for piece in pieces]
    is_told = False
    try:
        for number, future in enumerate(futures):
            found = _waited(future)
            again = 0
            if isinstance(found, Lost):
                again = 1
                # a pool that breaks loses all that it has
                say = _log.info if is_told else _log.warning
                say("Work was lost, and is begun again: %s", found.why)
                is_told = True
                try:
                    found = _waited(executor.submit(_done, work, pieces[number], 2))
                except Exception as error:  # of the executor, whatever it is
                    found = Lost(_said(error))
            yield number, found, again
    finally:
        for future in futures:
            future.cancel()


def _done(work: Callable[[Any], Any], piece: Any, attempt: int) -> Any:
    """Work on a piece. Dask takes two calls with the same arguments for one: attempts differ."""
    del attempt
    return work(piece)


def _waited(future: Any) -> Any:
    """What comes of a future; Ctrl-C is heard meanwhile."""
    while not future.done():
        time.sleep(_LOOK)
        tick()
    try:
        return future.result()
    except Exception as error:  # of the executor, whatever it is
        return Lost(_said(error))


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".split("\n")[0]
