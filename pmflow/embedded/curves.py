"""Local variables that are independent given the global ones, each with its own density."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from pmflow.embedded.factor import loops

__all__ = ["Curves", "Rule", "rule_of", "series"]

_STEPS = 65
"""Places of the sums by which moments are taken: of a density that ends they are exact."""
_FINE = 161
"""Places of the table by which draws are made."""

type Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
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
def rule_of(number: int) -> Rule:
    """The rule of so many nodes."""
    nodes: Floats = -np.cos(np.pi * np.arange(number) / (number - 1))
    inverse = np.linalg.inv(chebyshev.chebvander(nodes, number - 1))
    to_coefficients = np.asarray(inverse, dtype=float)
    integrals = chebyshev.chebint(np.eye(number), lbnd=-1.0)
    to_logs = chebyshev.chebvander(nodes, number) @ integrals @ to_coefficients
    steps, fine = np.linspace(-1.0, 1.0, _STEPS), np.linspace(-1.0, 1.0, _FINE)
    to_steps, to_fine = (
        chebyshev.chebvander(at, number - 1) @ to_coefficients for at in (steps, fine)
    )
    return Rule(nodes, to_coefficients, to_logs, steps, to_steps, fine, to_fine)


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
    def _rule(self) -> Rule:
        return rule_of(len(self.logs))

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
        values = series(self._coefficients, x) - self.log_masses
        return np.where(np.abs(x) <= 1, values, -np.inf).sum(1)

    def slope(self, away: Floats) -> Floats:
        """Derivative of each by itself, so far from the modes, shape (n, locals)."""
        derivative = np.asarray(chebyshev.chebder(self._coefficients), dtype=float)
        return series(derivative, (away - self.middle) / self.half) / self.half

    def drawn(self, e: Floats) -> Floats:
        """Draws from base draws of shape (n, locals), less the modes: each by its quantiles."""
        from scipy.special import ndtr

        fine, to_fine = self._rule.fine, self._rule.to_fine
        found = np.empty_like(e)
        loops().inverted(np.exp(self.logs.T @ to_fine.T), ndtr(e), found)
        return self.middle + self.half * (found * (fine[1] - fine[0]) - 1)


def series(coefficients: Floats, x: Floats) -> Floats:
    """Values of Chebyshev series, one in each column, shape (n, locals)."""
    out = np.empty_like(x)
    loops().chebyshev(coefficients, x, out)
    return out
