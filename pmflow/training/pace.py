"""How many steps go into one call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = ["Pace", "is_due", "next_due"]

_CHUNK_SECONDS, _LONGEST = 0.2, 1.0
_BETWEEN = 9.0
"""Seconds of a chunk for each that is spent between two, where millions of parameters are shown."""
_FEW = 16
"""Steps of a chunk, up to which much of its time is what a call costs: such a chunk is longer."""
_FASTEST_GROWTH = 8


def _period(callback: Callable[..., Any]) -> int:
    """Steps from one call of a callback to the next; 0 for one that watches nothing itself."""
    if getattr(callback, "is_recorded", False):
        return 0
    every = getattr(callback, "every", 1)
    return every if isinstance(every, int) and every >= 1 else 1


def next_due(step: int, first: int, callbacks: Sequence[Callable[..., Any]]) -> int | None:
    """The next step after `step` at which a callback is due; None if none ever is.

    Parameters
    ----------
    step : int
        Steps done so far, over all fits.
    first : int
        The first step of this fit: a callback with `every` is called there too, because PyMC's
        `CheckParametersConvergence` takes what it compares with from its first call.
    callbacks : sequence of callable
    """
    periods = [period for callback in callbacks if (period := _period(callback))]
    if not periods:
        return None
    return first if step < first else min((step // p + 1) * p for p in periods)


def is_due(callback: Callable[..., Any], step: int, first: int) -> bool:
    """Whether a callback is to be called after `step`."""
    period = _period(callback)
    return period > 0 and (step == first or step % period == 0)


class Pace:
    """Chunks of about a fifth of a second, so that progress moves and Ctrl-C is answered.

    Up to a second where they would be of few steps, or what is done between them takes long.
    """

    def __init__(self) -> None:
        self._steps = 1
        self._ended: float | None = None

    @property
    def steps(self) -> int:
        """Steps that the next chunk may have."""
        return self._steps

    @contextmanager
    def measure(self, steps: int) -> Iterator[None]:
        """Time a chunk of `steps` steps, and choose the length of the next one by it."""
        began = time.perf_counter()
        between = 0.0 if self._ended is None else began - self._ended
        yield
        self._ended = time.perf_counter()
        seconds = max(self._ended - began, 1e-6)
        wanted = min(max(_CHUNK_SECONDS, _BETWEEN * between), _LONGEST)
        few = min(_FEW, int(steps * _LONGEST / seconds))
        fitting = max(int(steps * wanted / seconds), few)
        # a short chunk says little about a long one: what each call costs hides what steps cost
        self._steps = max(1, min(fitting, _FASTEST_GROWTH * max(steps, 1)))
