"""Fits of one model to many sets of data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, overload, override

from pmflow.errors import UnsupportedError
from pmflow.family.approximation import Approximation
from pmflow.judging.diagnosis import Diagnosis
from pmflow.ladder.again import Refitted
from pmflow.posterior.own_data import OwnData, Values

__all__ = ["Refits", "verdicts_of"]


class Refits(Sequence[Approximation]):
    """Fits of one model to many sets of data, as `pmflow.refit` returns them.

    A sequence: ``fits[3]`` is an approximation of a model of its own, with the fourth set of data.
    It is made when it is asked for; what all need is held.

    Parameters
    ----------
    first : Approximation
    datasets : sequence of dict of str to ndarray
    found : sequence of Refitted
    retried : int

    Attributes
    ----------
    diagnoses : tuple of Diagnosis or None
        None where there is no fit, or it was not judged.
    failures : dict of int to str
        By the number of the set of data, why there is no fit.
    retried : int
        How many were begun again, as a worker had died.
    """

    def __init__(
        self,
        first: Approximation,
        datasets: Sequence[Values],
        found: Sequence[Refitted],
        retried: int = 0,
    ) -> None:
        self._first, self._datasets, self._found = first, list(datasets), list(found)
        self.diagnoses: tuple[Diagnosis | None, ...] = tuple(map(_diagnosis, found))
        self.failures = {k: one.why_not for k, one in enumerate(found) if one.state is None}
        self.retried = retried

    @property
    def verdicts(self) -> tuple[str, ...]:
        """That of each: as of `Diagnosis`, ``'not judged'`` or ``'failed'``."""
        return verdicts_of(self._found)

    @override
    def __len__(self) -> int:
        return len(self._found)

    @overload
    def __getitem__(self, index: int) -> Approximation: ...

    @overload
    def __getitem__(self, index: slice) -> list[Approximation]: ...

    @override
    def __getitem__(self, index: int | slice) -> Approximation | list[Approximation]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        one, values = self._found[index], self._datasets[index]
        if one.state is None:
            raise UnsupportedError(f"There is no fit of this set of data: {one.why_not}")
        data = OwnData(self._first.model, list(values))
        data.set(values)
        made: Approximation = Approximation.from_state(one.state, data.model)
        return made

    @override
    def __repr__(self) -> str:
        counts = ", ".join(f"{n} {verdict}" for verdict, n in Counter(self.verdicts).most_common())
        again = f"; {self.retried} begun again" if self.retried else ""
        return f"{len(self)} fits: {counts}{again}"


def verdicts_of(found: Sequence[Refitted]) -> tuple[str, ...]:
    """That of each fit: as of `Diagnosis`, ``'not judged'`` or ``'failed'``."""
    return tuple(map(_verdict, found))


def _verdict(one: Refitted) -> str:
    diagnosis = _diagnosis(one)
    if one.state is None:
        return "failed"
    return "not judged" if diagnosis is None else diagnosis.verdict


def _diagnosis(one: Refitted) -> Diagnosis | None:
    report: Any = getattr(one.state, "report", None)
    found: Diagnosis | None = report and report.diagnosis
    return found
