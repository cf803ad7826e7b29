"""Annealing: the target moves from the start to the posterior as fast as the flow can follow."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import override

import numpy as np
from numpy.typing import NDArray

from pmflow.objectives.fresh import FreshElbo
from pmflow.records import State
from pmflow.training.course import Course, Handles

__all__ = ["Annealing", "AnnealingState", "next_share"]

_log = logging.getLogger("pmflow")

_ESS = 0.8
"""Effective sample size that the weights of the next density must keep, as a share of the draws."""

_LEAST_GAIN = 0.005


@dataclass(frozen=True)
class AnnealingState(State):
    """Where annealing is: how far the target has come, and by how many steps of its own."""

    has_begun: bool = False
    share: float = 0.0
    number: int = 0


class Annealing(Course):
    """Segments of steps with a target that moves from the start to the posterior.

    The density is ``start^(1 - t) p^t``. After each segment t grows as far as the weights of the
    next density keep an effective sample size of 80 % of the draws, as in sequential Monte Carlo
    (Del Moral et al., 2006, https://doi.org/10.1111/j.1467-9868.2006.00553.x).

    Parameters
    ----------
    ratio : FreshElbo
        Log p less the log density of the start, at fresh draws.
    seed : int
    steps : int
        Steps in each segment.
    rate : float or None
        Step size; None leaves that of the optimiser.
    """

    def __init__(
        self, ratio: FreshElbo, seed: int, steps: int = 150, rate: float | None = None
    ) -> None:
        self._ratio, self._seed, self._steps, self._rate = ratio, seed, steps, rate
        self._at = AnnealingState()

    @override
    def next(self, loop: Handles | None) -> int | None:
        """Steps with a target that is further on its way; None once they have seen its end."""
        if not self._at.has_begun:
            self._at = AnnealingState(has_begun=True)
            return 1  # the first step is that of the compilation
        assert loop is not None
        if self._at.number == 0:
            self.resume(loop)
        if self._at.share >= 1:
            return None
        number = self._at.number + 1
        share = next_share(self._at.share, self._ratio.values(self._seed + number))
        self._at = AnnealingState(has_begun=True, share=share, number=number)
        loop.set(annealed=share)
        _log.debug("annealed to %.3f", share)
        return self._steps

    @override
    def resume(self, loop: Handles) -> None:
        """Give a loop the settings of the segment that is under way."""
        if self._rate is not None:
            loop.set(learning_rate=self._rate, accumulate=1)
        if self._at.number:
            loop.set(annealed=self._at.share)

    @override
    def finish(self, loop: Handles | None) -> None:
        """Leave the posterior itself as the target, however far an interrupted fit had come."""
        if self._at.has_begun and loop is not None:
            loop.set(annealed=1.0)

    @override
    def to_state(self) -> AnnealingState:
        """Where it is, for `go_to`."""
        return self._at

    @override
    def go_to(self, state: State) -> None:
        """Go on from where it was."""
        assert isinstance(state, AnnealingState)
        self._at = state


def next_share(share: float, log_ratio: NDArray[np.float64]) -> float:
    """How far the next density may be, given log p - log start at draws of this one."""
    finite = log_ratio[np.isfinite(log_ratio)]
    if not len(finite):
        return min(1.0, share + _LEAST_GAIN)
    centred = finite - finite.max()
    low, high = 0.0, 1.0 - share
    for _ in range(40):
        middle = (low + high) / 2
        weights = np.exp(middle * centred)
        ess = weights.sum() ** 2 / (weights**2).sum() / len(log_ratio)
        low, high = (middle, high) if ess >= _ESS else (low, middle)
    gain = 1.0 - share if high > (1.0 - share) * (1 - 1e-9) else max(low, _LEAST_GAIN)
    return min(1.0, share + gain)
