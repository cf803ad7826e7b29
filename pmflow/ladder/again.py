"""One fit made again and again for other data of its model."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, override

import numpy as np
import pymc as pm
from numpy.typing import NDArray

from pmflow.errors import PmflowError
from pmflow.family.approximation import Approximation
from pmflow.family.embedded_laplace import EmbeddedLaplace
from pmflow.family.normalizing_flow import NormalizingFlow
from pmflow.inference.checkpoint import Checkpoint, FitCheckpoint
from pmflow.ladder.automatic import STARTS, fitted
from pmflow.ladder.reused import reused_flows
from pmflow.ladder.rung import AbstractRung, Ground
from pmflow.ladder.rungs import RUNGS
from pmflow.ladder.structured import nothing_without
from pmflow.posterior.density import LogDensity, shared_densities
from pmflow.posterior.own_data import OwnData, Values
from pmflow.records import State
from pmflow.training.options import FitOptions

__all__ = ["Again", "Asked", "Refitted", "below"]


@dataclass(frozen=True)
class Asked:
    """One fit that is asked for.

    Attributes
    ----------
    data : dict of str to ndarray
    seed : int
    truth : dict of str to ndarray
        Values of variables, of which it is to say where they are among its draws.
    draws : int
        How many of these.
    """

    data: Values
    seed: int
    truth: Values
    draws: int = 0


@dataclass(frozen=True, eq=False)
class Refitted:
    """What came of it.

    Attributes
    ----------
    state : State or None
        Of the approximation; None where there is none.
    why_not : str
        Why there is none.
    below : dict of str to ndarray
        For each true value the share of draws that are below it.
    """

    state: State | None
    why_not: str = ""
    below: Values | None = None


class NestedAgainRung(AbstractRung):
    """The embedded Laplace approximation of the data before, from where it was."""

    name = EmbeddedLaplace.family
    is_needed = False

    def __init__(self, before: EmbeddedLaplace) -> None:
        self._before = before

    @override
    def applies(self, ground: Ground) -> bool:
        """Whether it applies: it always does."""
        return True

    @override
    def climb(
        self, ground: Ground, file: Checkpoint | None, begun: FitCheckpoint | None
    ) -> Approximation:
        """Fit it again."""
        with nothing_without():
            return self._before.again(ground.next_seed())


class Again:
    """A fit that is made again for other data, and compiled once.

    What comes of some data depends on these and a seed alone, not on what was fitted before.

    Parameters
    ----------
    data : OwnData
        Of the model of the fit.
    state : State
        Of the fit.
    start : dict of str to ndarray
        Where the others begin, by free variable, in constrained space.
    """

    def __init__(self, data: OwnData, state: State, start: Mapping[str, Any]) -> None:
        self._data, self._start = data, dict(start)
        self._density: LogDensity | None = None
        self._flows: dict[str, NormalizingFlow] = {}
        self._lock = threading.Lock()
        self._rungs: Sequence[AbstractRung] | None = None
        if data.are_observed_alone:
            ordering = Approximation.from_state(state, data.model).ordering
            self._density = LogDensity(data.model, ordering, changes=True, serves_many=True)
            with shared_densities(self._density):
                before = Approximation.from_state(state, data.model)
            if isinstance(before, EmbeddedLaplace):
                self._rungs = (NestedAgainRung(before), *RUNGS)

    @property
    def model(self) -> pm.Model:
        """The model, whose data are those of the last fit."""
        return self._data.model

    def __call__(self, asked: Asked) -> Refitted:
        """Make one fit, and judge it; of several threads, one at a time."""
        with self._lock:
            return self._made(asked)

    def _made(self, asked: Asked) -> Refitted:
        self._data.set(asked.data)
        known = () if self._density is None else (self._density,)
        for density in known:
            density.count_anew()
        options = FitOptions(restarts=STARTS, progressbar=False)
        try:
            with shared_densities(*known), reused_flows(self._flows if known else {}):
                found = fitted(self.model, asked.seed, self._start, options, rungs=self._rungs)
        except PmflowError as error:
            return Refitted(None, str(error))
        shares = None
        if asked.truth:
            drawn = found.draw(asked.draws, asked.seed, tuple(asked.truth)).constrained
            shares = {n: below(drawn[n], value, asked.seed) for n, value in asked.truth.items()}
        return Refitted(found.to_state(), "", shares)


def below(draws: NDArray[Any], value: NDArray[Any], seed: int) -> NDArray[np.float64]:
    """Share of draws that are below a value, as if it were one of them; chance decides ties.

    Parameters
    ----------
    draws : ndarray, shape (draws, ...)
    value : ndarray, shape (...)
    seed : int

    Returns
    -------
    ndarray, shape (...)
        Uniform between 0 and 1 where value and draws are of one distribution.
    """
    rank, ties = (draws < value).sum(0), (draws == value).sum(0)
    place = np.random.default_rng(seed).uniform(size=np.shape(value))
    return np.asarray((rank + place * (ties + 1)) / (len(draws) + 1))
