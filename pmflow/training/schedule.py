"""A fit that chooses its step sizes, its draws and its end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pmflow.training.fresh import Elbo, FreshElbo, summarize
from pmflow.training.settle import has_settled

__all__ = ["Handles", "Schedule", "Settings"]

_log = logging.getLogger("pmflow")

type Vector = NDArray[np.floating]


class Handles(Protocol):
    """What a schedule takes hold of: a compiled loop's state, and its losses."""

    params: Vector
    learning_rate: float
    accumulate: int

    @property
    def average(self) -> Vector: ...  # noqa: D102
    @property
    def losses(self) -> NDArray[np.float64]: ...  # noqa: D102

    def restart(self) -> None: ...  # noqa: D102
    def begin_average(self) -> None: ...  # noqa: D102


@dataclass(frozen=True)
class Settings:
    """What the schedule may do.

    Attributes
    ----------
    rates : tuple of float
        Step sizes that are tried at the beginning.
    trial : int
        Steps of each trial.
    window : int
        Steps after which a stage is looked at.
    most_windows : int
        Of a stage.
    decay : float
        Step size of a stage over that of the one before.
    stages : int
        At most.
    tolerance : float
        Nats per dimension that a stage must gain to be followed by another.
    patience : int
        Times in a row that a stage must look settled to end.
    """

    rates: tuple[float, ...] = (0.03, 0.01, 0.003)
    trial: int = 60
    window: int = 200
    most_windows: int = 25
    decay: float = 0.3
    stages: int = 6
    tolerance: float = 2e-4
    patience: int = 2


@dataclass
class Schedule:
    """Segments of steps, and what is done between them.

    1. Warm-up and search: each of a few step sizes is tried from the same start with the same
       draws; the one with the best fresh ELBO goes on.
    2. Stages of falling step size. A stage ends when windows of its iterates agree (R-hat), or when
       its losses have stopped falling by more than their noise. In later stages several steps make
       one, so that gradients are of more draws.
    3. After each stage the last iterate and the average over the stage are compared by the ELBO at
       the same fresh draws; the fit goes on from the best state so far, and ends when a stage has
       gained less than the tolerance.

    Parameters
    ----------
    handles : callable
        Gives the `Handles` of the loop, once there is one.
    elbo : FreshElbo
    dim : int
    seed : int
        Of the fresh draws.
    settings : Settings

    Attributes
    ----------
    best : Elbo
        Of the state that the fit ended with.
    has_converged : bool
    """

    handles: Callable[[], Handles]
    elbo: FreshElbo
    dim: int
    seed: int
    settings: Settings = field(default_factory=Settings)

    best: Elbo = field(default=Elbo(-np.inf, np.nan), init=False)
    has_converged: bool = field(default=False, init=False)
    _is_finished: bool = field(default=False, init=False, repr=False)

    def segments(self) -> Iterator[int]:
        """Numbers of steps to do; whoever does them asks for the next one after it."""
        yield 1  # the first step is that of the compilation
        loop = self.handles()
        loop.accumulate = 1  # a loop that is used again remembers its last stage
        self._params = np.array(loop.params)
        self._weights = self.elbo.log_weights(self.seed)
        rate = yield from self._search(loop)
        for stage in range(self.settings.stages):
            before = self._weights
            loop.restart()
            loop.learning_rate = rate * self.settings.decay**stage
            loop.accumulate = 1 if stage < 2 else 2 ** min(stage - 1, 2)
            yield from self._stage(loop)
            self._keep_best(loop, [np.array(loop.params), np.array(loop.average)])
            gained = self._gain(before)
            _log.debug("stage %d: ELBO %s, gained %.4f", stage, summarize(self._weights), gained)
            if stage >= 1 and gained < self.settings.tolerance * self.dim:
                self.has_converged = True
                break
        self.finish()

    @property
    def message(self) -> str:
        """How the fit ended, in words."""
        return f"ELBO {self.best}" if np.isfinite(self.best.value) else ""

    def finish(self) -> None:
        """Put the best state so far into the loop; what an interrupt left is looked at too."""
        if self._is_finished or not hasattr(self, "_weights"):
            return
        loop, self._is_finished = self.handles(), True
        try:
            if not self.has_converged:
                self._keep_best(loop, [np.array(loop.params), np.array(loop.average)])
        except KeyboardInterrupt:
            _log.warning("Interrupted again; the steps of the last stage are lost.")
        loop.params = self._params
        self.best = summarize(self._weights)

    def _search(self, loop: Handles) -> Generator[int, None, float]:
        start, found = np.array(loop.params), []
        for rate in self.settings.rates:
            loop.restart()
            loop.params = start
            for share in (0.1, 1.0):  # warm-up: the first fifth at a tenth of the rate
                loop.learning_rate = share * rate
                yield max(1, round(self.settings.trial * (0.2 if share < 1 else 0.8)))
            state = np.array(loop.params)
            found.append((summarize(self.elbo.log_weights(self.seed)).value, rate, state))
        value, rate, state = max(found, key=lambda item: item[0])
        self._keep_best(loop, [state])
        _log.debug("step size %g (ELBO %.4f)", rate, value)
        return rate

    def _stage(self, loop: Handles) -> Iterator[int]:
        thin = max(1, self.settings.window // 20)
        iterates: list[Vector] = []
        before, settled = len(loop.losses), 0
        for window in range(1, self.settings.most_windows + 1):
            if window == 2:
                loop.begin_average()  # the first window is still on its way
            for _ in range(self.settings.window // thin):
                yield thin * loop.accumulate
                iterates.append(np.array(loop.params))
            half = len(iterates) // 2
            is_settled = window >= 3 and has_settled(
                loop.losses[before:][-(window - 1) * self.settings.window * loop.accumulate :],
                np.stack(iterates[-max(half, 8) :]),
                self.settings.tolerance * self.dim,
            )
            settled = settled + 1 if is_settled else 0
            if settled >= self.settings.patience:
                return

    def _keep_best(self, loop: Handles, states: list[Vector]) -> None:
        """Take over the first of the states that is better than the best one so far."""
        for state in states:
            loop.params = state
            weights = self.elbo.log_weights(self.seed)
            if weights.mean() > self._weights.mean() or not np.isfinite(self._weights.mean()):
                self._params, self._weights = state, weights
        loop.params = self._params

    def _gain(self, before: NDArray[np.float64]) -> float:
        """ELBO gained since, in nats, draw by draw."""
        if not np.isfinite(before).all():
            return np.inf
        return float((self._weights - before).mean())
