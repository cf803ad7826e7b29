"""The marginal of the global variables at many points, weighted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pmflow.embedded.conditional import Conditional
from pmflow.embedded.marginal import Centre, NoCentreError
from pmflow.embedded.nearest import nearest_gaussian
from pmflow.embedded.nested import modes_at
from pmflow.embedded.proposal import Proposal, weighted_moments
from pmflow.judging.weights import Weights, importance_weights

__all__ = ["Explored", "HigherElsewhereError", "explore"]

_ROUNDS = 6
_ENOUGH = 64.0
"""Effective draws of the global variables at which exploring ends, if their tail is light too."""
_FEWEST = 10.0
"""Effective draws without which nothing is known."""
_FOR_EACH = 4.0
"""Effective draws for each mean and covariance, with which these are the weighted ones."""
_LIGHT = 0.5
_HIGHER = 3.0
"""Nats by which the marginal at a draw is above that at the centre: there is another mode."""

type Floats = NDArray[np.float64]
type Draws = NDArray[np.bool_]
type Way = Callable[[Draws, Proposal], tuple[Floats, Floats]]


class HigherElsewhereError(NoCentreError):
    """The marginal has a mode that the centre is not at.

    Attributes
    ----------
    z : ndarray, shape (dim,)
        A whole point near to it.
    """

    def __init__(self, z: Floats) -> None:
        super().__init__("the marginal of the global variables has another mode, and a higher one")
        self.z = z


@dataclass(frozen=True, eq=False)
class Explored:
    """Global variables at draws of proposals, with the marginal there.

    Attributes
    ----------
    theta : ndarray, shape (n, globals)
    log_marginal : ndarray, shape (n,)
    log_proposal : ndarray, shape (n,)
        Log density of the mixture of all proposals that they are draws of.
    """

    theta: Floats
    log_marginal: Floats
    log_proposal: Floats
    weights: Weights = field(init=False)

    def __post_init__(self) -> None:
        found = importance_weights(self.log_marginal, self.log_proposal)
        object.__setattr__(self, "weights", found)

    def moments(self, near: Proposal) -> tuple[Floats, Floats]:
        """Mean and covariance of the global variables.

        By their weights, if these are enough. Else these, or those of the Gaussian that is nearest
        to the marginal: as one half of the draws foretells the other one better.

        Parameters
        ----------
        near : Proposal
            Where the marginal is, about.
        """
        size, every = self.theta.shape[1], np.ones(len(self.theta), dtype=bool)
        if self.weights.ess * len(self.theta) > _FOR_EACH * size * (size + 3) / 2:
            return self._by_weights(every, near)
        halves = [np.arange(len(self.theta)) % 2 == k for k in range(2)]
        ways = (self._by_nearest, self._by_weights)
        told = [sum(self._foretold(way, half, near) for half in halves) for way in ways]
        return ways[int(np.argmax(told))](every, near)

    def _by_weights(self, draws: Draws, near: Proposal) -> tuple[Floats, Floats]:
        return weighted_moments(np.exp(self.weights.log_weights[draws]), self.theta[draws])

    def _by_nearest(self, draws: Draws, near: Proposal) -> tuple[Floats, Floats]:
        log_shares = self.weights.log_weights[draws]
        return nearest_gaussian(near, self.theta[draws], self.log_marginal[draws], log_shares)

    def _foretold(self, way: Way, draws: Draws, near: Proposal) -> float:
        """The mean log density, over all other draws by their weights, of what some draws tell."""
        try:
            found = Proposal.of_moments(*way(draws, near))
        except np.linalg.LinAlgError:  # draws of too few different places count
            return -np.inf
        shares = np.exp(self.weights.log_weights[~draws])
        return float(shares @ found.log_density(self.theta[~draws]) / shares.sum())


def explore(
    conditional: Conditional,
    centre: Centre,
    first: int,
    seed: int,
    most: int,
    *,
    independent: bool,
) -> tuple[Explored, Proposal]:
    """Weigh draws of a proposal that learns from them, until it is near the marginal.

    Parameters
    ----------
    conditional : Conditional
    centre : Centre
    first : int
        Draws of the first round; each further one takes twice as many.
    seed : int
    most : int
        Draws in all.
    independent : bool
        Whether the local variables are, see `NestedState`.

    Raises
    ------
    NoCentreError
        If the draws do not lead to the marginal.
    HigherElsewhereError
        If one of them is far above the centre.
    """
    mean, covariance = centre.z[conditional.globals], np.linalg.inv(centre.precision)
    proposals: list[tuple[int, Proposal]] = []
    thetas: list[Floats] = []
    values: list[Floats] = []
    size = first
    while True:
        proposal = Proposal.of_moments(mean, covariance)
        theta = proposal.draws(size, seed + len(proposals))
        proposals.append((size, proposal))
        thetas.append(theta)
        new, tilt = _marginals(conditional, centre, theta, proposal, independent=independent)
        values.append(new)
        found = _explored(proposals, thetas, values)
        if not np.isfinite(found.weights.log_evidence):
            raise NoCentreError("the marginal is not finite at too many of its draws")
        done = sum(number for number, _ in proposals)
        is_good = found.weights.k_hat < _LIGHT and found.weights.ess * done > _ENOUGH
        if is_good or done + 2 * size > most or len(proposals) == _ROUNDS:
            if found.weights.ess * done < _FEWEST:
                raise NoCentreError("draws of the global variables do not lead to their marginal")
            return found, Proposal.of_moments(*found.moments(proposal))
        if independent and found.weights.ess * done < _FEWEST:
            mean = mean + proposal.factor @ tilt
        else:
            mean, covariance = found.moments(proposal)
        size *= 2


def _marginals(
    conditional: Conditional,
    centre: Centre,
    theta: Floats,
    proposal: Proposal,
    *,
    independent: bool,
) -> tuple[Floats, Floats]:
    """The log marginal at draws of a proposal, shape (n, globals), and its tilt.

    The tilt is 0 where the local variables are not integrated over one by one.
    """
    with_middle = np.concatenate([theta, proposal.mean[None]])
    values, highest, z = [], -np.inf, centre.z
    for _, modes in modes_at(conditional, centre, with_middle, independent=independent):
        values.append(modes.log_marginal)
        best = int(modes.log_marginal.argmax())
        if modes.log_marginal[best] > highest:
            highest, z = float(modes.log_marginal[best]), modes.z[best]
    every = np.concatenate(values)
    found, middle = every[:-1], every[-1]
    tilt = _tilt(proposal, theta, found) if independent else np.zeros(theta.shape[1])
    if highest > middle + _HIGHER + tilt @ tilt / 2:
        raise HigherElsewhereError(z)
    return found, tilt


def _tilt(proposal: Proposal, theta: Floats, log_marginal: Floats) -> Floats:
    """By how much the log marginal slopes more than a Gaussian around the proposal's middle.

    In whitened units, so it is where the mode is; by least squares, of the nearer half of the
    draws. What integrals say, and the Gaussians did not by which the first proposal was found, adds
    up: thousands of local variables move the mode by many sds.
    """
    y = proposal.standardised(theta)
    norms = (y**2).sum(1)
    near = np.isfinite(log_marginal) & (norms <= np.median(norms))
    lines = np.column_stack([np.ones(near.sum()), y[near]])
    return np.asarray(np.linalg.lstsq(lines, log_marginal[near] + norms[near] / 2)[0][1:])


def _explored(
    proposals: list[tuple[int, Proposal]], thetas: list[Floats], values: list[Floats]
) -> Explored:
    theta = np.concatenate(thetas)
    numbers = np.array([number for number, _ in proposals])
    parts = np.stack([proposal.log_density(theta) for _, proposal in proposals])
    shares = np.log(numbers / numbers.sum())
    mixture = np.logaddexp.reduce(parts + shares[:, None])
    return Explored(theta, np.concatenate(values), mixture)
