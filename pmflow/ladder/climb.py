"""A fit that says for itself what it needs: from a Gaussian to richer flows."""

from __future__ import annotations

import importlib.util
import inspect
import logging
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pymc as pm
from pymc.util import RandomState, _get_seeds_per_chain

from pmflow.checks import checked_count
from pmflow.errors import FitWarning, NonFiniteError, ParameterError, UnsupportedError
from pmflow.family.approximation import Approximation, NormalizingFlow
from pmflow.inference import NFVI
from pmflow.judging.diagnosis import Diagnosis, diagnose
from pmflow.posterior.model import checked_model
from pmflow.records import FitState
from pmflow.starts.restarts import fit_from_starts
from pmflow.training.options import MORE, check_fit_arguments
from pmflow.training.schedule import Settings

__all__ = ["Ladder", "Rung", "fit_automatically"]

_log = logging.getLogger("pmflow")

_NATS_A_DIMENSION = 0.002
"""Divergence from the posterior at which the ladder ends, where the verdict is good too."""

_QUICK_STEP = 0.03
"""Seconds of a gradient in NumPy up to which no machine code is worth its compilation."""

_MORE_DRAWS = 20_000
_JITTER = 0.01
_FIT_ARGUMENTS = {*(inspect.signature(NFVI.fit).parameters.keys() - {"self", "kwargs"}), *MORE}
_SETTINGS = Settings(window=100, most_windows=12, patience=1)
_SMALL_WEIGHT = 0.01


@dataclass(frozen=True)
class Rung:
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
class Ladder:
    """The families that `pmflow.fit` tried for a model, in order, and the one it took.

    Attributes
    ----------
    rungs : tuple of Rung
    taken : int
        Index of the one that was returned.
    """

    rungs: tuple[Rung, ...]
    taken: int

    def __str__(self) -> str:
        marks = ("->" if i == self.taken else "  " for i in range(len(self.rungs)))
        return "\n".join(f"{mark} {rung}" for mark, rung in zip(marks, self.rungs, strict=True))

    __repr__ = __str__


def _formulas(dim: int) -> tuple[str, ...]:
    """Families to try after the Gaussian, the next one richer."""
    if dim == 1:
        return "spline[hidden=0]-sinh-scale-loc", "spline[hidden=0]*4-sinh-scale-loc"
    return (
        "coupling[hidden=16]*2-sinh-scale-loc",
        "coupling[hidden=32]*4-spline[hidden=0]-sinh-scale-loc",
    )


def fit_automatically(
    model: pm.Model | None,
    *,
    random_seed: RandomState = None,
    start: Mapping[str, Any] | None = None,
    restarts: int = 4,
    progressbar: bool = True,
    **kwargs: Any,
) -> Approximation:
    """Fit richer and richer families until one is good, judged at fresh draws.

    Parameters
    ----------
    model : pymc.Model or None
        Defaults to the model of the context.
    random_seed : int, Generator or RandomState, optional
    start : dict, optional
        Of the first of the starts, by variable, in constrained space.
    restarts : int
        Starts of the Gaussian, which show modes; all modes are fitted and stacked.
    progressbar : bool
    **kwargs
        Passed on to `NFVI.fit` where a flow is trained, such as `backend`.

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
    _check_arguments(restarts, kwargs)
    check_fit_arguments({"progressbar": progressbar, **kwargs})
    climb = _Climb(model, random_seed, start, progressbar=progressbar, **kwargs)
    climb.gaussian(restarts)
    try:
        for formula in _formulas(climb.dim):
            if climb.is_done:
                break
            climb.flow(formula)
    except KeyboardInterrupt:
        _log.warning("Interrupted; the best of the fits so far is kept.")
    return climb.finish()


def _check_arguments(restarts: int, kwargs: Mapping[str, Any]) -> None:
    checked_count("restarts", restarts, 1)
    for name in ("n", "obj_optimizer", "combine"):
        if kwargs.get(name) is not None:
            raise ParameterError(
                f"method='auto' chooses {name} by itself. Leave {name} out, or say which flow to "
                "fit: method='nfvi=scale-loc'."
            )
    unknown = sorted(kwargs.keys() - _FIT_ARGUMENTS)
    if unknown:
        raise ParameterError(
            f"fit has no argument {', '.join(unknown)}. Arguments of the fit are "
            f"{', '.join(sorted(_FIT_ARGUMENTS))}."
        )


class _Climb:
    """The state of a climb: the best approximation so far, and what was tried."""

    def __init__(
        self,
        model: pm.Model | None,
        random_seed: RandomState,
        start: Mapping[str, Any] | None,
        **kwargs: Any,
    ) -> None:
        (seed,) = _get_seeds_per_chain(random_seed, 1)
        self._rng = np.random.default_rng(seed)
        self._model = checked_model(model)
        self._start = start
        self._kwargs = kwargs
        self._rungs: list[Rung] = []
        self._tried: list[Approximation] = []

    @property
    def dim(self) -> int:
        """Length of the latent vector."""
        return int(self._flow.ddim)

    @property
    def is_done(self) -> bool:
        """Whether the last rung is good, or could not be judged."""
        found, state = self._rungs[-1].diagnosis, self._tried[-1].fit_state
        if found is None or (state is not None and state.ended in ("interrupted", "callback")):
            return True
        return found.verdict == "reliable" and self._is_close(found)

    def _is_close(self, found: Diagnosis) -> bool:
        return found.kl < _NATS_A_DIMENSION * self.dim

    def gaussian(self, restarts: int) -> None:
        """The Gaussian of largest ELBO, found by natural gradients: nothing is trained."""
        began = time.perf_counter()
        approx = NormalizingFlow(
            "scale-loc",
            model=self._model,
            random_seed=self._seed(),
            start=self._start,
            jitter=0.0,
            frame="gaussian",
        )
        frame = approx.groups[0].frame
        approx.fit_state = (
            FitState(0, 0, "failed", "no point of finite density was found")
            if frame is None
            else FitState(0, 0, "converged", frame.note or "Gaussian, by natural gradients")
        )
        move = approx.groups[0].move
        moves = [partial(move, self._seed()) for _ in range(restarts - 1)]
        result = fit_from_starts(approx, moves, "stack", lambda: None)
        self._flow = approx
        self._add("Gaussian", result, began)

    def flow(self, formula: str) -> None:
        """A flow in the frame of the Gaussian, one for each mode that was found."""
        began = time.perf_counter()
        captured, starts = self._modes()
        inference = NFVI(
            formula,
            model=self._model,
            random_seed=self._seed(),
            jitter=_JITTER,
            start=self._start,
            frame=captured[0].frame,
        )
        kwargs = self._kwargs | self._backend()

        inference.schedule, inference.tells_verdict = _SETTINGS, False

        def fit_once() -> None:
            inference.fit(**kwargs)

        move_to = inference.approx.groups[0].move_to
        moves = [partial(move_to, other.frame, self._seed()) for other in captured[1:]]
        try:
            result = fit_from_starts(inference.approx, moves, "stack", fit_once)
        except NonFiniteError as error:
            _log.warning("%s is left out: %s", formula, error)
            self._rungs.append(Rung(formula, None, time.perf_counter() - began))
            self._tried.append(inference.approx)
            return
        if not moves and starts is not None:
            result.starts = replace(starts, stacked=False)  # small modes are left out
        self._add(str(inference.approx.formula), result, began)

    def finish(self) -> Approximation:
        """The best one, with what was found on the way."""
        taken = self._best()
        result, found = self._tried[taken], self._rungs[taken].diagnosis
        result.diagnosis = found
        result.ladder = Ladder(tuple(self._rungs), taken)
        if found is None:
            warnings.warn(
                "The Gaussian nearest to the posterior is returned, but how good it is was not "
                "judged: with minibatches the log density is an estimate. Compare it with a flow "
                "of your choice, pmflow.fit(method='nfvi=<formula>').",
                FitWarning,
                stacklevel=4,
            )
        elif found.verdict != "reliable":
            warnings.warn(
                f"The best of {len(self._rungs)} fits is {found.summary}. "
                f"{' '.join(found.reasons)}. Print approx.diagnosis for what to try.",
                FitWarning,
                stacklevel=4,
            )
        return result

    def _modes(self) -> tuple[list[Any], Any]:
        """The frames of the modes that matter, the best one first."""
        starts, captured = self._tried[0].starts, self._flow.captured_starts
        if starts is None:
            return [self._flow.groups[0].capture()], None
        found = [start for start, weight in starts.of_modes if weight >= _SMALL_WEIGHT]
        found.sort(key=lambda start: -starts.elbo[start])
        return [captured[start] for start in found], starts

    def _backend(self) -> dict[str, Any]:
        """What is soonest at the end: JAX compiles in seconds what takes numba minutes.

        Without JAX, no compiler where the steps are quick in NumPy: most models need few of them.
        """
        if self._kwargs.get("backend") or self._kwargs.get("compile_kwargs"):
            return {}
        if importlib.util.find_spec("jax"):
            return {"backend": "jax"}
        group = self._flow.groups[0]
        density = group.log_density
        points = np.tile(group.offset if group.frame is None else group.frame.loc, (64, 1))
        density.value_and_gradient(points)
        began = time.perf_counter()
        density.value_and_gradient(points)
        seconds = time.perf_counter() - began
        return {"compile_kwargs": {"mode": "FAST_COMPILE"}} if seconds < _QUICK_STEP else {}

    def _add(self, formula: str, approx: Approximation, began: float) -> None:
        found = None
        try:
            found = diagnose(approx, random_seed=self._seed())
            if found.verdict != "reliable" and self._is_close(found):
                # more draws cost less than a richer flow, and may be all that is missing
                found = diagnose(approx, _MORE_DRAWS, random_seed=self._seed())
        except UnsupportedError as error:
            _log.info("Not diagnosed: %s", error)
        rung = Rung(formula, found, time.perf_counter() - began)
        _log.info("%s", rung)
        self._rungs.append(rung)
        self._tried.append(approx)

    def _best(self) -> int:
        elbos = [-np.inf if r.diagnosis is None else r.diagnosis.elbo for r in self._rungs]
        return int(np.argmax(elbos))

    def _seed(self) -> int:
        return int(self._rng.integers(2**30))
