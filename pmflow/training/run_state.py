"""Where a fit is between two chunks: what it needs to go on as if it had not been broken off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Keeper", "RunState"]


@dataclass(frozen=True)
class RunState:
    """Where a fit is.

    Attributes
    ----------
    seed : int
        Of the fit.
    begin, done, end : int
        Steps before this fit, so far, and at its end, over all fits of the inference.
    skipped : int
        Steps without effect so far.
    score : bool
        Whether losses are kept.
    losses : ndarray, shape (done,) or (0,)
    arrays : dict of str to ndarray
        Of the loop: parameters, optimiser, random generators (see `Loop.snapshot`).
    """

    seed: int
    begin: int
    done: int
    end: int
    skipped: int
    score: bool
    losses: NDArray[np.float64]
    arrays: dict[str, NDArray[Any]]


class Keeper(Protocol):
    """Who writes the state of a fit to a file."""

    def offer(self, take: Callable[[], RunState], ended: str | None) -> None:
        """Be told that the state can be taken now; `ended` is how the fit ended, if it did."""
