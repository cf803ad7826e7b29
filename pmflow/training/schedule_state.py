"""What a schedule may do, and where it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pmflow.records import State

__all__ = ["ScheduleSettings", "ScheduleState"]

type Vector = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class ScheduleSettings(State):
    """What a fit without a number of steps may do.

    Attributes
    ----------
    rates : tuple of float
        Step sizes that are tried at the beginning.
    trial : int
        Steps of each trial.
    window : int
        Steps after which a stage is looked at.
    most_windows : int
        The most windows that a stage may have.
    decay : float
        Step size of a stage over that of the one before.
    stages : int
        The most stages.
    tolerance : float
        Nats per dimension that a stage must gain to be followed by another.
    patience : int
        How many times in a row a stage must look settled before it ends.
    """

    rates: tuple[float, ...] = (0.03, 0.01, 0.003)
    trial: int = 60
    window: int = 200
    most_windows: int = 25
    decay: float = 0.3
    stages: int = 6
    tolerance: float = 2e-4
    patience: int = 2


@dataclass(frozen=True, eq=False)
class ScheduleState(State):
    """Where a schedule is between two segments of steps.

    Attributes
    ----------
    phase : str
        What the segment that is under way belongs to.
    learning_rate, accumulate : float, int
        Settings of that segment.
    start : ndarray, shape (size,)
        Where every trial begins.
    trials : tuple of float
        ELBO of the step sizes tried so far.
    reached : tuple of ndarray, each of shape (size,)
        Where each of these trials ended.
    rate : float
        The step size that goes on.
    stage, window, part : int
        Numbers of the stage, of its window, and of the part of the window.
    begun : int
        Steps before the stage.
    settled : int
        Windows in a row that looked settled.
    iterates : tuple of ndarray, each of shape (size,)
        One for each part of the stage.
    best : ndarray, shape (size,)
    best_weights, before : ndarray, shape (draws,)
        Log weights at fresh draws, of the best state so far and of that before the stage.
    has_converged : bool
    """

    phase: Literal["begin", "search", "warm-up", "trial", "stage", "window", "over"] = "begin"
    learning_rate: float | None = None
    accumulate: int | None = None
    start: Vector | None = None
    trials: tuple[float, ...] = ()
    reached: tuple[Vector, ...] = ()
    rate: float = 0.0
    stage: int = 0
    window: int = 1
    part: int = 0
    begun: int = 0
    settled: int = 0
    iterates: tuple[Vector, ...] = ()
    best: Vector | None = None
    best_weights: NDArray[np.float64] | None = None
    before: NDArray[np.float64] | None = None
    has_converged: bool = False
