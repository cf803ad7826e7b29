"""What rungs have in common that go by which variables of a model meet."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import override

import numpy as np
import pytensor
from numpy.typing import NDArray

from pmflow.embedded.gaussian import NoGaussianError
from pmflow.embedded.globals import Held
from pmflow.embedded.marginal import NoCentreError
from pmflow.embedded.structure import NoStructureError, check_work, read_structure
from pmflow.family.approximation import Approximation
from pmflow.family.normalizing_flow import NormalizingFlow
from pmflow.graphs.minibatches import in_minibatches
from pmflow.inference.checkpoint import Checkpoint, FitCheckpoint
from pmflow.ladder.rung import AbstractSizedRung, Ground, NothingGained
from pmflow.posterior.density import LogDensity
from pmflow.watch import OutOfTime

__all__ = ["AbstractStructuredRung", "check_choice", "density_at_start", "nothing_without"]

_OF_CHOICE = 10
"""Curvatures for each entry that may be global. It takes two: they may cost a fifth of a fit."""

type Floats = NDArray[np.float64]


class AbstractStructuredRung(AbstractSizedRung):
    """A rung for models of which all data are at hand, in double precision."""

    is_needed = False

    @override
    def applies(self, ground: Ground) -> bool:
        """Whether it applies: to so many dimensions, all data and double precision."""
        is_double = pytensor.config.floatX == "float64"
        return super().applies(ground) and is_double and not in_minibatches(ground.model)

    @override
    def climb(
        self, ground: Ground, file: Checkpoint | None, begun: FitCheckpoint | None
    ) -> Approximation:
        """Read which variables meet, and fit by that."""
        seeds = ground.next_seed(), ground.next_seed()
        with nothing_without():  # its time may be over before it has begun
            flow = NormalizingFlow(
                "scale-loc",
                model=ground.model,
                random_seed=seeds[0],
                start=ground.start,
                jitter=0.0,
            )
            read = partial(read_structure, *density_at_start(flow), seeds[1])
            return self.fitted(flow, ground.structure(read), seeds[1])

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


@contextmanager
def nothing_without() -> Iterator[None]:
    """Within it a fit that can't be made, or for which no time is left, has gained nothing."""
    try:
        yield
    except OutOfTime as error:
        raise NothingGained("no time was left for it") from error
    except (NoStructureError, NoCentreError, NoGaussianError) as error:
        raise NothingGained(str(error)) from error


def density_at_start(flow: NormalizingFlow) -> tuple[LogDensity, Floats]:
    """The density of the model, and where a flow over all variables starts, shape (dim,)."""
    (group,) = flow.groups
    return group.log_density, flow.point.origin + flow.point.offset


def check_choice(held: Held) -> None:
    """See whether the curvatures can be had that tell which variables are global.

    Raises
    ------
    NoStructureError
        If they take too many gradients.
    """
    check_work(held.gradients, held.whole.density.work, _OF_CHOICE * held.entries)
