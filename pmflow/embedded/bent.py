"""Correlated global variables, each with a skewness and tails of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pmflow.draws.standard import t_points
from pmflow.embedded.proposal import Proposal
from pmflow.embedded.tilt import Tilt
from pmflow.records import State

__all__ = ["KNOTS", "Bends", "Bent"]

KNOTS = np.linspace(-5.0, 5.0, 41)
"""Of normal variables, where their maps are known."""
_HALVINGS, _NEWTON = 8, 4
_FOR_MOMENTS = 4_096

type Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Bends(State):
    r"""Increasing maps of normal variables, one for each: cubic pieces, and straight farther out.

    Attributes
    ----------
    values, slopes : ndarray, shape (knots, size)
        Global variables, and their derivatives, where the normal ones are at `KNOTS`.
    """

    values: Floats
    slopes: Floats

    @classmethod
    def straight(cls, middle: Floats, scale: Floats) -> Self:
        """Those that are affine."""
        return cls(middle + KNOTS[:, None] * scale, np.tile(scale, (len(KNOTS), 1)))

    @classmethod
    def through(cls, values: Floats, slopes: Floats) -> Self:
        """Those through some places, where needed flatter than asked for, so that they increase.

        Up to three times as steep as the straight lines to both neighbours they do, by Fritsch &
        Carlson (1980), https://doi.org/10.1137/0717021.
        """
        secants = np.diff(values, axis=0) / np.diff(KNOTS)[:, None]
        least = np.minimum(
            np.concatenate([secants[:1], secants]), np.concatenate([secants, secants[-1:]])
        )
        return cls(values, np.minimum(slopes, 3 * least))

    def __call__(self, psi: Floats) -> Floats:
        """Normal variables, shape (n, size), as the global ones."""
        near = np.clip(psi, KNOTS[0], KNOTS[-1])
        return self._at(near, 0) + self._at(near, 1) * (psi - near)

    def undone(self, theta: Floats) -> Floats:
        """Global variables, shape (n, size), as normal ones."""
        near = np.clip(theta, self.values[0], self.values[-1])
        which = [
            np.clip(np.searchsorted(values, at) - 1, 0, len(KNOTS) - 2)
            for values, at in zip(self.values.T, near.T, strict=True)
        ]
        low = KNOTS[np.stack(which, axis=1)]
        high = low + KNOTS[1] - KNOTS[0]
        for _ in range(_HALVINGS):
            psi = (low + high) / 2
            is_below = self._at(psi, 0) < near
            low, high = np.where(is_below, psi, low), np.where(is_below, high, psi)
        psi = (low + high) / 2
        for _ in range(_NEWTON):
            psi = np.clip(psi + (near - self._at(psi, 0)) / self._at(psi, 1), low, high)
        return np.asarray(psi + (theta - near) / self._at(psi, 1))

    def log_slopes(self, psi: Floats) -> Floats:
        """Log derivative of each by its normal variable."""
        return np.asarray(np.log(self._at(np.clip(psi, KNOTS[0], KNOTS[-1]), 1)))

    def pulled_back(self, psi: Floats, scores: Floats) -> Floats:
        """Gradients of a log density by the global variables, as those by the normal ones.

        Of the density of these, that is: the volume that the map changes is in it.
        """
        near = np.clip(psi, KNOTS[0], KNOTS[-1])
        slope, bent = self._at(near, 1), self._at(near, 2)
        return np.asarray(scores * slope + np.where(psi == near, bent / slope, 0.0))

    def _at(self, psi: Floats, order: int) -> Floats:
        """Values or derivatives, between the knots."""
        columns = [pieces[order](at) for pieces, at in zip(self._pieces, psi.T, strict=True)]
        return np.stack(columns, axis=1)

    @cached_property
    def _pieces(self) -> list[tuple[Any, Any, Any]]:
        from scipy.interpolate import CubicHermiteSpline

        found = []
        for values, slopes in zip(self.values.T, self.slopes.T, strict=True):
            pieces = CubicHermiteSpline(KNOTS, values, slopes)
            found.append((pieces, pieces.derivative(), pieces.derivative(2)))
        return found


@dataclass(frozen=True, eq=False)
class Bent(State):
    r"""A Gaussian whose coordinates are bent: :math:`\theta = T(\mu + R y)`, y standard normal.

    Attributes
    ----------
    mean : ndarray, shape (globals,)
    root : ndarray, shape (globals, globals)
        Lower triangular.
    bends : Bends
    tilt : Tilt or None
        By which y is weighted.
    df : float
        Degrees of freedom of y, which is normal where they are infinite.
    """

    mean: Floats
    root: Floats
    bends: Bends
    tilt: Tilt | None = None
    df: float = np.inf

    @classmethod
    def gaussian(cls, mean: Floats, covariance: Floats) -> Self:
        """One that is not bent yet."""
        sds = np.sqrt(np.diag(covariance))
        root = np.linalg.cholesky(covariance / np.outer(sds, sds))
        return cls(np.zeros_like(mean), root, Bends.straight(mean, sds))

    def placed(self, y: Floats) -> Floats:
        """Standard normal variables, shape (n, globals), as global ones."""
        return self.bends(self.mean + y @ self.root.T)

    def standardised(self, theta: Floats) -> Floats:
        """`placed`, undone."""
        return self._undone(theta)[0]

    def draws(self, number: int, seed: int) -> Floats:
        """Points that fill the space evenly, shape (number, globals)."""
        return self.placed(self.standard_draws(number, seed))

    def standard_draws(self, number: int, seed: int) -> Floats:
        """The same as `placed` takes them."""
        if self.tilt is not None:
            return self.tilt.chosen(number, seed)
        return t_points(number, len(self.mean), seed, self.df)

    def log_density(self, theta: Floats) -> Floats:
        """At points of shape (n, globals), shape (n,)."""
        from scipy.stats import t

        y, psi = self._undone(theta)
        constant = np.log(np.diag(self.root)).sum()
        if self.tilt is not None:
            constant = constant + self.tilt.log_mass - self.tilt(y)
        of_y = t.logpdf(y, self.df).sum(1)
        return np.asarray(of_y - self.bends.log_slopes(psi).sum(1) - constant)

    def heavier(self, df: float) -> Bent:
        """The same with y of t distributions: to propose what is weighted."""
        return replace(self, df=df, tilt=self.tilt and replace(self.tilt, df=df))

    def excess(self, theta: Floats, scores: Floats) -> Floats:
        """Gradients of log p - log q by the standard normal variables, of those of log p.

        Parameters
        ----------
        theta, scores : ndarray, shape (n, globals)
            Places, and the gradients of log p by the global variables there.
        """
        y, psi = self._undone(theta)
        found = self.bends.pulled_back(psi, scores) @ self.root + y
        return np.asarray(found if self.tilt is None else found - self.tilt.gradient(y))

    @property
    def covariance(self) -> Floats:
        """Of the normal variables that are bent, shape (globals, globals)."""
        return np.asarray(self.root @ self.root.T)

    @cached_property
    def by_moments(self) -> Proposal:
        """The proposal with about the same mean and covariance."""
        theta = self.draws(_FOR_MOMENTS, 0)
        return Proposal.of_moments(theta.mean(0), np.atleast_2d(np.cov(theta.T)))

    def _undone(self, theta: Floats) -> tuple[Floats, Floats]:
        """Standard normal variables, and the same as they are bent."""
        psi = self.bends.undone(theta)
        return np.asarray(np.linalg.solve(self.root, (psi - self.mean).T).T), psi
