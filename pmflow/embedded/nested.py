"""Draws and density of global variables by their marginal and local ones given them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pmflow.embedded.bent import Bent
from pmflow.embedded.blocks import Blocks
from pmflow.embedded.choices import CHOICES, chosen_at
from pmflow.embedded.conditional import Conditional
from pmflow.embedded.given import Given, Modes
from pmflow.embedded.marginal import Centre
from pmflow.embedded.proposal import Proposal
from pmflow.embedded.scores import Scorer
from pmflow.embedded.weighing import blocks_for
from pmflow.errors import UnsupportedError
from pmflow.records import State, systematic_choice
from pmflow.watch import tick

__all__ = ["Nested", "NestedState", "features", "modes_at", "unjudged"]

_CURVATURES = 6
"""At most, of a climb to a conditional mode from where the centre predicts it."""
_NUMBERS_AT_ONCE = 2**25
"""Of factors and points that are held at a time."""
_FARTHEST = 3.0
"""In sds, from where draws are as a rule: corrections stay what they are there."""
_CANDIDATES = 2.0
"""Global variables proposed for each that is wanted, in effective draws."""
_FEWEST, _MOST, _MOST_OF_ALL = 128, 1_024, 4_096
"""Global variables that are proposed: powers of 2."""
_EFFECTIVE = 800.0
"""Effective draws among them that are worth more than most."""
_WORK, _MORE_WORK = 2e9, 1e10
"""Numbers that the density may go through for more than the fewest, and for more than most."""
type Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NestedState(State):
    """What was found of a posterior.

    Attributes
    ----------
    centre : Centre
    unit : Proposal
        What exploring has ended with: where corrections have their origin and their units.
    proposal : Proposal
        What global variables are drawn from, where they have no `marginal` of their own.
    sds : ndarray, shape (locals,)
        Units of differences, see `Conditional`.
    locals_by : {"gaussian", "curves", "weights"}
        What the local variables are given the global ones. ``curves``: independent, each with a
        density of its own, and there is nothing to correct. ``weights``: independent blocks, each
        chosen from draws of the Gaussian by its weights.
    correction : ndarray, shape (features,)
        Of the log marginal, by `features` of the global variables.
    pull : ndarray, shape (1, locals) or (globals + 1, locals)
        The mean slope of the log density around the conditional mode, the same everywhere or by
        the linear features: the covariance times it leads from the mode to the mean.
    log_evidence : float
        Log of the integral of the corrected marginal.
    ess : float
        Effective draws of the global variables as a fraction of those proposed.
    marginal : Bent or None
        What the scores of the marginal of the global variables have led to. It is drawn from, and
        weighted but where the local variables are by ``weights``: then values are noisy, and it is
        taken as it is.
    choices : int
        Draws of each block of local variables of which one is chosen, where they are by weights.
    """

    centre: Centre
    unit: Proposal
    proposal: Proposal
    sds: Floats
    locals_by: Literal["gaussian", "curves", "weights"]
    correction: Floats
    pull: Floats
    log_evidence: float
    ess: float
    marginal: Bent | None = None
    choices: int = CHOICES

    @property
    def source(self) -> Proposal | Bent:
        """What global variables are drawn from."""
        return self.proposal if self.marginal is None else self.marginal

    @property
    def is_explicit(self) -> bool:
        """Whether they are so distributed, and not weighted."""
        return self.marginal is not None and self.locals_by == "weights"


def features(y: Floats, number: int) -> Floats:
    """1, the coordinates, their squares, and the products of two: as many of these as asked for.

    Parameters
    ----------
    y : ndarray, shape (n, globals)
        In units of the proposal; far out they are what they are on the way there.
    number : int
        1 + globals, 1 + 2 globals, or all.
    """
    norms = np.sqrt((y**2).sum(1, keepdims=True))
    farthest = _FARTHEST + np.sqrt(y.shape[1])
    y = y * np.minimum(1.0, farthest / np.maximum(norms, 1e-300))
    first, second = np.triu_indices(y.shape[1], 1)
    return np.concatenate([np.ones((len(y), 1)), y, y**2, y[:, first] * y[:, second]], 1)[
        :, :number
    ]


class Nested:
    """A distribution over the latent space: the marginal of few, and Gaussians given them.

    Parameters
    ----------
    conditional : Conditional
    state : NestedState
    """

    def __init__(self, conditional: Conditional, state: NestedState) -> None:
        self.conditional, self.state = conditional, state
        conditional.take_units(state.sds)

    def given(self, theta: Floats) -> Iterator[tuple[slice, Given]]:
        """The local variables given global ones of shape (n, globals), some at a time."""
        state, conditional = self.state, self.conditional
        correction = self.correction(theta)
        pulled = features(state.unit.standardised(theta), len(state.pull)) @ state.pull
        is_alone = state.locals_by == "curves"
        for part, modes in modes_at(conditional, state.centre, theta, independent=is_alone):
            z = modes.z
            if state.pull.any():
                for point, factor, pull in zip(z, modes.factors, pulled[part], strict=True):
                    if factor is not None:  # else no mode was found
                        point[conditional.locals] += factor.solve(pull[None])[0]
            log_marginal = modes.log_marginal + correction[part]
            if state.marginal is not None and state.is_explicit:
                own = state.marginal.log_density(theta[part]) + state.log_evidence
                log_marginal = np.where(np.isfinite(modes.log_marginal), own, -np.inf)
            yield part, Given(z, modes.factors, log_marginal, modes.curves)

    def correction(self, theta: Floats) -> Floats:
        """What is added to the log marginal by Laplace's approximation, shape (n,)."""
        wanted = self.state.correction
        return np.asarray(features(self.state.unit.standardised(theta), len(wanted)) @ wanted)

    @cached_property
    def scorer(self) -> Scorer:
        """Of the scores of its global variables."""
        return Scorer(self.conditional, self.state.centre)

    @cached_property
    def weighed_by(self) -> Blocks | None:
        """How its local variables are weighed, chosen at the centre: see `blocks_for`."""
        outer = self.conditional.globals
        (given,) = self.each(self.state.centre.z[None, outer])
        return blocks_for(self.conditional, given)

    def each(self, theta: Floats) -> Iterator[Given]:
        """The local variables given global ones of shape (n, globals), one place in each."""
        for _, given in self.given(theta):
            yield from given.each()

    def log_density(self, points: Floats) -> Floats:
        """Log density at points of shape (n, dim), shape (n,)."""
        if self.state.locals_by == "weights":  # given the global ones the others are as they are
            return self.conditional.density.value(points) - self.state.log_evidence
        inner, outer = self.conditional.locals, self.conditional.globals
        found = np.full(len(points), -np.inf)
        for i, given in enumerate(self.each(points[:, outer])):
            if np.isfinite(given.log_marginal[0]):
                away = points[i : i + 1, inner] - given.z[:, inner]
                found[i] = given.log_density(away)[0]
        return found - self.state.log_evidence

    def draws(self, number: int, seed: int) -> tuple[Floats, Floats]:
        """Points of shape (number, dim), and their log densities.

        Global variables are proposed, weighted and chosen: where a curvature is expensive they are
        fewer than the draws, and local variables are drawn several times given the same ones.
        """
        rng = np.random.default_rng(seed)
        source = self.state.source
        theta = source.draws(self._candidates(number), int(rng.integers(2**30)))
        every = list(self.each(theta))
        log_marginal = np.concatenate([given.log_marginal for given in every])
        log_weights = log_marginal - source.log_density(theta)
        weights = np.exp(log_weights - log_weights.max())
        chosen = systematic_choice(weights, number, 1 - rng.random())
        points, values = [], []
        for given, count in zip(every, np.bincount(chosen, minlength=len(theta)), strict=True):
            if not count:
                continue
            tick()
            if self.state.locals_by == "weights":
                z = chosen_at(self.conditional, given, int(count), rng, self.state.choices).z
                log_q = self.conditional.density.value(z)
            else:
                e = rng.standard_normal((count, len(self.conditional.locals)))
                z, _, log_q = given.drawn(e, self.conditional.locals)
            points.append(z)
            values.append(log_q)
        mixed = rng.permutation(number)
        return np.concatenate(points)[mixed], np.concatenate(values)[
            mixed
        ] - self.state.log_evidence

    def _candidates(self, number: int) -> int:
        """How many global variables are proposed for so many draws: a power of 2, as a rule."""
        density = self.conditional.density
        if self.state.is_explicit:  # none is proposed in vain
            cost = self.conditional.gradients + Blocks.nodes * self.state.choices
            most = density.draws_within(_MORE_WORK / cost, most=number, least=_FEWEST)
            return min(number, most)
        wanted = math.ceil(_CANDIDATES * number / self.state.ess)
        cost = self.conditional.gradients + 8
        most = density.draws_within(_WORK / cost, most=_MOST, least=_FEWEST)
        if self.state.marginal is not None:
            most = density.draws_within(_MORE_WORK / cost, most=2 * _MOST, least=_FEWEST)
        elif most == _MOST:  # many global variables have few effective draws
            more = int(np.clip(_EFFECTIVE / self.state.ess, _MOST, _MOST_OF_ALL))
            most = density.draws_within(_MORE_WORK / cost, most=more, least=_MOST)
        return 1 << math.floor(math.log2(np.clip(wanted, _FEWEST, most)))


def unjudged(places: str) -> UnsupportedError:
    """What is raised where `places` have no mode of the local variables."""
    return UnsupportedError(
        f"The fit can't be judged: at {places} no mode of the other variables was found. Has the "
        "model changed since it was fitted? Fit it again: approx = pmf.fit(model=model)."
    )


def modes_at(
    conditional: Conditional, centre: Centre, theta: Floats, *, independent: bool
) -> Iterator[tuple[slice, Modes]]:
    """Conditional modes at global variables of shape (n, globals), some at a time.

    Where the local variables are independent given the global ones, with the density of each, and
    with the marginal by these.
    """
    rows = max(1, _NUMBERS_AT_ONCE // (conditional.density.dim * 16))
    for i in range(0, len(theta), rows):
        tick(i)
        part = slice(i, min(i + rows, len(theta)))
        start = centre.predicted(conditional, theta[part])
        modes = conditional.modes(start, _CURVATURES, centre.factor)
        yield part, conditional.curved(modes) if independent else modes
