"""What a rung of the ladder is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, override

import pymc as pm

from pmflow.embedded.globals import Held
from pmflow.family.approximation import Approximation
from pmflow.family.normalizing_flow import NormalizingFlow
from pmflow.inference.checkpoint import Checkpoint, FitCheckpoint
from pmflow.judging.diagnosis import Diagnosis
from pmflow.ladder.mirrors import Mirrors
from pmflow.training.options import FitOptions

__all__ = ["AbstractRung", "AbstractSizedRung", "Ground", "NothingGained"]


class Ground(Protocol):
    """What a rung stands on: the model, what the user asked for, and the fits so far."""

    model: pm.Model
    start: dict[str, object] | None
    options: FitOptions
    mirrors: Mirrors

    @property
    def dim(self) -> int:
        """Length of the latent vector."""

    @property
    def has_structured(self) -> bool:
        """Whether there is a fit that goes by which variables meet."""

    @property
    def gaussian(self) -> NormalizingFlow:
        """The Gaussian, once it was found, with its starts."""

    @property
    def best(self) -> tuple[Approximation, Diagnosis | None]:
        """The best of the fits so far."""

    @property
    def distance(self) -> float:
        """Nats from the best flow so far to the posterior, as far as known."""

    def next_seed(self) -> int:
        """A seed for the next thing that draws."""

    def structure(self, read: Callable[[], Held]) -> Held:
        """Which variables meet: read by the first rung that asks."""


class NothingGained(Exception):
    """The fit is the one that it began with; the message says so."""


class AbstractRung(ABC):
    """Something to try for a model."""

    name: str
    """What the user reads of it."""
    is_needed: bool = True
    """Whether a fit has to come of it where none has yet: no other rung is as sure to have one."""

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
        NothingGained
            If it is no better than the Gaussian that it began with.
        """


@dataclass(frozen=True, kw_only=True)
class AbstractSizedRung(AbstractRung):
    """A rung for models of so many dimensions.

    Parameters
    ----------
    least, most : int or None
        Dimensions of the models that it is for.
    """

    least: int = 1
    most: int | None = None

    @override
    def applies(self, ground: Ground) -> bool:
        """Whether it applies: to models with this number of dimensions."""
        return self.least <= ground.dim and (self.most is None or ground.dim <= self.most)
