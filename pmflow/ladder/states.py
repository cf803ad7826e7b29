"""Where a climb is, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from pmflow.inference.checkpoint import FitCheckpoint
from pmflow.ladder.mirrors import WhichImages
from pmflow.ladder.tried import Tried, best_of
from pmflow.records import State
from pmflow.training.option_states import OptionsState

__all__ = ["ClimbCheckpoint", "ClimbState"]


@dataclass(frozen=True, eq=False)
class ClimbState(State):
    """Where a climb is before one of its rungs.

    Attributes
    ----------
    seed : int
    drawn : int
        How many seeds were drawn from it.
    start : dict of str to ndarray, or None
    symmetry : {"all", "one"}
        Which mirror images are returned.
    number : int
        The number of the rung that comes next.
    tried : tuple of Tried
    approximations : tuple of State or None
        What each of them gave; None where it was left out.
    """

    seed: int
    drawn: int
    start: dict[str, NDArray[Any]] | None
    symmetry: WhichImages
    number: int
    tried: tuple[Tried, ...]
    approximations: tuple[State | None, ...]


@dataclass(frozen=True, eq=False)
class ClimbCheckpoint(State):
    """A climb, and the fit of the rung that it is on, where one is under way."""

    options: OptionsState
    climb: ClimbState
    fit: FitCheckpoint | None

    @property
    def approx(self) -> State:
        """The best fit so far."""
        best = self.climb.approximations[best_of(self.climb.tried)] if self.climb.tried else None
        if best is not None:
            return best
        return self if self.fit is None else self.fit.approx
