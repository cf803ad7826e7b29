"""Where a fit is between two chunks: what it needs to go on as if it had not been broken off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pmflow.errors import ParameterError
from pmflow.records import FitState, State
from pmflow.training.loops.loop import LoopState

__all__ = ["Keeper", "RunState"]


@dataclass(frozen=True, eq=False)
class RunState(State):
    """Where a fit is.

    Attributes
    ----------
    seed : int
        The seed of the fit.
    begin, done, end : int
        Steps before this fit, so far, and at the end of the segment that is under way, over all
        fits of the inference.
    skipped : int
        Steps without effect so far.
    losses : ndarray, shape (done,) or (0,)
    loop : LoopState
    course : State
        State of what decides about the steps.
    """

    seed: int
    begin: int
    done: int
    end: int
    skipped: int
    losses: NDArray[np.float64]
    loop: LoopState
    course: State

    def __post_init__(self) -> None:
        if not 0 <= self.begin <= self.done <= self.end or min(self.seed, self.skipped) < 0:
            raise ParameterError("the numbers of steps are none")
        if self.losses.ndim != 1:
            raise ParameterError("the losses are no list")


class Keeper(Protocol):
    """Who writes the state of a fit to a file."""

    def offer(self, take: Callable[[], RunState | None], ended: FitState | None) -> Any:
        """Be told that the state can be taken now; `ended` is how the fit ended, if it did."""
