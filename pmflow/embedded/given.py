"""The distributions of local variables at some values of the global ones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pmflow.embedded.curves import Curves
from pmflow.embedded.factor import Factor

__all__ = ["Given", "Modes"]

type Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Modes:
    r"""Where the local variables are most probable, at each of some values of the global ones.

    Attributes
    ----------
    z : ndarray, shape (n, dim)
        Whole points, unconstrained.
    factors : tuple of Factor
        Of the precision of the local variables at each.
    log_marginal : ndarray, shape (n,)
        Log of the density of the global variables, not normalised, by Laplace's approximation:
        :math:`\log p(\theta, \hat u) - \log N(\hat u; \hat u, P^{-1})`, or by the densities of
        independent variables; -inf where no mode was found.
    curves : tuple of Curves, optional
        These densities.
    """

    z: Floats
    factors: tuple[Factor, ...]
    log_marginal: Floats
    curves: tuple[Curves, ...] | None = None


@dataclass(frozen=True, eq=False)
class Given:
    """The distributions of the local variables at some values of the global ones.

    Attributes
    ----------
    z : ndarray, shape (n, dim)
        Whole points: the local variables at the middle of their distributions.
    factors : tuple of Factor
    log_marginal : ndarray, shape (n,)
        Log density of the global variables, corrected, not normalised.
    curves : tuple of Curves, optional
        Of independent local variables; None where they are Gaussian.
    """

    z: Floats
    factors: tuple[Factor, ...]
    log_marginal: Floats
    curves: tuple[Curves, ...] | None = None

    def each(self) -> Iterator[Given]:
        """One place at a time."""
        for i, factor in enumerate(self.factors):
            curves = None if self.curves is None else self.curves[i : i + 1]
            yield Given(self.z[i : i + 1], (factor,), self.log_marginal[i : i + 1], curves)

    @property
    def factor(self) -> Factor:
        """That of the one place."""
        (factor,) = self.factors
        return factor

    def drawn(self, e: Floats, inner: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
        """Draws at the one place, from base draws of shape (n, locals).

        Parameters
        ----------
        e : ndarray, shape (n, locals)
        inner : ndarray
            Places of the local variables in the latent vector.

        Returns
        -------
        z : ndarray, shape (n, dim)
        deviation : ndarray, shape (n, locals)
            From the middle.
        log_q : ndarray, shape (n,)
            Log density of the draws, not normalised.
        """
        z = np.repeat(self.z, len(e), axis=0)
        if self.curves is None:
            deviation, log_q = self.factor.coloured(e), self._log_density((e**2).sum(1))
        else:
            deviation = self.curves[0].drawn(e)
            log_q = self.log_density(deviation)
        z[:, inner] += deviation
        return z, deviation, log_q

    def log_density(self, deviation: Floats) -> Floats:
        """Log density at the one place, not normalised, so far from the middle: shape (n,)."""
        if self.curves is not None:
            return np.asarray(self.log_marginal[0] + self.curves[0].log_density(deviation))
        return self._log_density(self.factor.squared_norm(deviation))

    def slope(self, deviation: Floats) -> Floats:
        """Covariance times the gradient of the log density there, shape (n, locals)."""
        if self.curves is None:
            return -deviation
        return self.factor.solve(self.curves[0].slope(deviation))

    def _log_density(self, squared_norm: Floats) -> Floats:
        size = self.factor.size
        constant = self.factor.log_det / 2 - size / 2 * math.log(2 * math.pi)
        return np.asarray(self.log_marginal[0] + constant - squared_norm / 2)
