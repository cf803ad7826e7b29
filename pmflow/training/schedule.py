"""A fit that chooses its step sizes, its draws and its end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, override

import numpy as np
from numpy.typing import NDArray

from pmflow.objectives.objective import Measure
from pmflow.records import Elbo, Ended, State
from pmflow.training.course import Course, Handles
from pmflow.training.schedule_state import ScheduleSettings, ScheduleState
from pmflow.training.settle import has_settled
from pmflow.watch import grace

__all__ = ["Schedule"]

_log = logging.getLogger("pmflow")

type Vector = NDArray[np.floating[Any]]


class Schedule(Course):
    """Segments of steps, and what is done between them.

    1. Warm-up and search: each of a few step sizes is tried from the same start with the same
       draws; the one with the best measure goes on.
    2. Stages of falling step size. A stage ends when windows of its iterates agree (R-hat), or when
       its losses have stopped falling by more than their noise. In later stages several steps make
       one, so that gradients are of more draws.
    3. After each stage the last iterate and the average over the stage are compared by the measure
       at the same draws; the fit goes on from the best state so far, and ends when a stage has
       gained less than the tolerance.

    Parameters
    ----------
    measure : Measure
    dim : int
    seed : int
        The seed of the draws that states are compared by.
    settings : ScheduleSettings, optional
    """

    def __init__(
        self, measure: Measure, dim: int, seed: int, settings: ScheduleSettings | None = None
    ) -> None:
        self._measure, self._dim, self._seed = measure, dim, seed
        self.settings = settings or ScheduleSettings()
        self._at = ScheduleState()
        self._is_finished = False

    @override
    def next(self, loop: Handles | None) -> int | None:
        """How many steps come next, None where the fit is over."""
        if self._at.phase == "begin":
            self._go(phase="search")
            return 1  # the first step is that of the compilation
        assert loop is not None
        steps: int | None = 0
        while steps == 0:
            steps = self._after[self._at.phase](self, loop)
        return steps

    @override
    def resume(self, loop: Handles) -> None:
        """Give a loop the settings of the segment that is under way."""
        if self._at.learning_rate is not None and self._at.accumulate is not None:
            loop.set(learning_rate=self._at.learning_rate, accumulate=self._at.accumulate)

    @override
    def finish(self, loop: Handles | None) -> None:
        """Put the best state so far into the loop; what an interrupt left is looked at too."""
        if self._is_finished or self._at.best is None or loop is None:
            return
        self._is_finished = True
        last = np.array(loop.params)
        try:
            if not self._at.has_converged:
                with grace():
                    self._keep_best(loop, [last, np.array(loop.average)])
        except KeyboardInterrupt:
            # no time to look at them: the losses of the last steps say how good they are
            recent = -loop.losses[-self.settings.trial :]
            if len(recent) and recent.mean() > self.best.value:
                self._go(best=last, best_weights=recent)
        loop.put(self._at.best)

    @override
    def to_state(self) -> ScheduleState:
        """Where it is, for `go_to`."""
        return self._at

    @override
    def go_to(self, state: State) -> None:
        """Go on from where it was."""
        assert isinstance(state, ScheduleState)
        self._at = state

    @property
    @override
    def ended(self) -> Ended:  # type: ignore[override]
        """Whether the last stage gained less than the tolerance."""
        return "converged" if self._at.has_converged else "limit"

    @property
    def best(self) -> Elbo:
        """The measure of the best state so far, the ELBO as a rule."""
        weights = self._at.best_weights
        return Elbo(-np.inf, np.nan) if weights is None else Elbo.of(weights)

    @property
    @override
    def message(self) -> str:  # type: ignore[override]
        """How the fit ended, in words."""
        return f"{self._measure.name} {self.best}" if np.isfinite(self.best.value) else ""

    def _go(self, **changes: Any) -> None:
        self._at = replace(self._at, **changes)

    def _set(self, loop: Handles, *, rate: float, accumulate: int) -> None:
        loop.set(learning_rate=rate, accumulate=accumulate)
        self._go(learning_rate=rate, accumulate=accumulate)

    def _search(self, loop: Handles) -> int:
        """Begin the trial of the next step size."""
        if self._at.start is None:
            loop.set(accumulate=1)  # a loop that is used again remembers its last stage
            weights, params = self._measure.values(self._seed), np.array(loop.params)
            self._go(start=params, best=params, best_weights=weights)
        loop.restart()
        loop.put(np.asarray(self._at.start))
        self._set(loop, rate=0.1 * self._rate_on_trial, accumulate=1)
        self._go(phase="warm-up")
        return max(1, round(self.settings.trial * 0.2))

    @property
    def _rate_on_trial(self) -> float:
        return self.settings.rates[len(self._at.trials)]

    def _warmed_up(self, loop: Handles) -> int:
        self._set(loop, rate=1.0 * self._rate_on_trial, accumulate=1)
        self._go(phase="trial")
        return max(1, round(self.settings.trial * 0.8))

    def _tried(self, loop: Handles) -> int:
        """Look at what a step size has reached; after the last one the best goes on."""
        value = Elbo.of(self._measure.values(self._seed)).value
        trials = (*self._at.trials, value)
        self._go(trials=trials, reached=(*self._at.reached, np.array(loop.params)))
        if len(trials) < len(self.settings.rates):
            self._go(phase="search")
            return 0
        best = int(np.argmax(trials))
        rate = self.settings.rates[best]
        self._keep_best(loop, [self._at.reached[best]])
        _log.debug("step size %g (%.4f)", rate, trials[best])
        self._go(phase="stage", rate=rate, reached=())
        return 0

    def _begin_stage(self, loop: Handles) -> int | None:
        if self._at.stage >= self.settings.stages:
            self._go(phase="over")
            self.finish(loop)
            return None
        stage = self._at.stage
        loop.restart()
        rate = self._at.rate * self.settings.decay**stage
        self._set(loop, rate=rate, accumulate=1 if stage < 2 else 2 ** min(stage - 1, 2))
        self._go(
            phase="window",
            before=self._at.best_weights,
            begun=len(loop.losses),
            iterates=(),
            **{"window": 1, "part": 0, "settled": 0},
        )
        return self._thin * loop.accumulate

    @property
    def _thin(self) -> int:
        return max(1, self.settings.window // 20)

    def _after_part(self, loop: Handles) -> int:
        """Look at the iterate; at the end of a window, whether the stage has settled."""
        at = self._at
        self._go(iterates=(*at.iterates, np.array(loop.params)), part=at.part + 1)
        if self._at.part < self.settings.window // self._thin:
            return self._thin * loop.accumulate
        settled = at.settled + 1 if self._is_settled(loop) else 0
        if settled >= self.settings.patience or at.window >= self.settings.most_windows:
            self._end_stage(loop)
            return 0
        self._go(settled=settled, window=at.window + 1, part=0)
        if self._at.window == 2:
            loop.begin_average()  # the first window is still on its way
        return self._thin * loop.accumulate

    def _is_settled(self, loop: Handles) -> bool:
        at, half = self._at, len(self._at.iterates) // 2
        if at.window < 3:
            return False
        return has_settled(
            loop.losses[at.begun :][-(at.window - 1) * self.settings.window * loop.accumulate :],
            np.stack(at.iterates[-max(half, 8) :]),
            self.settings.tolerance * self._dim,
        )

    def _end_stage(self, loop: Handles) -> None:
        self._keep_best(loop, [np.array(loop.params), np.array(loop.average)])
        gained, stage = self._gain(), self._at.stage
        _log.debug("stage %d: %s, gained %.4f", stage, self.best, gained)
        if stage >= 1 and gained < self.settings.tolerance * self._dim:
            self._go(has_converged=True, stage=self.settings.stages)
        self._go(phase="stage", stage=self._at.stage + 1)

    def _keep_best(self, loop: Handles, states: list[Vector]) -> None:
        """Take over the first of the states that is better than the best one so far."""
        for state in states:
            loop.put(state)
            weights, known = self._measure.values(self._seed), self._at.best_weights
            assert known is not None
            if weights.mean() > known.mean() or not np.isfinite(known.mean()):
                self._go(best=state, best_weights=weights)
        assert self._at.best is not None
        loop.put(self._at.best)

    def _gain(self) -> float:
        """What was gained in this stage, in nats, draw by draw."""
        before, now = self._at.before, self._at.best_weights
        if before is None or now is None or not np.isfinite(before).all():
            return np.inf
        return float((now - before).mean())

    _after: ClassVar[dict[str, Callable[..., int | None]]] = {
        "search": _search,
        "warm-up": _warmed_up,
        "trial": _tried,
        "stage": _begin_stage,
        "window": _after_part,
        "over": lambda *_: None,
    }
