"""A fit that says for itself what it needs: from a Gaussian to richer flows."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pymc as pm

from pmflow.embedded.globals import Held
from pmflow.errors import NonFiniteError
from pmflow.family.approximation import Approximation
from pmflow.family.normalizing_flow import NormalizingFlow
from pmflow.family.stack import Stack
from pmflow.inference.checkpoint import Checkpoint, FitCheckpoint
from pmflow.judging.diagnosis import Diagnosis
from pmflow.ladder.backend import as_asked
from pmflow.ladder.judged import judged
from pmflow.ladder.mirrors import Mirrors, WhichImages
from pmflow.ladder.rung import AbstractRung, NothingGained
from pmflow.ladder.rungs import RUNGS
from pmflow.ladder.states import ClimbCheckpoint, ClimbState
from pmflow.ladder.tried import Ladder, Tried, best_of, distance_of, is_close, least_elbo
from pmflow.training.option_states import options_state
from pmflow.training.options import FitOptions
from pmflow.watch import Stopped, Watch, grace, watching

__all__ = ["Climb"]

_log = logging.getLogger("pmflow")

_FIT_SHARE, _SHARE_TO_TRY = 0.75, 0.5
"""Of what is left of a budget that a rung may use, the rest is for judging what it fits; and that
one may use of which a fit may not come, while there is none."""
_MOST_TO_JUDGE = 5.0
"""Seconds that are kept for judging where the rung before was judged in fewer: a flow is compiled
for it first."""


class Climb:
    """A climb of the ladder: what was tried, and the fits that came of it.

    Parameters
    ----------
    model, seed, start, options
        What the user asked for.
    symmetry : {"all", "one"}
        Which mirror images are returned where the posterior has some.
    rungs : sequence of AbstractRung, optional
        What is tried, `RUNGS` by default.
    """

    def __init__(
        self,
        model: pm.Model,
        seed: int,
        start: Mapping[str, Any] | None,
        options: FitOptions,
        symmetry: WhichImages = "all",
        rungs: Sequence[AbstractRung] | None = None,
    ) -> None:
        self.model, self.options, self._rungs = model, options, rungs or RUNGS
        self.start = None if start is None else dict(start)
        self._seed, self._drawn = seed, 0
        self._rng = np.random.default_rng(seed)
        self._number = 0
        self._tried: list[Tried] = []
        self._fits: list[Approximation | None] = []  # None where nothing was fitted
        self._seconds_to_judge = 0.0
        self.mirrors = Mirrors(symmetry, seed)
        self._structure: Held | None = None

    @classmethod
    def from_state(
        cls,
        state: ClimbState,
        model: pm.Model,
        options: FitOptions,
        rungs: Sequence[AbstractRung] | None = None,
    ) -> Climb:
        """The climb that was broken off."""
        return cls(model, state.seed, state.start, options, state.symmetry, rungs)._at(state)

    def _at(self, state: ClimbState) -> Climb:
        for _ in range(state.drawn):
            self.next_seed()
        self._number, self._tried = state.number, list(state.tried)
        self._fits = [
            None if a is None else Approximation.from_state(a, self.model)
            for a in state.approximations
        ]
        return self

    def to_state(self) -> ClimbState:
        """Where it is before the rung that comes next."""
        start = None if self.start is None else {k: np.asarray(v) for k, v in self.start.items()}
        return ClimbState(
            seed=self._seed,
            drawn=self._drawn,
            start=start,
            symmetry=self.mirrors.asked,
            number=self._number,
            tried=tuple(self._tried),
            approximations=tuple(fit and fit.to_state() for fit in self._fits),
        )

    @cached_property
    def dim(self) -> int:
        """Length of the latent vector."""
        point = self.model.initial_point()
        return sum(np.size(point[value.name]) for value in self.model.value_vars)

    @property
    def has_structured(self) -> bool:
        """Whether there is a fit that goes by which variables meet."""
        return any(fit is not None and fit.is_nested for fit in self._fits)

    @property
    def gaussian(self) -> NormalizingFlow:
        """The Gaussian, with its starts."""
        found = next(fit for fit in self._fits if isinstance(fit, NormalizingFlow | Stack))
        return found if isinstance(found, NormalizingFlow) else found.flow

    @property
    def best(self) -> tuple[Approximation, Diagnosis | None]:
        """The best of the fits so far."""
        best = best_of(self._tried)
        fit = self._fits[best]
        assert fit is not None
        return fit, self._tried[best].diagnosis

    @property
    def distance(self) -> float:
        """Nats from the best flow so far to the posterior, by the largest evidence known; or 0."""
        pairs = zip(self._tried, self._fits, strict=True)
        flows = [tried for tried, fit in pairs if fit is not None and not fit.is_nested]
        return distance_of(flows, self._tried)

    def next_seed(self) -> int:
        """A seed for the next thing that draws."""
        self._drawn += 1
        return int(self._rng.integers(2**30))

    def structure(self, read: Callable[[], Held]) -> Held:
        """Which variables meet: read by the first rung that asks."""
        if self._structure is None:
            self._structure = read()
        return self._structure

    def up(
        self, file: Checkpoint | None = None, begun: FitCheckpoint | None = None
    ) -> Approximation:
        """Climb until a rung is good, and return the best fit.

        Parameters
        ----------
        file : Checkpoint, optional
            Where the climb is kept.
        begun : FitCheckpoint, optional
            Where the fit of the rung that comes next was broken off.
        """
        with as_asked(self.options) as watch:
            try:
                for rung in self._rungs[self._number :]:
                    if self._is_done(watch):
                        break
                    self._climb(rung, file, begun, watch)
                    begun = None
            except KeyboardInterrupt:
                if not any(self._fits):
                    raise
                _log.warning("Stopped; the best of the fits so far is kept.")
            else:
                if file is not None and not self._is_broken_off and self._why(watch) is None:
                    self._keep(file, None)
            return self._taken(watch)

    @property
    def _is_broken_off(self) -> bool:
        """Whether the last fit did not come to its own end."""
        last = self._fits[-1]
        state = None if last is None else last.fit_state
        return state is not None and state.ended in ("interrupted", "callback")

    def _why(self, watch: Watch) -> Literal["interrupted", "time"] | None:
        """Why the climb is to end, where a further fit could not be judged any more too."""
        return watch.why or ("time" if watch.left < self._seconds_to_judge else None)

    def _is_done(self, watch: Watch) -> bool:
        """Whether the last rung is good, or could not be judged, or no time is left."""
        if not any(self._fits):
            return False
        if self._why(watch) is not None:
            return True
        found = self._tried[-1].diagnosis
        last = self._fits[-1]
        if last is None or self._tried[-1].left_out:
            return False
        if found is None or self._is_broken_off:
            return True
        is_good = last.is_resampled or last.is_nested or is_close(found, self.dim)
        return found.verdict == "reliable" and is_good

    def _climb(
        self,
        rung: AbstractRung,
        file: Checkpoint | None,
        begun: FitCheckpoint | None,
        watch: Watch,
    ) -> None:
        began = time.perf_counter()
        if not rung.applies(self):
            self._number += 1
            return
        if file is not None:
            self._keep(file, begun)
        try:
            seconds = self._seconds_for(rung, watch.left)
            with watching(seconds=seconds, is_needed=rung.is_needed):
                approx = rung.climb(self, file, begun)
        except NonFiniteError as error:
            _log.warning("%s is left out: %s", rung.name, error)
            self._leave_out(rung, began, "can't be fitted")
            return
        except NothingGained as error:
            self._leave_out(rung, began, str(error))
            return
        if approx.fit_state is not None:
            state = replace(approx.fit_state, by="fit")
            approx.receive(replace(approx.report, fit_state=state))
        found = approx.diagnosis if approx.is_resampled else self._judged(approx)
        self._note(Tried(rung.name, found, time.perf_counter() - began), approx)

    def _seconds_for(self, rung: AbstractRung, left: float) -> float:
        """What a rung may use of the seconds that are left, so that its fit can be judged."""
        if not any(self._fits):
            return (_FIT_SHARE if rung.is_needed else _SHARE_TO_TRY) * left
        kept = min((1 - _FIT_SHARE) * left, _MOST_TO_JUDGE)
        return left - max(self._seconds_to_judge, kept)

    def _keep(self, file: Checkpoint, fit: FitCheckpoint | None) -> None:
        """Write where the climb is; the fit of the next rung is kept as a part of that."""
        here = ClimbCheckpoint(options_state(self.options), self.to_state(), fit)
        file.within(lambda state: state)
        file.keep(lambda: here, now=True)
        file.within(lambda state: replace(here, fit=state))

    def _leave_out(self, rung: AbstractRung, began: float, why: str) -> None:
        self._note(Tried(rung.name, None, time.perf_counter() - began, why), None)

    def _note(self, tried: Tried, approx: Approximation | None) -> None:
        _log.info("%s", tried)
        self._number += 1
        self._tried.append(tried)
        self._fits.append(approx)

    def _judged(self, approx: Approximation) -> Diagnosis | None:
        began = time.perf_counter()
        found = judged(approx, self.mirrors, self.next_seed)
        if found is not None:
            self._seconds_to_judge = 2 * (time.perf_counter() - began)
        return found

    def _taken(self, watch: Watch) -> Approximation:
        """The best fit, with what was found on the way."""
        why = self._why(watch)
        taken = best_of(self._tried)
        if why and len(self._tried) > 1 and self._tried[-1].diagnosis is None:
            last = self._fits[-1]
            least = -np.inf if last is None else least_elbo(last.hist)
            judged = self._tried[taken].diagnosis
            if judged is not None and least > judged.elbo:  # there was no time to judge it
                taken = len(self._tried) - 1
        fit = self._fits[taken]
        assert fit is not None
        result = fit
        with suppress(Stopped), grace():  # after a stop there may be no time to look for images
            result = self.mirrors.whole(fit)
        ladder = Ladder(tuple(self._tried), taken, dict(watch.times))
        found = self._tried[taken].diagnosis
        state = result.fit_state
        if why and state is not None:
            state = replace(state, ended=why)
            found = found and replace(found, fit_state=state)
        report = replace(result.report, fit_state=state, diagnosis=found, ladder=ladder)
        result.receive(report)
        return result
