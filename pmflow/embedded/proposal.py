"""Where the global variables are drawn from, before they are weighted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pmflow.draws.standard import uniform_points
from pmflow.records import State

__all__ = ["Proposal", "ways_around", "weighted_moments"]

_DF = 5.0
"""Degrees of freedom: tails that are heavier than those of a posterior, as a rule."""
_SPREADS, _SHARES = (1.3, 4.0), (0.75, 0.25)
"""By how much the covariance is inflated, in so many of the draws."""

_WAY = 1.0
"""In sds: how far around the middle it is seen what is missed."""

type Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Proposal(State):
    """Two t distributions around one place, a near one and a wide one.

    Parameters
    ----------
    mean : ndarray, shape (globals,)
    factor : ndarray, shape (globals, globals)
        Lower triangular root of the covariance that is inflated.
    """

    mean: Floats
    factor: Floats

    @classmethod
    def of_moments(cls, mean: Floats, covariance: Floats) -> Proposal:
        """The proposal with this mean, for a posterior with this covariance."""
        return cls(mean, np.linalg.cholesky(covariance))

    def draws(self, number: int, seed: int) -> Floats:
        """Points that fill the space evenly, shape (number, globals)."""
        from scipy.stats import chi2, norm

        u = uniform_points(number, len(self.mean) + 2, seed)
        normal, scale, which = norm.ppf(u[:, :-2]), chi2.ppf(u[:, -2], _DF) / _DF, u[:, -1]
        spread = np.where(which < _SHARES[0], *np.sqrt(_SPREADS))
        return self.mean + (spread / np.sqrt(scale))[:, None] * normal @ self.factor.T

    def standardised(self, theta: Floats) -> Floats:
        """Points of shape (n, globals) in units of the covariance, from the mean."""
        y: Floats = np.linalg.solve(self.factor, (theta - self.mean).T).T
        return y

    def log_density(self, theta: Floats) -> Floats:
        """At points of shape (n, globals), shape (n,)."""
        from scipy.special import gammaln

        size = len(self.mean)
        norms = (self.standardised(theta) ** 2).sum(1)
        constant = gammaln((_DF + size) / 2) - gammaln(_DF / 2) - size / 2 * np.log(_DF * np.pi)
        constant -= np.log(np.diag(self.factor)).sum()
        parts = [
            np.log(share) - size / 2 * np.log(s) - (_DF + size) / 2 * np.log1p(norms / (_DF * s))
            for s, share in zip(_SPREADS, _SHARES, strict=True)
        ]
        return np.asarray(constant + np.logaddexp(*parts))


def weighted_moments(shares: Floats, theta: Floats) -> tuple[Floats, Floats]:
    """Mean and covariance of points of shape (n, globals), each of which counts so much."""
    shares = shares / shares.sum()
    mean = shares @ theta
    away = theta - mean
    return mean, (shares[:, None] * away).T @ away


def ways_around(size: int) -> Floats:
    """The middle, and a way to both sides along each of the variables, shape (1 + 2 size, size).

    Of whitened ones: along a variable that hangs together with others one sd may be far out.
    """
    one = _WAY * np.eye(size)
    return np.concatenate([np.zeros((1, size)), one, -one])
