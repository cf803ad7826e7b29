"""A fit that says for itself what it needs: from a Gaussian to richer flows."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pymc as pm
from numpy.typing import NDArray
from pymc.util import RandomState

from pmflow.checkpoint import Checkpoint, FitCheckpoint
from pmflow.checks import check_names
from pmflow.errors import FitWarning, NonFiniteError, ParameterError, UnsupportedError
from pmflow.family.approximation import Approximation
from pmflow.family.normalizing_flow import NormalizingFlow
from pmflow.graphs.private import seed_from
from pmflow.judging.diagnosis import Diagnosis, diagnose
from pmflow.ladder.rungs import RUNGS, AbstractRung
from pmflow.ladder.tried import Ladder, Tried
from pmflow.posterior.model import checked_model
from pmflow.records import State
from pmflow.training.option_states import OptionsState, options_state
from pmflow.training.options import FitOptions

__all__ = ["Climb", "ClimbCheckpoint", "ClimbState", "fit_automatically"]

_log = logging.getLogger("pmflow")

_NATS_PER_DIMENSION = 0.002
"""Divergence from the posterior at which the ladder ends, where the verdict is good too."""

_MORE_DRAWS = 20_000
_STARTS = 4


def fit_automatically(
    model: pm.Model | None,
    *,
    random_seed: RandomState = None,
    start: Mapping[str, Any] | None = None,
    **options: Any,
) -> Approximation:
    """Fit richer and richer families until one is good, judged at fresh draws.

    Parameters
    ----------
    model : pymc.Model or None
        Defaults to the model of the context.
    random_seed : int, Generator or RandomState, optional
    start : dict, optional
        Of the first of the starts, by variable, in constrained space.
    **options
        As of `NFVI.fit`. `restarts`, 4 by default, are starts of the Gaussian, which show modes;
        all modes are fitted and stacked. `n`, `obj_optimizer`, `combine` and `schedule` are chosen.

    Returns
    -------
    Approximation
        With `diagnosis` and `ladder`. After an interrupt, the best one so far.

    Raises
    ------
    ParameterError, BackendError
        If an argument is unknown or wrong, or one that this method chooses by itself.
    NotContinuousError
        If a free variable is discrete.

    Warns
    -----
    FitWarning
        If the best fit is not reliable, or could not be judged.
    """
    for name in ("n", "obj_optimizer", "combine", "schedule"):
        if options.get(name) is not None:
            raise ParameterError(
                f"method='auto' chooses {name} by itself. Leave {name} out, or say which flow to "
                "fit: method='nfvi=scale-loc'."
            )
    check_names(options, FitOptions.names(), "fit")
    asked = FitOptions(**{"restarts": _STARTS, **options})
    file = None
    if asked.checkpoint is not None:
        options_state(asked)  # raises where an option is in no file
        file = Checkpoint(asked.checkpoint, asked.checkpoint_every, checked_model(model))
    seed = seed_from(random_seed)
    result = Climb(checked_model(model), int(seed), start, asked).up(file)
    tell_verdict(result, stacklevel=4)
    return result


def tell_verdict(result: Approximation, stacklevel: int) -> None:
    """Warn where the best fit is not reliable, or could not be judged."""
    found, ladder = result.diagnosis, result.ladder
    if found is None:
        warnings.warn(
            "The Gaussian nearest to the posterior is returned, but how good it is was not "
            "judged: with minibatches the log density is an estimate. Compare it with a flow "
            "of your choice, pmflow.fit(method='nfvi=<formula>').",
            FitWarning,
            stacklevel=stacklevel,
        )
    elif found.verdict != "reliable":
        warnings.warn(
            f"The best of {len(ladder.rungs)} fits is {found.summary}. "
            f"{' '.join(found.reasons)}. Print approx.diagnosis for what to try.",
            FitWarning,
            stacklevel=stacklevel,
        )


@dataclass(frozen=True, eq=False)
class ClimbState(State):
    """Where a climb is before one of its rungs.

    Attributes
    ----------
    seed : int
    drawn : int
        Seeds that were drawn from it.
    start : dict of str to ndarray, or None
    number : int
        Of the rung that comes next.
    tried : tuple of Tried
    approximations : tuple of State
        What each of them gave.
    """

    seed: int
    drawn: int
    start: dict[str, NDArray[Any]] | None
    number: int
    tried: tuple[Tried, ...]
    approximations: tuple[State, ...]


@dataclass(frozen=True, eq=False)
class ClimbCheckpoint(State):
    """A climb, and the fit of the rung that it is on, where one is under way."""

    options: OptionsState
    climb: ClimbState
    fit: FitCheckpoint | None

    @property
    def approx(self) -> State:
        """The best fit so far."""
        if self.climb.tried:
            return self.climb.approximations[_best(self.climb.tried)]
        return self if self.fit is None else self.fit.approx


def _is_close(found: Diagnosis, dim: int) -> bool:
    return found.kl < _NATS_PER_DIMENSION * dim


def _best(tried: Sequence[Tried]) -> int:
    """The one of the largest ELBO."""
    elbos = [-np.inf if one.diagnosis is None else one.diagnosis.elbo for one in tried]
    return int(np.argmax(elbos))


class Climb:
    """A climb of the ladder: what was tried, and the fits that came of it.

    Parameters
    ----------
    model : pymc.Model
    seed : int
    start : mapping or None
    options : FitOptions
        What the user asked for.
    """

    def __init__(
        self, model: pm.Model, seed: int, start: Mapping[str, Any] | None, options: FitOptions
    ) -> None:
        self.model, self.options = model, options
        self.start = None if start is None else dict(start)
        self._seed, self._drawn = seed, 0
        self._rng = np.random.default_rng(seed)
        self._number = 0
        self._tried: list[Tried] = []
        self._fits: list[Approximation] = []

    @classmethod
    def from_state(cls, state: ClimbState, model: pm.Model, options: FitOptions) -> Climb:
        """The climb that was broken off."""
        return cls(model, state.seed, state.start, options)._at(state)

    def _at(self, state: ClimbState) -> Climb:
        for _ in range(state.drawn):
            self.next_seed()
        self._number, self._tried = state.number, list(state.tried)
        self._fits = [Approximation.from_state(a, self.model) for a in state.approximations]
        return self

    def to_state(self) -> ClimbState:
        """Where it is before the rung that comes next."""
        start = None if self.start is None else {k: np.asarray(v) for k, v in self.start.items()}
        return ClimbState(
            seed=self._seed,
            drawn=self._drawn,
            start=start,
            number=self._number,
            tried=tuple(self._tried),
            approximations=tuple(fit.to_state() for fit in self._fits),
        )

    @property
    def dim(self) -> int:
        """Length of the latent vector."""
        return int(self.gaussian.ddim)

    @property
    def gaussian(self) -> NormalizingFlow:
        """The Gaussian, with its starts."""
        first = self._fits[0]
        return first if isinstance(first, NormalizingFlow) else first.flow

    def next_seed(self) -> int:
        """A seed for the next thing that draws."""
        self._drawn += 1
        return int(self._rng.integers(2**30))

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
        try:
            for rung in RUNGS[self._number :]:
                if self._is_done:
                    break
                self._climb(rung, file, begun)
                begun = None
        except KeyboardInterrupt:
            if not self._fits:
                raise
            _log.warning("Interrupted; the best of the fits so far is kept.")
        else:
            if file is not None and not self._is_broken_off:
                self._keep(file, None)
        return self._taken()

    @property
    def _is_broken_off(self) -> bool:
        """Whether the last fit did not come to its own end."""
        state = self._fits[-1].fit_state
        return state is not None and state.ended in ("interrupted", "callback")

    @property
    def _is_done(self) -> bool:
        """Whether the last rung is good, or could not be judged."""
        if not self._tried:
            return False
        found = self._tried[-1].diagnosis
        if found is None or self._is_broken_off:
            return True
        return found.verdict == "reliable" and _is_close(found, self.dim)

    def _climb(
        self, rung: AbstractRung, file: Checkpoint | None, begun: FitCheckpoint | None
    ) -> None:
        began = time.perf_counter()
        if self._tried and not rung.applies(self):
            self._number += 1
            return
        if file is not None:
            self._keep(file, begun)
        try:
            approx = rung.climb(self, file, begun)
        except NonFiniteError as error:
            _log.warning("%s is left out: %s", rung.name, error)
            self._note(Tried(rung.name, None, time.perf_counter() - began), None)
            return
        found = self._judged(approx)
        self._note(Tried(rung.name, found, time.perf_counter() - began), approx)

    def _keep(self, file: Checkpoint, fit: FitCheckpoint | None) -> None:
        """Write where the climb is; the fit of the next rung is kept as a part of that."""
        here = ClimbCheckpoint(options_state(self.options), self.to_state(), fit)
        file.within(lambda state: state)
        file.keep(lambda: here, now=True)
        file.within(lambda state: replace(here, fit=state))

    def _note(self, tried: Tried, approx: Approximation | None) -> None:
        _log.info("%s", tried)
        self._number += 1
        self._tried.append(tried)
        self._fits.append(self._fits[0] if approx is None else approx)

    def _judged(self, approx: Approximation) -> Diagnosis | None:
        try:
            found = diagnose(approx, random_seed=self.next_seed())
            if found.verdict != "reliable" and _is_close(found, approx.ddim):
                # more draws cost less than a richer flow, and may be all that is missing
                found = diagnose(approx, _MORE_DRAWS, random_seed=self.next_seed())
        except UnsupportedError as error:
            _log.info("Not diagnosed: %s", error)
            return None
        return found

    def _taken(self) -> Approximation:
        """The best fit, with what was found on the way."""
        taken = _best(self._tried)
        result = self._fits[taken]
        ladder = Ladder(tuple(self._tried), taken)
        found = self._tried[taken].diagnosis
        result.receive(replace(result.report, diagnosis=found, ladder=ladder))
        return result
