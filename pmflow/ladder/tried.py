"""What was tried for a model, and what was taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
from numpy.typing import NDArray

from pmflow.judging.diagnosis import Diagnosis
from pmflow.judging.html import html_table
from pmflow.judging.verdict import ESS_RELIABLE
from pmflow.judging.weights import NEARLY_EQUAL
from pmflow.records import State

__all__ = ["Ladder", "Tried", "best_of", "distance_of", "is_close", "least_elbo", "may_be_reliable"]

_NATS_PER_DIMENSION = 0.002
"""Divergence from the posterior at which the ladder ends, where the verdict is good too: it does as
well where the weights are nearly equal."""
_RECENT = 60
"""Losses that say what the ELBO is at the end of a fit."""


@dataclass(frozen=True)
class Tried(State):
    """One family that was tried.

    Attributes
    ----------
    formula : str
    diagnosis : Diagnosis or None
        None where it could not be diagnosed, or was left out.
    seconds : float
        Compilation included.
    left_out : str
        Why it is no fit of its own; empty where it is one.
    """

    formula: str
    diagnosis: Diagnosis | None
    seconds: float
    left_out: str = ""

    def __str__(self) -> str:
        return f"{self.formula} ({self.seconds:.1f} s): {self.found}"

    @property
    def found(self) -> str:
        """What came of it, in one line."""
        known = None if self.diagnosis is None else self.diagnosis.summary
        return known or self.left_out or "not diagnosed"


@dataclass(frozen=True)
class Ladder(State):
    """The families that `pmflow.fit` tried for a model, in order, and the one it took.

    Attributes
    ----------
    rungs : tuple of Tried
    taken : int
        Index of the one that was returned.
    times : dict of str to float
        Seconds of each stage of the work, over all of them.
    """

    rungs: tuple[Tried, ...]
    taken: int
    times: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        marks = ("->" if i == self.taken else "  " for i in range(len(self.rungs)))
        lines = [f"{mark} {rung}" for mark, rung in zip(marks, self.rungs, strict=True)]
        return "\n".join([*lines, *([f"   {self.shown_times}"] if self.shown_times else [])])

    __repr__ = __str__

    @property
    def shown_times(self) -> str:
        """The longest stages first, of a tenth of a second at least."""
        longest = sorted(self.times.items(), key=lambda item: -item[1])
        return ", ".join(f"{name.lower()} {s:.1f} s" for name, s in longest if s >= 0.1)

    def _repr_html_(self) -> str:
        """For a notebook, to be opened."""
        rows = [
            ("→" if i == self.taken else "", one.formula, f"{one.seconds:.1f}", one.found)
            for i, one in enumerate(self.rungs)
        ]
        table = html_table(rows, ("", "tried", "seconds", "found"))
        return (
            '<details style="color: inherit">'
            f"<summary>{len(rows)} tried: {escape(self.shown_times)}</summary>{table}</details>"
        )


def best_of(tried: Sequence[Tried]) -> int:
    """The reliable one of the largest ELBO, or of all if none is; the later one of two equal ones.

    What was left out comes last.
    """

    def rank(number: int) -> tuple[bool, bool, float, int]:
        one = tried[number]
        found = one.diagnosis
        if found is None:
            return False, not one.left_out, -np.inf, number
        return found.verdict == "reliable", True, found.elbo, number

    return max(range(len(tried)), key=rank)


def distance_of(flows: Sequence[Tried], tried: Sequence[Tried]) -> float:
    """Nats from the best of some flows to the largest log evidence known; 0 without either."""
    elbo = [one.diagnosis.elbo for one in flows if one.diagnosis is not None]
    evidence = [one.diagnosis.log_evidence for one in tried if one.diagnosis is not None]
    elbo, evidence = (list(filter(np.isfinite, numbers)) for numbers in (elbo, evidence))
    return max(evidence) - max(elbo) if elbo and evidence else 0.0


def is_close(found: Diagnosis, dim: int) -> bool:
    """Whether a fit is so near to the posterior that no other is tried."""
    return found.kl < _NATS_PER_DIMENSION * dim or found.ess > NEARLY_EQUAL


def may_be_reliable(found: Diagnosis, dim: int) -> bool:
    """Whether a fit that is not judged reliable may be so by smaller errors."""
    return found.verdict != "reliable" and found.ess > ESS_RELIABLE and is_close(found, dim)


def least_elbo(losses: NDArray[np.float64]) -> float:
    """What the ELBO is at least by the last losses of a fit; -inf if there are few."""
    recent = -losses[-_RECENT:]
    if len(recent) < _RECENT:
        return -np.inf
    return float(recent.mean() - 2 * recent.std() / _RECENT**0.5)
