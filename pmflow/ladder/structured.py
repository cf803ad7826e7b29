"""What rungs have in common that go by which variables of a model meet."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import override

import numpy as np
import pymc as pm
import pytensor
from numpy.typing import NDArray

from pmflow.embedded.conditional import Conditional
from pmflow.embedded.gaussian import NoGaussianError
from pmflow.embedded.marginal import NoCentreError
from pmflow.embedded.structure import NoStructureError, read_pattern, verify_pattern
from pmflow.family.approximation import Approximation
from pmflow.family.normalizing_flow import NormalizingFlow
from pmflow.graphs.minibatches import observed_in_minibatches
from pmflow.inference.checkpoint import Checkpoint, FitCheckpoint
from pmflow.ladder.rung import AbstractSizedRung, Ground, NothingGained
from pmflow.posterior.density import LogDensity
from pmflow.watch import OutOfTime

__all__ = ["AbstractStructuredRung", "Read", "affordable", "around", "beginning", "read_whole"]

_WORK = 3e11
"""Numbers that the density may go through for all second derivatives of a fit."""

type Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Read:
    """What such a rung begins with.

    Attributes
    ----------
    flow : NormalizingFlow
        Over all variables: their order in the latent vector.
    whole : Conditional
        Of all coordinates, none of them global.
    start : ndarray, shape (dim,)
    places : dict of str to slice
        Where each value variable is.
    seed : int
    """

    flow: NormalizingFlow
    whole: Conditional
    start: Floats
    places: dict[str, slice]
    seed: int


class AbstractStructuredRung(AbstractSizedRung):
    """A rung for models of which all data are at hand, in double precision."""

    @override
    def applies(self, ground: Ground) -> bool:
        """Whether it applies: to so many dimensions, all data and double precision."""
        is_double = pytensor.config.floatX == "float64"
        return super().applies(ground) and is_double and not observed_in_minibatches(ground.model)

    @override
    def climb(
        self, ground: Ground, file: Checkpoint | None, begun: FitCheckpoint | None
    ) -> Approximation:
        """Read which variables meet, and fit by that."""
        flow, start, places = beginning(ground.model, ground.start, ground.next_seed())
        seed = ground.next_seed()
        try:
            read = partial(read_whole, flow.groups[0].log_density, start, seed)
            whole = ground.structure(read)
            return self.fitted(Read(flow, whole, start, places, seed))
        except OutOfTime as error:
            raise NothingGained("no time was left for it") from error
        except (NoStructureError, NoCentreError, NoGaussianError) as error:
            raise NothingGained(str(error)) from error

    @abstractmethod
    def fitted(self, read: Read) -> Approximation:
        """What is fitted.

        Raises
        ------
        NoStructureError, NoCentreError, NoGaussianError
            If it can't be.
        """


def beginning(
    model: pm.Model, start: dict[str, object] | None, seed: int
) -> tuple[NormalizingFlow, Floats, dict[str, slice]]:
    """A flow over all variables, where it starts, and the place of each value variable."""
    flow = NormalizingFlow("scale-loc", model=model, random_seed=seed, start=start, jitter=0.0)
    places = {name: place for name, place, *_ in flow.groups[0].ordering.values()}
    return flow, flow.point.origin + flow.point.offset, places


def read_whole(density: LogDensity, start: Floats, seed: int) -> Conditional:
    """Which coordinates meet: all of them given none, by a pattern that is verified.

    Raises
    ------
    NoStructureError
        If it can't be read.
    """
    none = np.zeros(density.dim, dtype=bool)
    whole = Conditional(density, read_pattern(density), none)
    verify_pattern(whole, around(start, seed), seed)
    return whole


def around(start: Floats, seed: int) -> Floats:
    """Two points near the start, where a pattern is verified."""
    rng = np.random.default_rng(seed)
    return start + 0.1 * rng.standard_normal((2, len(start)))


def affordable(conditional: Conditional, curvatures: int) -> Conditional:
    """What was given.

    Raises
    ------
    NoStructureError
        If so many curvatures take too many gradients.
    """
    if float(conditional.gradients) * conditional.density.work * curvatures > _WORK:
        raise NoStructureError(
            f"its second derivatives take {conditional.gradients:,} gradients at each point"
        )
    return conditional
