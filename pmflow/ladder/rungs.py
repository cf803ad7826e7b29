"""The rungs of the ladder: what is tried for a model, from a Gaussian to richer flows.

A new rung is a class here, or another `FlowRung`, and a line in `RUNGS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, override

import pymc as pm

from pmflow.family.approximation import Approximation
from pmflow.family.normalizing_flow import NormalizingFlow
from pmflow.family.state import FlowPoint
from pmflow.inference import NFVI
from pmflow.inference.checkpoint import Checkpoint, FitCheckpoint
from pmflow.ladder.backend import with_backend
from pmflow.records import FitState
from pmflow.starts.restarts import fit_from_starts
from pmflow.training.options import FitOptions
from pmflow.training.schedule_state import ScheduleSettings
from pmflow.watch import why_stopped

__all__ = ["RUNGS", "AbstractRung", "FlowRung", "GaussianRung", "Ground"]

_JITTER = 0.01
_SCHEDULE = ScheduleSettings(window=100, most_windows=12, patience=1)
_SMALL_WEIGHT = 0.01
"""Share of the evidence below which a mode gets no flow of its own."""


class Ground(Protocol):
    """What a rung stands on: the model, what the user asked for, and the fits so far."""

    model: pm.Model
    start: dict[str, object] | None
    options: FitOptions

    @property
    def dim(self) -> int:
        """Length of the latent vector."""

    @property
    def gaussian(self) -> NormalizingFlow:
        """The Gaussian, once it was found, with its starts."""

    def next_seed(self) -> int:
        """A seed for the next thing that draws."""


class AbstractRung(ABC):
    """Something to try for a model."""

    name: str
    """What the user reads of it."""

    @abstractmethod
    def applies(self, ground: Ground) -> bool:
        """Whether it is for such a model; the rungs before it were climbed."""

    @abstractmethod
    def climb(
        self, ground: Ground, file: Checkpoint | None, begun: FitCheckpoint | None
    ) -> Approximation:
        """Fit it.

        Parameters
        ----------
        ground : Ground
        file : Checkpoint or None
            Where the state of a fit is kept.
        begun : FitCheckpoint or None
            Where its fit was broken off.

        Raises
        ------
        NonFiniteError
            If it can't be fitted.
        """


class GaussianRung(AbstractRung):
    """The Gaussian with the largest ELBO, found by natural gradients: nothing is trained."""

    name = "Gaussian"

    @override
    def applies(self, ground: Ground) -> bool:
        """Whether it applies: to every model."""
        return True

    @override
    def climb(
        self, ground: Ground, file: Checkpoint | None, begun: FitCheckpoint | None
    ) -> Approximation:
        """The Gaussians of all modes that several starts find."""
        approx = NormalizingFlow(
            "scale-loc",
            model=ground.model,
            random_seed=ground.next_seed(),
            start=ground.start,
            jitter=0.0,
            frame="gaussian",
        )
        move = approx.groups[0].move
        moves = [partial(move, ground.next_seed()) for _ in range(ground.options.restarts - 1)]
        return fit_from_starts(approx, moves, "stack", lambda _: _found(approx))


def _found(approx: NormalizingFlow) -> FitState:
    """How the search for the Gaussian ended."""
    frame = approx.groups[0].frame
    if frame is None:
        return FitState(0, 0, "failed", "no point of finite density was found")
    ended = why_stopped() or "converged"
    return FitState(0, 0, ended, frame.note or "Gaussian, by natural gradients")


@dataclass(frozen=True)
class FlowRung(AbstractRung):
    """A flow in the frame of the Gaussian, one for each mode that was found.

    Parameters
    ----------
    name : str
        The formula.
    least, most : int or None
        Dimensions of the models that it is for.
    """

    name: str
    least: int = 1
    most: int | None = None

    @override
    def applies(self, ground: Ground) -> bool:
        """Whether it applies: to models with this number of dimensions."""
        return self.least <= ground.dim and (self.most is None or ground.dim <= self.most)

    @override
    def climb(
        self, ground: Ground, file: Checkpoint | None, begun: FitCheckpoint | None
    ) -> Approximation:
        """Train the flow at each mode; together they are a Stack."""
        points = _modes(ground.gaussian)
        seed = ground.next_seed()
        if begun is None:
            inference = NFVI(
                self.name,
                model=ground.model,
                random_seed=seed,
                jitter=_JITTER,
                start=ground.start,
                frame=points[0].frame,
            )
        else:
            inference = NFVI(Approximation.from_state(begun.approx, ground.model), beta=begun.beta)
        move_to = inference.approx.groups[0].move_to
        moves = [partial(move_to, p.frame, ground.next_seed()) for p in points[1:]]
        options = with_backend(
            replace(ground.options, restarts=1, combine="stack", schedule=_SCHEDULE, verdict=False),
            ground.gaussian.groups[0].log_density,
        )
        result = inference.carry_out(options, file=file, begun=begun, moves=moves)
        starts = ground.gaussian.starts
        if starts is not None and not moves:  # modes of little weight are left out
            result.receive(replace(result.report, starts=replace(starts, stacked=False)))
        return result


def _modes(gaussian: NormalizingFlow) -> list[FlowPoint]:
    """Where the modes that matter are, the best one first."""
    starts, points = gaussian.starts, gaussian.report.points
    if starts is None:
        return [gaussian.point]
    found = [start for start, weight in starts.of_modes if weight >= _SMALL_WEIGHT]
    found.sort(key=lambda start: -starts.elbo[start])
    return [points[start] for start in found]  # type: ignore[misc]


RUNGS: tuple[AbstractRung, ...] = (
    GaussianRung(),
    FlowRung("spline[hidden=0]-sinh-scale-loc", most=1),
    FlowRung("spline[hidden=0]*4-sinh-scale-loc", most=1),
    FlowRung("coupling[hidden=16]*2-sinh-scale-loc", least=2),
    FlowRung("coupling[hidden=32]*4-spline[hidden=0]-sinh-scale-loc", least=2),
)
"""What is tried, in this order, until one is good."""
