"""What was tried for a model, and what was taken."""

from __future__ import annotations

from dataclasses import dataclass

from pmflow.judging.diagnosis import Diagnosis
from pmflow.records import State

__all__ = ["Ladder", "Tried"]


@dataclass(frozen=True)
class Tried(State):
    """One family that was tried.

    Attributes
    ----------
    formula : str
    diagnosis : Diagnosis or None
        None where it could not be diagnosed.
    seconds : float
        Compilation included.
    """

    formula: str
    diagnosis: Diagnosis | None
    seconds: float

    def __str__(self) -> str:
        found = "not diagnosed" if self.diagnosis is None else self.diagnosis.summary
        return f"{self.formula} ({self.seconds:.1f} s): {found}"


@dataclass(frozen=True)
class Ladder(State):
    """The families that `pmflow.fit` tried for a model, in order, and the one it took.

    Attributes
    ----------
    rungs : tuple of Tried
    taken : int
        Index of the one that was returned.
    """

    rungs: tuple[Tried, ...]
    taken: int

    def __str__(self) -> str:
        marks = ("->" if i == self.taken else "  " for i in range(len(self.rungs)))
        return "\n".join(f"{mark} {rung}" for mark, rung in zip(marks, self.rungs, strict=True))

    __repr__ = __str__
