"""What rungs have in common that go by which variables of a model meet."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import override

import numpy as np
import pytensor
from numpy.typing import NDArray

from pmflow.embedded.conditional import Conditional
from pmflow.embedded.gaussian import NoGaussianError
from pmflow.embedded.globals import Held
from pmflow.embedded.marginal import NoCentreError
from pmflow.embedded.structure import NoStructureError, read_pattern, verify_pattern
from pmflow.family.approximation import Approximation
from pmflow.family.normalizing_flow import NormalizingFlow
from pmflow.graphs.minibatches import observed_in_minibatches
from pmflow.inference.checkpoint import Checkpoint, FitCheckpoint
from pmflow.ladder.rung import AbstractSizedRung, Ground, NothingGained
from pmflow.watch import OutOfTime

__all__ = ["AbstractStructuredRung", "around", "check_affordable", "check_choice", "read_structure"]

_WORK = 3e11
"""Numbers that the density may go through for all second derivatives of a fit."""

_OF_CHOICE = 10
"""Curvatures for each entry that may be global. It takes two: they may cost a fifth of a fit."""

type Floats = NDArray[np.float64]


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
        flow = NormalizingFlow(
            "scale-loc",
            model=ground.model,
            random_seed=ground.next_seed(),
            start=ground.start,
            jitter=0.0,
        )
        seed = ground.next_seed()
        try:
            return self.fitted(flow, ground.structure(partial(read_structure, flow, seed)), seed)
        except OutOfTime as error:
            raise NothingGained("no time was left for it") from error
        except (NoStructureError, NoCentreError, NoGaussianError) as error:
            raise NothingGained(str(error)) from error

    @abstractmethod
    def fitted(self, flow: NormalizingFlow, held: Held, seed: int) -> Approximation:
        """What is fitted.

        Parameters
        ----------
        flow : NormalizingFlow
            Over all variables: their order in the latent vector.
        held : Held
        seed : int

        Raises
        ------
        NoStructureError, NoCentreError, NoGaussianError
            If it can't be.
        """


def read_structure(flow: NormalizingFlow, seed: int) -> Held:
    """Which coordinates meet where a flow over all variables starts, by a pattern that is verified.

    Raises
    ------
    NoStructureError
        If it can't be read.
    """
    (group,) = flow.groups
    density, start = group.log_density, flow.point.origin + flow.point.offset
    pattern = read_pattern(density)
    whole = Conditional(density, pattern, np.zeros(density.dim, dtype=bool))
    if pattern.nnz < density.dim**2:  # else there is none to miss
        verify_pattern(whole, around(start, seed), seed)
    places = {name: place for name, place, *_ in group.ordering.values()}
    return Held(whole, places, start)


def around(start: Floats, seed: int) -> Floats:
    """Two points near the start, where a pattern is verified."""
    rng = np.random.default_rng(seed)
    return start + 0.1 * rng.standard_normal((2, len(start)))


def check_affordable(conditional: Conditional, curvatures: int) -> None:
    """See whether so many curvatures can be had.

    Raises
    ------
    NoStructureError
        If they take too many gradients.
    """
    _check(conditional.gradients, conditional.density.work, curvatures)


def check_choice(held: Held) -> None:
    """See whether the curvatures can be had that tell which variables are global.

    Raises
    ------
    NoStructureError
        If they take too many gradients.
    """
    _check(held.gradients, held.whole.density.work, _OF_CHOICE * held.entries)


def _check(gradients: int, work: int, curvatures: int) -> None:
    if float(gradients) * work * curvatures > _WORK:
        raise NoStructureError(f"its second derivatives take {gradients:,} gradients at each point")
