"""From the start to the posterior in steps that the flow can follow."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmflow.training.fresh import FreshElbo

__all__ = ["Annealing", "next_share"]

_log = logging.getLogger("pmflow")

_ESS = 0.8
"""Of the weights from one density on the way to the next, as a share of the draws."""
_LEAST_GAIN = 0.005


@dataclass
class Annealing:
    """Segments of steps with a target that moves from the start to the posterior.

    The density is ``start^(1 - t) p^t``. After each segment t grows as far as the weights of the
    next density keep an effective sample size of 80 % of the draws, as in sequential Monte Carlo
    (Del Moral et al., 2006, https://doi.org/10.1111/j.1467-9868.2006.00553.x).

    Parameters
    ----------
    handles : callable
        Gives the handles of the loop, with `annealed`.
    ratio : FreshElbo
        Of log p to the density of the start.
    seed : int
    steps : int
        Of each segment.
    rate : float or None
        Step size; None leaves that of the optimiser.
    """

    handles: Callable[[], Any]
    ratio: FreshElbo
    seed: int
    steps: int = 150
    rate: float | None = None
    _has_begun: bool = field(default=False, init=False, repr=False)

    def segments(self) -> Iterator[int]:
        """Numbers of steps; whoever does them asks for the next one after it."""
        yield 1  # the first step is that of the compilation
        loop, share, number = self.handles(), 0.0, 0
        self._has_begun = True
        if self.rate is not None:
            loop.learning_rate, loop.accumulate = self.rate, 1
        while share < 1:
            number += 1
            share = next_share(share, self.ratio.log_weights(self.seed + number))
            loop.annealed = share
            _log.debug("annealed to %.3f", share)
            yield self.steps

    def finish(self) -> None:
        """Leave the posterior itself as the target, however far an interrupted fit had come."""
        if self._has_begun:
            self.handles().annealed = 1.0


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
