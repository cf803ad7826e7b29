"""What decides how many steps a fit does, and what is done between them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, override

import numpy as np
from numpy.typing import NDArray

from pmflow.records import Ended, State

__all__ = ["Course", "CourseState", "Handles", "InTurn", "Steps", "StepsState"]

type Vector = NDArray[np.floating[Any]]


class Handles(Protocol):
    """What a course takes hold of: a compiled loop's state, and its losses."""

    @property
    def params(self) -> Vector:
        """The trained parameters, shape (size,)."""

    @property
    def accumulate(self) -> int:
        """Steps whose mean gradient makes one step of the parameters."""

    def put(self, params: Vector) -> None:
        """Go on from other parameters."""

    def set(self, **handles: float) -> None:
        """Set ``learning_rate``, ``accumulate`` or ``annealed``: see `optimizers.SteadyAdam`."""

    @property
    def average(self) -> Vector:
        """Mean of the iterates since `begin_average`."""

    @property
    def losses(self) -> NDArray[np.float64]:
        """Losses of all steps so far."""

    def restart(self) -> None:
        """Give the optimiser its first state, and the draws their first seed."""

    def begin_average(self) -> None:
        """Forget the iterates so far."""


class Course(ABC):
    """Decides after each segment of steps what comes next.

    Where it is, is a state: a fit that is broken off goes on from it.
    """

    message: str = ""
    """How it ended, in words."""

    ended: Ended = "steps"
    """How a fit ends that has done all steps."""

    @abstractmethod
    def next(self, loop: Handles | None) -> int | None:
        """How many steps come next, None where it is over.

        The loop is looked at and changed; there is none before the first steps.
        """

    def resume(self, loop: Handles) -> None:  # noqa: B027 - most have nothing to do
        """Give a loop the settings of the segment that is under way."""

    def finish(self, loop: Handles | None) -> None:  # noqa: B027
        """Leave the loop in a state to stay in, also where the fit was broken off."""

    @abstractmethod
    def to_state(self) -> State:
        """Where it is, for `go_to`."""

    @abstractmethod
    def go_to(self, state: State) -> None:
        """Go on from where it was."""


@dataclass(frozen=True)
class StepsState(State):
    """Whether the steps were given out."""

    is_given: bool = False


class Steps(Course):
    """A number of steps, at once.

    Parameters
    ----------
    n : int
    """

    def __init__(self, n: int) -> None:
        self._n, self._at = n, StepsState()

    @override
    def next(self, loop: Handles | None) -> int | None:
        """All steps, once."""
        if self._at.is_given:
            return None
        self._at = StepsState(is_given=True)
        return self._n

    @override
    def to_state(self) -> StepsState:
        """Where it is, for `go_to`."""
        return self._at

    @override
    def go_to(self, state: State) -> None:
        """Go on from where it was."""
        assert isinstance(state, StepsState)
        self._at = state


@dataclass(frozen=True, eq=False)
class CourseState(State):
    """Where courses in turn are."""

    place: int
    parts: tuple[State, ...]


class InTurn(Course):
    """Courses one after the other.

    Parameters
    ----------
    parts : sequence of Course
    """

    def __init__(self, parts: Sequence[Course]) -> None:
        self._parts, self._place = list(parts), 0

    @override
    def next(self, loop: Handles | None) -> int | None:
        """What the course says whose turn it is."""
        while self._place < len(self._parts):
            steps = self._parts[self._place].next(loop)
            if steps is not None:
                return steps
            self._place += 1
        return None

    @override
    def resume(self, loop: Handles) -> None:
        """Resume the parts so far, in their order."""
        for part in self._parts[: self._place + 1]:
            part.resume(loop)

    @override
    def finish(self, loop: Handles | None) -> None:
        """Finish all parts."""
        for part in self._parts:
            part.finish(loop)

    @property
    @override
    def message(self) -> str:  # type: ignore[override]
        """The message of the last part."""
        return self._parts[-1].message

    @property
    @override
    def ended(self) -> Ended:  # type: ignore[override]
        """How the last part ended."""
        return self._parts[-1].ended

    @override
    def to_state(self) -> CourseState:
        """Where it is, for `go_to`."""
        return CourseState(self._place, tuple(part.to_state() for part in self._parts))

    @override
    def go_to(self, state: State) -> None:
        """Go on from where it was."""
        assert isinstance(state, CourseState)
        self._place = state.place
        for part, kept in zip(self._parts, state.parts, strict=True):
            part.go_to(kept)
