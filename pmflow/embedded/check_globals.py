"""How far the marginal of the global variables is from the posterior's, at proposed places."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pmflow.embedded.conditional import Conditional
from pmflow.embedded.given import Given
from pmflow.embedded.nested import Nested
from pmflow.embedded.weighing import missed_by
from pmflow.errors import UnsupportedError
from pmflow.judging.nested import is_open
from pmflow.judging.weights import Weights, importance_weights
from pmflow.watch import Stopped

__all__ = ["Proposed", "moved_globals"]

_PROPOSED, _WANTED, _MOST_PROPOSED = 128, 64.0, 512
"""Global variables that are proposed; more of them where these are fewer effective draws, or leave
the verdict open."""
_FEWEST = 64
"""Of the proposed places, at which what is missed is looked at first."""
_LEAST_SHARE = 1e-8
"""Of the largest: places with less are no part of the fit."""
_QUIET = 0.02
"""Standard error of the mean or the sd of a global variable, in sds."""

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
        number = _PROPOSED
        while nested.state.ess * number < _WANTED and number < _MOST_PROPOSED:
            number *= 2
        found = cls(nested, *_drawn(nested, number, rng))
        if not found.shares.any():
            raise UnsupportedError(
                "The fit can't be judged: at none of its draws of the global variables a mode of "
                "the others was found. Has the model changed since it was fitted? Fit it again: "
                "approx = pmf.fit(model=model)."
            )
        return found

    def doubled(self, rng: np.random.Generator) -> Proposed:
        """With as many again."""
        theta, every = _drawn(self.nested, len(self.theta), rng)
        return Proposed(self.nested, np.concatenate([self.theta, theta]), self.every + every)

    @cached_property
    def weights(self) -> Weights:
        """Importance weights of the draws."""
        log_marginal = np.concatenate([given.log_marginal for given in self.every])
        return importance_weights(log_marginal, self.nested.state.proposal.log_density(self.theta))

    @cached_property
    def shares(self) -> Floats:
        """What each draw counts; the same for all where too few are finite to be weighted."""
        shares = np.exp(self.weights.log_weights)
        if shares.any():
            return shares
        return np.isfinite([given.log_marginal[0] for given in self.every]).astype(float)

    def standardised(self) -> Floats:
        """The draws in units of the marginal, shape (draws, globals)."""
        shares = self.shares / self.shares.sum()
        away = self.theta - shares @ self.theta
        return np.asarray(away / np.sqrt(shares @ away**2))


def _drawn(nested: Nested, number: int, rng: np.random.Generator) -> tuple[Floats, list[Given]]:
    theta = nested.state.proposal.draws(number, int(rng.integers(2**30)))
    return theta, list(nested.each(theta))


def moved_globals(
    nested: Nested, proposed: Proposed, rng: np.random.Generator
) -> tuple[Proposed, Floats]:
    """How far weighting moves the global variables, at so many places that it can be told.

    Returns
    -------
    Proposed
        With more draws, where those given left it open whether the marginal is off.
    ndarray, shape (4, globals)
        Shifts with their errors, growths of variances with their errors.
    """
    most = _FEWEST
    found = _moved_at(nested.conditional, proposed, most, rng)
    with suppress(Stopped):
        while most < _MOST_PROPOSED and (
            is_open(*found) or (most < _PROPOSED and _is_noisy(found))
        ):
            most *= 2
            if most > len(proposed.theta):
                proposed = proposed.doubled(rng)
            found = _moved_at(nested.conditional, proposed, most, rng)
    return proposed, found


def _is_noisy(found: Floats) -> bool:
    _, of_shift, _, of_growth = found
    return bool(max(of_shift.max(), of_growth.max() / 2) > _QUIET)


def _moved_at(
    conditional: Conditional, proposed: Proposed, most: int, rng: np.random.Generator
) -> Floats:
    """What is found at so many of the places that are part of the fit."""
    (known,) = np.nonzero(proposed.shares > _LEAST_SHARE * proposed.shares.max())
    few = known[:most]
    places = [proposed.every[number] for number in few]
    log_shares = np.log(proposed.shares[few])
    return _of_globals(conditional, places, proposed.standardised()[few], log_shares, rng)


def _of_globals(
    conditional: Conditional,
    places: list[Given],
    y: Floats,
    log_shares: Floats,
    rng: np.random.Generator,
) -> Floats:
    """Shifts of the global variables, and growths of their variances, each with its errors.

    Proposed places are weighed by the fit, and by what it has missed at each: there are more of
    them in its tails than draws of it. Errors are by leaving out one place, or one group of base
    draws, at a time.
    """
    missed = missed_by(conditional, places, y, rng).by_group
    mean = missed.mean(0)
    ((shift, growth),) = _moved(log_shares[None], mean[None], y)
    all_but_one = log_shares + np.where(np.eye(len(y), dtype=bool), -np.inf, 0.0)
    of_places = _moved(all_but_one, mean[None], y)
    of_groups = _moved(log_shares[None], (missed.sum(0) - missed) / (len(missed) - 1), y)
    errors = np.sqrt(_jackknife(of_places) ** 2 + _jackknife(of_groups) ** 2)
    return np.stack([shift, errors[0], growth, errors[1]])


def _moved(log_shares: Floats, log_weights: Floats, y: Floats) -> Floats:
    """What weights do to means and variances of places, in units of their sds.

    Parameters
    ----------
    log_shares, log_weights : ndarray, shape (n or 1, places)
        What the places count, and what they are weighed by.
    y : ndarray, shape (places, globals)

    Returns
    -------
    ndarray, shape (n, 2, globals)
    """
    before, variance_before = _moments(log_shares, y)
    mean, variance = _moments(log_shares + log_weights, y)
    sd = np.sqrt(variance_before)
    return np.stack([(mean - before) / sd, variance / variance_before - 1], axis=1)


def _moments(log_weights: Floats, y: Floats) -> tuple[Floats, Floats]:
    shares = np.exp(log_weights - log_weights.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    mean = shares @ y
    return mean, shares @ y**2 - mean**2


def _jackknife(found: Floats) -> Floats:
    """Standard errors by values of shape (n, ...), that leave one out each."""
    return np.asarray(np.sqrt((len(found) - 1) * found.var(0)))
