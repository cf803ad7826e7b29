"""Global variables that are proposed, with the local ones given each, weighed by the fit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pmflow.embedded.given import Given
from pmflow.embedded.nested import Nested, unjudged
from pmflow.embedded.proposal import Proposal, ways_around, weighted_moments
from pmflow.judging.weights import Weights, importance_weights

__all__ = ["MOST_PROPOSED", "PROPOSED", "Proposed"]

PROPOSED, _WANTED, MOST_PROPOSED = 128, 64.0, 512
"""Global variables that are proposed; more of them where these are fewer effective draws, or leave
the verdict open."""
_WORK, _MOST_OF_ALL = 1e10, 2_048
"""Numbers that the density may go through for more than these where many are global."""
_LEAST_SHARE = 1e-8
"""Of the largest: places with less are no part of the fit."""
_RIDGE = 1e-6
"""Of the variances of the proposal, which is added to those of the draws."""

type Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Proposed:
    """Draws of the proposal, each with the local variables given it."""

    nested: Nested
    theta: Floats
    every: list[Given]

    @classmethod
    def of(cls, nested: Nested, rng: np.random.Generator) -> Proposed:
        """So many that they should be enough.

        Raises
        ------
        UnsupportedError
            If no draw has a marginal at all.
        """
        found = cls(nested, *_drawn(nested, PROPOSED, rng))
        while found.weights.ess * len(found.theta) < _WANTED and 2 * len(found.theta) <= found.most:
            found = found.doubled(rng)
        if not found.shares.any():
            raise unjudged("all of its draws of the global variables")
        return found

    @property
    def most(self) -> int:
        """How many there may be."""
        conditional = self.nested.conditional
        work = _WORK / (conditional.gradients + 8)
        return conditional.density.draws_within(work, most=_MOST_OF_ALL, least=MOST_PROPOSED)

    def doubled(self, rng: np.random.Generator) -> Proposed:
        """With as many again."""
        theta, every = _drawn(self.nested, len(self.theta), rng)
        return Proposed(self.nested, np.concatenate([self.theta, theta]), self.every + every)

    @cached_property
    def weights(self) -> Weights:
        """Importance weights of the draws."""
        log_marginal = np.concatenate([given.log_marginal for given in self.every])
        return importance_weights(log_marginal, self.nested.state.source.log_density(self.theta))

    @cached_property
    def shares(self) -> Floats:
        """What each draw counts; the same for all where too few are finite to be weighted."""
        shares = np.exp(self.weights.log_weights)
        if shares.any():
            return shares
        return np.isfinite([given.log_marginal[0] for given in self.every]).astype(float)

    def standardised(self, theta: Floats) -> Floats:
        """Points of shape (n, globals) in units of the marginal."""
        marginal = self._marginal
        return np.asarray((theta - marginal.mean) / np.sqrt((marginal.factor**2).sum(1)))

    def whitened(self, theta: Floats) -> Floats:
        """The same without the correlations of the marginal."""
        return self._marginal.standardised(theta)

    @property
    def turn(self) -> Floats:
        """From whitened variables to those in units of the marginal, shape (globals, globals)."""
        factor = self._marginal.factor
        return np.asarray(factor / np.sqrt((factor**2).sum(1, keepdims=True)))

    @cached_property
    def around(self) -> tuple[Floats, list[Given]]:
        """Places around the middle, see `ways_around`, with the local variables given each.

        None of them where one has no mode of the local variables.
        """
        marginal = self._marginal
        theta = marginal.mean + ways_around(len(marginal.mean)) @ marginal.factor.T
        every = list(self.nested.each(theta))
        are_known = np.isfinite([given.log_marginal[0] for given in every]).all()
        return (theta, every) if are_known else (theta[:0], [])

    @cached_property
    def known(self) -> NDArray[np.int64]:
        """Which of the draws are part of the fit."""
        return np.flatnonzero(self.shares > _LEAST_SHARE * self.shares.max())

    @cached_property
    def _marginal(self) -> Proposal:
        """Of the mean and the covariance of the draws."""
        mean, covariance = weighted_moments(self.shares, self.theta)
        # few draws may count, or a single one
        least = _RIDGE * np.diag((self.nested.state.proposal.factor**2).sum(1))
        return Proposal.of_moments(mean, covariance + least)


def _drawn(nested: Nested, number: int, rng: np.random.Generator) -> tuple[Floats, list[Given]]:
    theta = nested.state.source.draws(number, int(rng.integers(2**30)))
    return theta, list(nested.each(theta))
