"""How far the marginal of the global variables is from the posterior's, at proposed places."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pmflow.embedded.proposal import ways_around
from pmflow.embedded.proposed import MOST_PROPOSED, PROPOSED, Proposed
from pmflow.embedded.weighing import missed_by, parabola
from pmflow.judging.nested import MOST_OFF, is_open, times_as_many
from pmflow.watch import Stopped

__all__ = ["moved_globals"]

_FEWEST = 64
"""Of the proposed places, at which what is missed is looked at first."""
_MOST_TIMES, _WORK = 10, 3e10
"""Times that more places or more draws are taken, and numbers that the density may go through for
all that it takes, as far as can be told: a verdict that would be open then too is told as it is."""
_GROUPS = 8
"""Of draws at each of them, at a time."""
_END = 2.0
"""In sds: how far from the middle a parabola is used."""
_GRID = np.linspace(-6.0, 6.0, 121)
_FEW = 4
"""Global variables up to which places tell what a parabola does, whatever their marginal is."""
_QUIET = 0.02
"""Standard error of the mean or the sd of a global variable, in sds."""

type Floats = NDArray[np.float64]


def moved_globals(proposed: Proposed, rng: np.random.Generator) -> tuple[Proposed, Floats]:
    """How far weighting moves the global variables, known so well that it can be told.

    Returns
    -------
    Proposed
        With more draws, where those given left it open whether the marginal is off.
    ndarray, shape (4, globals)
        Shifts with their errors, growths of variances with their errors.
    """
    density = proposed.nested.conditional.density
    begun = density.spent
    seen = _Seen.of(proposed, _FEWEST, rng)
    with suppress(Stopped):
        for _ in range(_MOST_TIMES):
            if not seen.is_open or seen.times_as_many * (density.spent - begun) > _WORK:
                break
            seen = seen.more(rng)
    return seen.proposed, seen.moved


@dataclass(frozen=True, eq=False)
class _Seen:
    """What the fit has missed at some of the proposed places.

    Proposed places are weighed by the fit, and by what it has missed at each: there are more of
    them in its tails than draws of it. A parabola takes most of the noise: it is known by many
    draws at few places around the middle, and what is left of it by few draws at the proposed
    places, of which the parabola of the same draws is taken off. Errors are by leaving out one
    place, or one group of base draws, at a time.

    Attributes
    ----------
    proposed : Proposed
    few : ndarray of int, shape (places,)
        Which of its draws.
    missed : ndarray, shape (groups, places + 1 + 2 globals)
        At them, and around the middle, see `ways_around`.
    around : ndarray, shape (more groups, 1 + 2 globals)
        Around the middle, by many draws.
    """

    proposed: Proposed
    few: NDArray[np.int64]
    missed: Floats
    around: Floats

    @classmethod
    def of(cls, proposed: Proposed, most: int, rng: np.random.Generator) -> _Seen:
        """At so many places at most that are part of the fit."""
        few = proposed.known[:most]
        return cls(proposed, few, cls._missed(proposed, few, rng), cls._around(proposed, rng))

    def more(self, rng: np.random.Generator) -> _Seen:
        """With more draws or at twice as many places: what says more."""
        worst = [error.max() for error in (self._of_places, self._of_left, self._of_parabola)]
        if worst[2] == max(worst):
            around = np.concatenate([self.around, self._around(self.proposed, rng)])
            return replace(self, around=around)
        number = 2 * len(self.few)
        if worst[1] == max(worst) or number > MOST_PROPOSED:
            missed = self._missed(self.proposed, self.few, rng)
            return replace(self, missed=np.concatenate([self.missed, missed]))
        is_enough = number <= len(self.proposed.theta)
        return self.of(self.proposed if is_enough else self.proposed.doubled(rng), number, rng)

    @property
    def is_open(self) -> bool:
        """Whether noise decides, or more places that are there already are worth a look."""
        noise = self._of_places * [[1.0], [0.5]]
        is_noisy = len(self.few) < PROPOSED and noise.max() > _QUIET
        return is_open(self.moved, MOST_OFF) or bool(is_noisy)

    @property
    def times_as_many(self) -> float:
        """How much more has to be seen until noise does not decide."""
        return times_as_many(self.moved, MOST_OFF)

    @cached_property
    def moved(self) -> Floats:
        """Shifts of means and growths of variances, each with its errors, shape (4, globals)."""
        ((shift, growth),) = self._told(self._shares, self._around_mean, self._left.mean(0))
        errors = np.sqrt(self._of_places**2 + self._of_left**2 + self._of_parabola**2)
        return np.stack([shift, errors[0], growth, errors[1]])

    @cached_property
    def _around_mean(self) -> Floats:
        return self.around.mean(0, keepdims=True)

    @cached_property
    def _left(self) -> Floats:
        """What each group at the places has beside the parabola of the same draws."""
        places = len(self.few)
        return self.missed[:, :places] - self._parabolas_of(self.missed[:, places:])

    def _parabolas_of(self, around: Floats) -> Floats:
        """By what is missed around the middle, at the places; 0 where no mode was found there."""
        if not self._is_known:
            return np.zeros((len(around), len(self.few)))
        # far out it would say too much
        near = np.clip(self.proposed.whitened(self.proposed.theta[self.few]), -_END, _END)
        return np.asarray(self._coefficients(around) @ parabola(near).T)

    def _coefficients(self, around: Floats) -> Floats:
        return np.asarray(around @ np.linalg.inv(parabola(ways_around(self._y.shape[1]))).T)

    @cached_property
    def _is_known(self) -> bool:
        """Whether there is a parabola."""
        is_finite = np.isfinite(self.around).all() and np.isfinite(self.missed).all()
        return bool(is_finite and self.around.size)

    def _told(self, log_shares: Floats, around: Floats, left: Floats) -> Floats:
        """What the parabola and what is left beside it do to means and variances.

        In many dimensions a parabola does to some weighted places what chance has made of them. So
        it is told of a Gaussian instead, for which it needs no places, and these tell only what
        the rest changes about that.

        Parameters
        ----------
        log_shares : ndarray, shape (n or 1, places)
        around : ndarray, shape (n or 1, 1 + 2 globals)
        left : ndarray, shape (n or 1, places)

        Returns
        -------
        ndarray, shape (n, 2, globals)
        """
        parabolas = self._parabolas_of(around)
        found = _moved(log_shares, parabolas + left, self._y)
        if self._y.shape[1] <= _FEW or not self._is_known:
            return found
        mean, variance = _of_gaussian(self._coefficients(around))
        turn = self.proposed.turn
        told = np.stack([mean @ turn.T, variance @ (turn**2).T - 1], axis=1)
        return np.asarray(found - _moved(log_shares, parabolas, self._y) + told)

    @cached_property
    def _of_places(self) -> Floats:
        """Errors that come of the places, shape (2, globals)."""
        all_but_one = self._shares + np.where(np.eye(len(self.few), dtype=bool), -np.inf, 0.0)
        return _jackknife(self._told(all_but_one, self._around_mean, self._left.mean(0)))

    @cached_property
    def _of_left(self) -> Floats:
        """Errors that come of the draws at them."""
        found = self._told(self._shares, self._around_mean, _without_each(self._left))
        return _jackknife(found)

    @cached_property
    def _of_parabola(self) -> Floats:
        """Errors that come of the draws around the middle."""
        found = self._told(self._shares, _without_each(self.around), self._left.mean(0))
        return _jackknife(found)

    @cached_property
    def _y(self) -> Floats:
        return self.proposed.standardised(self.proposed.theta[self.few])

    @property
    def _shares(self) -> Floats:
        return np.log(self.proposed.shares[self.few])[None]

    @staticmethod
    def _missed(proposed: Proposed, few: NDArray[np.int64], rng: np.random.Generator) -> Floats:
        theta, around = proposed.around
        places = [*(proposed.every[number] for number in few), *around]
        y = proposed.standardised(np.concatenate([proposed.theta[few], theta]))
        nested = proposed.nested
        return missed_by(nested.conditional, places, y, rng, nested.weighed_by, _GROUPS).by_group

    @staticmethod
    def _around(proposed: Proposed, rng: np.random.Generator) -> Floats:
        theta, around = proposed.around
        if not around:
            return np.empty((2, 0))
        y, nested = proposed.standardised(theta), proposed.nested
        return missed_by(nested.conditional, around, y, rng, nested.weighed_by).by_group


def _without_each(values: Floats) -> Floats:
    """Means of rows, but for one each."""
    return np.asarray((values.sum(0) - values) / (len(values) - 1))


def _of_gaussian(coefficients: Floats) -> tuple[Floats, Floats]:
    """Means and variances of standard normal variables that are weighted by parabolas.

    Parameters
    ----------
    coefficients : ndarray, shape (n, 1 + 2 globals)
        Of 1, the variables and their squares, see `parabola`.
    """
    size = coefficients.shape[1] // 2
    line, square = coefficients[:, 1 : 1 + size, None], coefficients[:, 1 + size :, None]
    near = np.clip(_GRID, -_END, _END)
    log_weights = line * near + square * near**2 - _GRID**2 / 2
    weights = np.exp(log_weights - log_weights.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    mean = weights @ _GRID
    return mean, weights @ _GRID**2 - mean**2


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
