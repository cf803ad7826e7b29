"""What is known of an approximation beside its parameters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymc.variational.opvi import VIState

from pmflow.family.facts import facts_of
from pmflow.records import Facts, FitState, Report, Starts

__all__ = ["Reported"]

_STATE_DRAWS = 10_000


class Reported:
    """An approximation that is handed what fits have found out, as one value."""

    _report: Report

    @property
    def report(self) -> Report:
        """What is known of the approximation: how it was fitted, and how good it is."""
        return self._report

    def receive(self, report: Report) -> None:
        """Take over what a fit has found out."""
        self._report = report

    @property
    def facts(self) -> Facts:
        """What was fitted, by whom and how it ended: what advice goes by."""
        return facts_of(self)

    @property
    def hist(self) -> NDArray[np.float64]:
        """Loss of every step, shape (steps,)."""
        return self.report.hist

    @hist.setter
    def hist(self, losses: NDArray[np.float64]) -> None:
        # PyMC's own inferences set it when they end
        self.receive(replace(self.report, hist=np.asarray(losses, dtype=float)))

    @property
    def fit_state(self) -> FitState | None:
        """How training ended."""
        return self.report.fit_state

    @property
    def starts(self) -> Starts | None:
        """Whether fits from several starts agree, where there were several."""
        return self.report.starts

    @property
    def diagnosis(self) -> Any:
        """How good it is, where `pmflow.fit` has judged it; see `pmflow.diagnose`."""
        return self.report.diagnosis

    @property
    def ladder(self) -> Any:
        """What `pmflow.fit` has tried, None for other fits."""
        return self.report.ladder

    @property
    def images(self) -> int:
        """How many mirror images there are in it, with the one that was fitted."""
        return 1

    @property
    def state(self: Any) -> VIState:
        """Mean and standard deviation of each free variable in constrained space.

        Both are moments of 10,000 draws, not transforms of the unconstrained moments.
        """
        free = [rv.name for rv in self.model.free_RVs]
        posterior = self.sample(_STATE_DRAWS, var_names=free)["posterior"].to_dataset()
        return VIState(mean=posterior.mean(("chain", "draw")), std=posterior.std(("chain", "draw")))
