"""Local variables that are independent given the global ones, each with its own density."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from pmflow.embedded.factor import loops
from pmflow.posterior.density import LogDensity
from pmflow.watch import tick

__all__ = ["Curves", "curves_at"]

_FARTHEST, _NODES = 6.0, 25
"""How far from the mode a density is known, in conditional sds, and at how many places."""
_LOW = -8.0
"""Log density at the ends, relative to the mode, above which too much is beyond them."""
_OFF = 1e-3
"""Nats for each variable by which the sum of all curves may miss the density: more, and they are
not independent."""
_FINE = 161
"""Places of the table by which draws are made."""

type Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Rule:
    """What integrates polynomials that are given at Chebyshev's nodes."""

    nodes: Floats
    to_coefficients: Floats
    from_middle: Floats
    """Integrals from the middle node to each, of values at the nodes."""
    weights: Floats
    fine: Floats
    to_fine: Floats


@cache
def _rule() -> _Rule:
    unit: Floats = -np.cos(np.pi * np.arange(_NODES) / (_NODES - 1))
    to_coefficients = np.asarray(np.linalg.inv(chebyshev.chebvander(unit, _NODES - 1)), dtype=float)
    integrals = chebyshev.chebint(np.eye(_NODES))
    at = _FARTHEST * chebyshev.chebvander(unit, _NODES) @ integrals @ to_coefficients
    fine = np.linspace(-1.0, 1.0, _FINE)
    return _Rule(
        nodes=_FARTHEST * unit,
        to_coefficients=to_coefficients,
        from_middle=at - at[_NODES // 2],
        weights=at[-1] - at[0],
        fine=_FARTHEST * fine,
        to_fine=chebyshev.chebvander(fine, _NODES - 1) @ to_coefficients,
    )


@dataclass(frozen=True, eq=False)
class Curves:
    """The densities of independent variables.

    Attributes
    ----------
    sds : ndarray, shape (locals,)
        By the curvature at their modes.
    logs : ndarray, shape (nodes, locals)
        Log density at Chebyshev's nodes around the mode, relative to it.
    """

    sds: Floats
    logs: Floats

    @property
    def log_masses(self) -> Floats:
        """Log of the integral of each, relative to the density at the mode, shape (locals,)."""
        with np.errstate(all="ignore"):
            return np.asarray(np.log(_rule().weights @ np.exp(self.logs)) + np.log(self.sds))

    def moments(self) -> tuple[Floats, Floats]:
        """Means, less the modes, and variances, shape (locals,) each."""
        rule = _rule()
        shares = rule.weights[:, None] * np.exp(self.logs)
        shares /= shares.sum(0)
        mean = rule.nodes @ shares
        return self.sds * mean, self.sds**2 * (rule.nodes**2 @ shares - mean**2)

    @property
    def _coefficients(self) -> Floats:
        return _rule().to_coefficients @ self.logs

    def log_density(self, away: Floats) -> Floats:
        """Log density of all together, so far from the modes: of shape (n, locals), shape (n,)."""
        x = away / (_FARTHEST * self.sds)
        values = chebyshev.chebval(x, self._coefficients, tensor=False) - self.log_masses
        return np.where(np.abs(x) <= 1, values, -np.inf).sum(1)

    def slope(self, away: Floats) -> Floats:
        """Derivative of each by itself, so far from the modes, shape (n, locals)."""
        unit = _FARTHEST * self.sds
        derivative = chebyshev.chebder(self._coefficients)
        return np.asarray(chebyshev.chebval(away / unit, derivative, tensor=False) / unit)

    def drawn(self, e: Floats) -> Floats:
        """Draws from base draws of shape (n, locals), less the modes: each by its quantiles."""
        from scipy.special import ndtr

        rule = _rule()
        density = np.exp(rule.to_fine @ self.logs)
        masses = np.zeros_like(density)
        np.cumsum((density[1:] + density[:-1]) / 2, axis=0, out=masses[1:])
        masses /= masses[-1]
        found = np.empty_like(e)
        loops().inverted(masses, ndtr(e), found)
        return found * (rule.fine[1] - rule.fine[0]) * self.sds - _FARTHEST * self.sds


def curves_at(
    density: LogDensity, z: Floats, inner: NDArray[np.int64], precisions: Floats
) -> tuple[Curves, float, bool]:
    """The densities of local variables at one place, by the gradient along all of them at once.

    Parameters
    ----------
    density : LogDensity
    z : ndarray, shape (dim,)
        The local variables at their modes.
    inner : ndarray
        Their places.
    precisions : ndarray, shape (locals,)
        Minus the second derivatives there.

    Returns
    -------
    Curves
    float
        Log density at `z`; NaN where the sum of the curves is not what the density is.
    bool
        Whether little is beyond their ends too.
    """
    tick()
    rule, sds = _rule(), 1 / np.sqrt(precisions)
    points = np.repeat(z[None], _NODES, axis=0)
    points[:, inner] += rule.nodes[:, None] * sds
    value, gradient = density.value_and_gradient(points)
    logs = rule.from_middle @ (gradient[:, inner] * sds)
    here = float(value[_NODES // 2])
    near = np.abs(rule.nodes) < _FARTHEST / 2
    with np.errstate(invalid="ignore"):
        missed = np.abs(value - here - logs.sum(1))[near].max()
    is_all = bool(
        np.isfinite(value).all() and missed < _OFF * len(inner) and logs[[0, -1]].max() < _LOW
    )
    return Curves(sds, logs), here, is_all
