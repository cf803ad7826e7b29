"""A running fit in a file, from which it can go on."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pymc as pm

from pmflow.errors import FitWarning, ParameterError, StorageError
from pmflow.family.state import ApproximationState
from pmflow.posterior.outline import description
from pmflow.records import FitState, State
from pmflow.saving.archive import write_archive
from pmflow.saving.states import pack
from pmflow.starts.restarts import StartsState
from pmflow.training.option_states import OptionsState, options_state
from pmflow.training.options import FitOptions
from pmflow.training.run_state import RunState
from pmflow.training.tracker import Tracker, TrackerState

__all__ = ["Checkpoint", "FitCheckpoint", "FitKeeper", "checkpoint_for", "restore_trackers"]


@dataclass(frozen=True, eq=False)
class FitCheckpoint(State):
    """A fit that is under way, or over.

    Attributes
    ----------
    approx : State
        The approximation as it is; at its best where the fit is over.
    beta : float
    options : OptionsState
    run : RunState
        State of the run from the start that is under way.
    course_seed : int
        Seed of the fresh draws that states are compared by.
    starts : StartsState
        The fits from other starts before it.
    move_seeds : tuple of int
        The seed of each further start.
    trackers : tuple of TrackerState
    """

    approx: ApproximationState
    beta: float
    options: OptionsState
    run: RunState
    course_seed: int
    starts: StartsState
    move_seeds: tuple[int, ...]
    trackers: tuple[TrackerState, ...]

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        ended = self.approx.report.fit_state
        done = ended is not None and ended.ended in ("steps", "converged", "limit")
        return done and not self.move_seeds


class Checkpoint:
    """A file for the state of a fit: written when it begins, every few seconds, and at its end.

    Parameters
    ----------
    path : path-like
    every : float
        Seconds between two states.
    model : pymc.Model
    """

    def __init__(self, path: str | os.PathLike[str], every: float, model: pm.Model) -> None:
        self._path, self._every, self._model = path, every, model
        self._whole: Callable[[Any], State] = lambda state: state
        self._written: float | None = None
        self._warned: set[str] = set()

    def within(self, whole: Callable[[Any], State]) -> None:
        """Write from now on what `whole` gives for a state, of which that is a part."""
        self._whole = whole

    def keep(self, take: Callable[[], State | None], *, now: bool) -> None:
        """Write the state if it is time, or `now`; none is written where there is none.

        Raises
        ------
        StorageError
            If the first one can't be written. Later ones only warn: a full disk does not end a fit.
        """
        moment = time.monotonic()
        if not now and self._written is not None and moment - self._written < self._every:
            return
        state = take()
        if state is None:
            return
        try:
            write_archive(self._path, pack(self._whole(state), self._about))
        except StorageError as error:
            if self._written is None:
                raise
            self.warn(f"The checkpoint could not be written, the fit goes on. {error}")
        self._written = time.monotonic()

    @cached_property
    def _about(self) -> dict[str, Any]:
        """What the file says of the model, which is the same throughout a fit."""
        return {"kind": "checkpoint", **description(self._model)}

    def warn(self, message: str) -> None:
        """Say once what is not as it should be."""
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, FitWarning, stacklevel=2)


def checkpoint_for(options: FitOptions, model: pm.Model) -> Checkpoint | None:
    """The file that the options ask for, None where they ask for none.

    Raises
    ------
    ParameterError
        If an option that decides about the fit is in no file.
    """
    if options.checkpoint is None:
        return None
    options_state(options)
    return Checkpoint(options.checkpoint, options.checkpoint_every, model)


class FitKeeper:
    """Puts together what a file keeps of a fit from one of its starts.

    Parameters
    ----------
    inference : NFVI
    options : FitOptions
    file : Checkpoint
    starts : StartsState
        The fits from other starts before this one.
    move_seeds : tuple of int
    course_seed : int
    """

    def __init__(
        self,
        inference: Any,
        options: FitOptions,
        file: Checkpoint,
        starts: StartsState,
        move_seeds: tuple[int, ...],
        course_seed: int,
    ) -> None:
        self._inference, self._options, self._file = inference, options, file
        self._starts, self._move_seeds, self._course_seed = starts, move_seeds, course_seed

    def offer(self, take: Callable[[], RunState | None], ended: FitState | None) -> None:
        """Write the state of the fit, if it is time."""
        self._file.keep(lambda: self._state(take(), ended), now=ended is not None)

    def _state(self, run: RunState | None, ended: FitState | None) -> FitCheckpoint | None:
        if run is None:
            return None
        approx = self._inference.approx
        report = replace(approx.report, hist=run.losses, fit_state=ended)
        return FitCheckpoint(
            approx=replace(approx.to_state(), report=report),
            beta=float(self._inference.objective.op.beta),
            options=options_state(self._options),
            run=run,
            course_seed=self._course_seed,
            starts=self._starts,
            move_seeds=self._move_seeds,
            trackers=_tracker_states(self._options.callbacks or (), self._file.warn),
        )


def _tracker_states(
    callbacks: Sequence[Any], warn: Callable[[str], None]
) -> tuple[TrackerState, ...]:
    """What the trackers among callbacks have recorded."""
    trackers = [c for c in callbacks if isinstance(c, Tracker)]
    states = tuple(tracker.to_state() for tracker in trackers)
    for tracker, state in zip(trackers, states, strict=True):
        left_out = sorted(set(tracker.whatchdict) - set(state.arrays))
        if left_out:
            warn(
                f"The statistics {', '.join(left_out)} of a Tracker are not in the checkpoint: "
                "they are no arrays of numbers of one shape."
            )
    return states


def restore_trackers(
    states: tuple[TrackerState, ...], callbacks: Sequence[Any], where: str
) -> None:
    """Give trackers what those of the fit have recorded.

    Raises
    ------
    ParameterError
        If they are not as many, or do not record the same.
    """
    trackers = [c for c in callbacks if isinstance(c, Tracker)]
    if len(trackers) != len(states) or not all(
        tracker.records_same_as(state) for tracker, state in zip(trackers, states, strict=True)
    ):
        raise ParameterError(
            f"{where!r} holds what {len(states)} Tracker(s) recorded, and the callbacks must "
            f"have as many that record the same, but have {len(trackers)}. Give a function: "
            "callbacks=lambda inference: [pmflow.Tracker(inference)]."
        )
    for tracker, state in zip(trackers, states, strict=True):
        tracker.go_to(state)
