"""Local variables that are independent given the global ones, each with its own density."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from pmflow.embedded.factor import loops
from pmflow.posterior.density import LogDensity
from pmflow.watch import tick

__all__ = ["Curves", "curves_at"]

_TRIED = np.array([1.5, 3.0, 4.5])
"""How far from the mode it is looked, in conditional sds, for where a density ends."""
_FARTHEST, _NODES = 6.0, 25
"""How far it is known at most, and at how many places."""
_ENDED = -30.0
"""Log density relative to the mode, as told by a few slopes, at which it has ended."""
_LOW, _HIGH = -8.0, 0.5
"""Log density relative to the mode: above the first at an end, too much is beyond; above the second
anywhere, the mode is none."""
_OFF = 1e-3
"""Nats for each variable by which integrals of slopes may miss the density along their path."""
_FINE = 161
"""Places of the table by which draws are made."""

type Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Rule:
    """What integrates polynomials that are given at Chebyshev's nodes, from -1 to 1."""

    nodes: Floats
    to_coefficients: Floats
    to_integral: Floats
    """Coefficients of the integral, of values at the nodes."""
    weights: Floats
    fine: Floats
    to_fine: Floats


@cache
def _rule() -> _Rule:
    nodes: Floats = -np.cos(np.pi * np.arange(_NODES) / (_NODES - 1))
    inverse = np.linalg.inv(chebyshev.chebvander(nodes, _NODES - 1))
    to_coefficients = np.asarray(inverse, dtype=float)
    to_integral = chebyshev.chebint(np.eye(_NODES)) @ to_coefficients
    ends = chebyshev.chebvander(np.array([-1.0, 1.0]), _NODES) @ to_integral
    fine = np.linspace(-1.0, 1.0, _FINE)
    to_fine = chebyshev.chebvander(fine, _NODES - 1) @ to_coefficients
    return _Rule(nodes, to_coefficients, to_integral, ends[1] - ends[0], fine, to_fine)


@dataclass(frozen=True, eq=False)
class Curves:
    """The densities of independent variables.

    Attributes
    ----------
    middle, half : ndarray, shape (locals,)
        The interval in which each is known, from its mode.
    logs : ndarray, shape (nodes, locals)
        Log density at Chebyshev's nodes of these intervals, relative to the mode.
    """

    middle: Floats
    half: Floats
    logs: Floats

    @cached_property
    def log_masses(self) -> Floats:
        """Log of the integral of each, relative to the density at the mode, shape (locals,)."""
        with np.errstate(all="ignore"):
            return np.asarray(np.log(_rule().weights @ np.exp(self.logs)) + np.log(self.half))

    def moments(self) -> tuple[Floats, Floats]:
        """Means, less the modes, and variances, shape (locals,) each."""
        rule = _rule()
        shares = rule.weights[:, None] * np.exp(self.logs)
        shares /= shares.sum(0)
        mean = rule.nodes @ shares
        variance = rule.nodes**2 @ shares - mean**2
        return self.middle + self.half * mean, self.half**2 * variance

    @cached_property
    def _coefficients(self) -> Floats:
        return _rule().to_coefficients @ self.logs

    def log_density(self, away: Floats) -> Floats:
        """Log density of all together, so far from the modes: of shape (n, locals), shape (n,)."""
        x = (away - self.middle) / self.half
        values = chebyshev.chebval(x, self._coefficients, tensor=False) - self.log_masses
        return np.where(np.abs(x) <= 1, values, -np.inf).sum(1)

    def slope(self, away: Floats) -> Floats:
        """Derivative of each by itself, so far from the modes, shape (n, locals)."""
        derivative = chebyshev.chebder(self._coefficients)
        x = (away - self.middle) / self.half
        return np.asarray(chebyshev.chebval(x, derivative, tensor=False) / self.half)

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
        return self.middle + self.half * (found * (rule.fine[1] - rule.fine[0]) - 1)


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
        Log density at `z`; NaN where polynomials are not near enough to the slopes.
    bool
        Whether little is beyond their ends too.
    """
    tick()
    rule, sds = _rule(), 1 / np.sqrt(precisions)
    low, high, here = _ends(density, z, inner, sds)
    middle, half = (low + high) / 2, (high - low) / 2
    points = np.repeat(z[None], _NODES, axis=0)
    points[:, inner] += middle + half * rule.nodes[:, None]
    value, gradient = density.value_and_gradient(points)
    integral = rule.to_integral @ (gradient[:, inner] * half)
    logs = chebyshev.chebval(rule.nodes, integral).T  # shape (nodes, locals)
    logs = logs - chebyshev.chebval(-middle / half, integral, tensor=False)
    near = np.abs(rule.nodes) < 0.5
    with np.errstate(invalid="ignore"):
        missed = float(np.abs(value - here - logs.sum(1))[near].max())
    is_known = bool(np.isfinite(value).all()) and missed < _OFF * len(inner)
    if not (is_known and logs.max() < _HIGH):
        return Curves(middle, half, logs), np.nan, False
    return Curves(middle, half, logs), here, float(logs[[0, -1]].max()) < _LOW


def _ends(
    density: LogDensity, z: Floats, inner: NDArray[np.int64], sds: Floats
) -> tuple[Floats, Floats, float]:
    """How far below and above its mode each density is followed, and the log density at `z`."""
    steps = np.concatenate([[0.0], -_TRIED, _TRIED])
    points = np.repeat(z[None], len(steps), axis=0)
    points[:, inner] += steps[:, None] * sds
    value, gradient = density.value_and_gradient(points)
    slopes = gradient[:, inner] * sds
    lengths = np.diff(_TRIED, prepend=0.0)[:, None]
    found = []
    for sign, part in ((-1.0, slopes[1 : 1 + len(_TRIED)]), (1.0, slopes[1 + len(_TRIED) :])):
        before = np.concatenate([slopes[:1], part[:-1]])
        log = np.cumsum(sign * lengths * (before + part) / 2, axis=0)
        has_ended = log < _ENDED
        end = np.where(has_ended.any(0), _TRIED[has_ended.argmax(0)], _FARTHEST)
        found.append(sign * end * sds)
    return found[0], found[1], float(value[0])
