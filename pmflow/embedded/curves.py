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

_FARTHEST = 6.0
"""How far from the mode a density is known at most, in conditional sds."""
_FEW, _MANY = 13, 25
"""At how many places: Chebyshev's nodes, of which the few are every second one of the many."""
_ENDED = -30.0
"""Log density relative to the mode, as told by a few slopes, at which it has ended."""
_LOW, _HIGH = -8.0, 0.5
"""Log density relative to the mode: above the first at an end, too much is beyond; above the second
anywhere, the mode is none."""
_CLOSE, _OFF = 0.02, 1e-3
"""Nats by which integrals of slopes may miss the density of all variables together along their
path, where few nodes will do; and the same for each variable, where they are many."""
_STEPS = 65
"""Places of the sums by which moments are taken: of a density that ends they are exact."""
_FINE = 161
"""Places of the table by which draws are made."""

type Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Rule:
    """Polynomials that are given at Chebyshev's nodes, from -1 to 1."""

    nodes: Floats
    to_coefficients: Floats
    to_logs: Floats
    """Integrals from the first node to each, of values at the nodes."""
    steps: Floats
    to_steps: Floats
    fine: Floats
    to_fine: Floats


@cache
def _rule(number: int) -> _Rule:
    nodes: Floats = -np.cos(np.pi * np.arange(number) / (number - 1))
    inverse = np.linalg.inv(chebyshev.chebvander(nodes, number - 1))
    to_coefficients = np.asarray(inverse, dtype=float)
    integrals = chebyshev.chebint(np.eye(number), lbnd=-1.0)
    to_logs = chebyshev.chebvander(nodes, number) @ integrals @ to_coefficients
    steps, fine = np.linspace(-1.0, 1.0, _STEPS), np.linspace(-1.0, 1.0, _FINE)
    to_steps, to_fine = (
        chebyshev.chebvander(at, number - 1) @ to_coefficients for at in (steps, fine)
    )
    return _Rule(nodes, to_coefficients, to_logs, steps, to_steps, fine, to_fine)


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

    @property
    def _rule(self) -> _Rule:
        return _rule(len(self.logs))

    def _density(self) -> Floats:
        """Relative to that at the mode, at the steps of the rule: too much to be kept."""
        with np.errstate(over="ignore"):
            found = np.exp(self._rule.to_steps @ self.logs)
        found[[0, -1]] /= 2  # the trapezoidal rule
        return np.asarray(found)

    @cached_property
    def log_masses(self) -> Floats:
        """Log of the integral of each, relative to the density at the mode, shape (locals,)."""
        step = 2.0 / (_STEPS - 1)
        with np.errstate(all="ignore"):
            return np.asarray(np.log(step * self._density().sum(0)) + np.log(self.half))

    def moments(self) -> tuple[Floats, Floats]:
        """Means, less the modes, and variances, shape (locals,) each."""
        shares = self._density()
        shares /= shares.sum(0)
        steps = self._rule.steps
        mean = steps @ shares
        variance = steps**2 @ shares - mean**2
        return self.middle + self.half * mean, self.half**2 * variance

    @cached_property
    def _coefficients(self) -> Floats:
        return self._rule.to_coefficients @ self.logs

    def log_density(self, away: Floats) -> Floats:
        """Log density of all together, so far from the modes: of shape (n, locals), shape (n,)."""
        x = (away - self.middle) / self.half
        values = _series(self._coefficients, x) - self.log_masses
        return np.where(np.abs(x) <= 1, values, -np.inf).sum(1)

    def slope(self, away: Floats) -> Floats:
        """Derivative of each by itself, so far from the modes, shape (n, locals)."""
        derivative = np.asarray(chebyshev.chebder(self._coefficients), dtype=float)
        return _series(derivative, (away - self.middle) / self.half) / self.half

    def drawn(self, e: Floats) -> Floats:
        """Draws from base draws of shape (n, locals), less the modes: each by its quantiles."""
        from scipy.special import ndtr

        fine, to_fine = self._rule.fine, self._rule.to_fine
        found = np.empty_like(e)
        loops().inverted(np.exp(self.logs.T @ to_fine.T), ndtr(e), found)
        return self.middle + self.half * (found * (fine[1] - fine[0]) - 1)


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
    far = _FARTHEST / np.sqrt(precisions)
    rule, middle, half = _rule(_FEW), np.zeros_like(far), far
    value, slopes = _seen(density, z, inner, middle, half, rule.nodes)
    here = float(value[_FEW // 2])
    low, high = _ends(slopes, rule.nodes)
    if min(low.min(), high.min()) < 1:
        middle, half = (high - low) / 2 * far, (high + low) / 2 * far
        value, slopes = _seen(density, z, inner, middle, half, rule.nodes)
    logs, missed = _integrated(rule, value - here, slopes, middle / half)
    if not missed < min(_CLOSE, _OFF * len(inner)):
        rule = _rule(_MANY)
        between = _seen(density, z, inner, middle, half, rule.nodes[1::2])
        value, slopes = _merged(value, between[0]), _merged(slopes, between[1])
        logs, missed = _integrated(rule, value - here, slopes, middle / half)
    curves = Curves(middle, half, logs)
    is_known = bool(np.isfinite(value).all()) and missed < _OFF * len(inner)
    if not (is_known and logs.max() < _HIGH):
        return curves, np.nan, False
    return curves, here, float(logs[[0, -1]].max()) < _LOW


def _seen(
    density: LogDensity,
    z: Floats,
    inner: NDArray[np.int64],
    middle: Floats,
    half: Floats,
    nodes: Floats,
) -> tuple[Floats, Floats]:
    """Log density, and its slope along each variable by itself, all of them at the same node."""
    points = np.repeat(z[None], len(nodes), axis=0)
    points[:, inner] += middle + half * nodes[:, None]
    value, gradient = density.value_and_gradient(points)
    return value, gradient[:, inner] * half


def _ends(slopes: Floats, nodes: Floats) -> tuple[Floats, Floats]:
    """How far below and above its mode each density has not ended, by slopes around the mode."""
    found = []
    for sign in (-1, 1):
        at, out = sign * nodes[::sign], sign * slopes[::sign]
        at, out = at[len(at) // 2 :], out[len(at) // 2 :]
        log = np.cumsum(np.diff(at)[:, None] * (out[1:] + out[:-1]) / 2, axis=0)
        has_ended = log < _ENDED
        found.append(np.where(has_ended.any(0), at[1:][has_ended.argmax(0)], 1.0))
    return found[0], found[1]


def _integrated(rule: _Rule, value: Floats, slopes: Floats, mode: Floats) -> tuple[Floats, float]:
    """Log densities relative to the mode, shape (nodes, locals), and by how much they miss all.

    Parameters
    ----------
    rule : _Rule
    value : ndarray, shape (nodes,)
        Log density of all together, relative to that at the mode.
    slopes : ndarray, shape (nodes, locals)
    mode : ndarray, shape (locals,)
        The middle less the mode, in units of the nodes.
    """
    logs = rule.to_logs @ slopes
    logs -= _series(rule.to_coefficients @ logs, -mode[None])
    near = np.abs(rule.nodes) < 0.5
    with np.errstate(invalid="ignore"):
        missed = float(np.abs(value - logs.sum(1))[near].max())
    return logs, missed


def _series(coefficients: Floats, x: Floats) -> Floats:
    """Values of Chebyshev series, one in each column, shape (n, locals)."""
    out = np.empty_like(x)
    loops().chebyshev(coefficients, x, out)
    return out


def _merged(few: Floats, between: Floats) -> Floats:
    """Values at all nodes of those at every second one and those between."""
    found = np.empty((len(few) + len(between), *few.shape[1:]))
    found[::2], found[1::2] = few, between
    return found
