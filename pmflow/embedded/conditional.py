"""The Gaussian nearest to the local variables, given the global ones."""

from __future__ import annotations

from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from pmflow.embedded.blocks import Blocks
from pmflow.embedded.curvature import AbstractCurvature, Differences
from pmflow.embedded.curvatures import curvature_for
from pmflow.embedded.curves import Curves
from pmflow.embedded.factor import Factor, log_dets_of
from pmflow.embedded.factors import Factors
from pmflow.embedded.given import Modes
from pmflow.embedded.parabolas import without_exact
from pmflow.embedded.slopes import curves_at
from pmflow.embedded.third import ThirdDerivatives
from pmflow.embedded.wide import WideFactors, wide_of
from pmflow.posterior.density import LogDensity
from pmflow.watch import tick

__all__ = ["UNKNOWN", "Conditional"]

_FEW = 20
"""Curvatures that are wanted where nothing else is said."""
_FOUND = 0.03
"""Newton's decrement below which one step more, unchecked, ends at the mode: in sds. The log
determinant is that before this step: of 0.1 it is up to 0.2 nats off, where local variables are
thousands, and that is noise to whoever compares two places."""
_LOST = 1.0
"""Newton's decrement above which a climb that has ended has not found the mode."""
_HALVINGS = 16
UNKNOWN = 0.1
"""Standard deviation of what was not measured yet."""
_LED, _SHORTER, _LED_TO = 10, 0.6, 0.005
"""Steps by a factor from elsewhere, how much shorter each must be than the one before, and the
length that is the last, in sds."""

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]


class Conditional:
    r"""Mode and precision of the local variables u, given the global ones :math:`\theta`.

    Newton's method with exact sparse curvature: gradients are differenced along the colours of
    the pattern. It begins at a given point and ends by a rule that looks at nothing else, so the
    mode is a function of theta.

    Parameters
    ----------
    density : LogDensity
    pattern : csr_array, shape (dim, dim)
        Which coordinates of the latent vector meet.
    is_global : ndarray of bool, shape (dim,)
    curvatures : int, optional
        About how many are wanted.

    Attributes
    ----------
    density, pattern
        As given.
    locals, globals : ndarray
        Their places in the latent vector.
    factors : Factors
        Of the precisions of the local variables.
    sds : ndarray, shape (locals,)
        About the standard deviations of the local variables given the global ones: the unit of
        differences.
    """

    def __init__(
        self,
        density: LogDensity,
        pattern: csr_array,
        is_global: NDArray[np.bool_],
        curvatures: int | None = None,
    ) -> None:
        self.density, self.pattern = density, pattern
        self.globals: Integers = np.flatnonzero(is_global)
        self.locals: Integers = np.flatnonzero(~is_global)
        inner = csr_array(pattern[self.locals][:, self.locals])
        self._wide, self._curvatures = wide_of(density), curvatures or _FEW
        self.factors = (
            Factors(inner)
            if self._wide is None
            else WideFactors(inner, self._wide.matrix[:, self.locals])
        )
        self.sds: Floats = np.full(len(self.locals), UNKNOWN)

    @property
    def gradients(self) -> int:
        """How many gradients a curvature takes, or takes as long as."""
        return self._curvature.gradients

    @property
    def sums(self) -> tuple[int, ...]:
        """How many coordinates are in each sum that makes many meet beside the pattern."""
        return () if self._wide is None else tuple(map(int, (self._wide.matrix != 0).sum(1)))

    @cached_property
    def _curvature(self) -> AbstractCurvature:
        return curvature_for(self.density, self.locals, self.factors, self._curvatures, self._wide)

    def precisions(self, z: Floats) -> Floats:
        """Minus the second derivatives by the local variables, at points of shape (n, dim).

        Returns
        -------
        ndarray, shape (n, entries)
            As `factors` takes them.
        """
        return self._curvature.at(z, self.sds)

    def times(self, z: Floats, d: Floats) -> Floats:
        """The precision at one point of shape (dim,) times a vector of shape (locals,)."""
        (values,) = self.precisions(z[None])
        return self.factors.times(values, d)

    def diagonals(self, z: Floats) -> Floats:
        """The diagonal of the precision at points of shape (n, dim), shape (n, locals)."""
        return self.factors.diagonal(self.precisions(z))

    def measure(self, z: Floats) -> None:
        """Take the units of differences from the curvature at one point, shape (dim,)."""
        for _ in range(2):
            size = np.abs(self.factors.diagonal(self.precisions(z[None])[0]))
            self.sds = 1 / np.sqrt(np.clip(size, 1e-10, 1e10))

    def anew(self) -> Self:
        """The same for the data that the density has now; compiled again only where it must be."""
        if self._wide is None and isinstance(self._curvature, Differences):
            self.sds = np.full(len(self.locals), UNKNOWN)
            return self
        is_global = np.isin(np.arange(self.density.dim), self.globals)
        return type(self)(self.density, self.pattern, is_global, self._curvatures)

    def take_units(self, sds: Floats) -> None:
        """Take units of differences that were measured before."""
        self.sds = sds

    def value(self, z: Floats) -> Floats:
        """Log density at points of shape (n, dim), shape (n,)."""
        return self.density.value(z)

    def value_and_slope(self, z: Floats) -> tuple[Floats, Floats]:
        """The same with its gradient by the local variables, shape (n, locals)."""
        value, gradient = self.density.value_and_gradient(z)
        return value, gradient[:, self.locals]

    def modes(self, z: Floats, rounds: int, near: Factor | None = None) -> Modes:
        """Climb to the modes of the local variables, the global ones held.

        Parameters
        ----------
        z : ndarray, shape (n, dim)
            Where to begin.
        rounds : int
            Curvatures at each of them at most.
        near : Factor, optional
            Of the precision somewhere near: it leads a part of the way for no more than gradients.
        """
        z = z.copy()
        n = len(z)
        log_p, slope = self.value_and_slope(z)
        if near is not None:
            self._led(near, z, log_p, slope)
        factors: list[Factor | None] = [None] * n
        decrement, damping = np.full(n, np.inf), np.zeros(n)
        steps = np.zeros((n, len(self.locals)))
        climbing = np.flatnonzero(np.isfinite(log_p))
        for _ in range(rounds):
            if not len(climbing):
                break
            for i, values in zip(climbing, self.precisions(z[climbing]), strict=True):
                tick()
                try:
                    factor, damping[i], _ = self.factors.damped(values)
                except np.linalg.LinAlgError:
                    continue
                factors[i], steps[i] = factor, factor.solve(slope[i : i + 1])[0]
                decrement[i] = np.sqrt(max(slope[i] @ steps[i], 0.0))
            climbing = climbing[decrement[climbing] > _FOUND]
            climbing = self._step(climbing, z, log_p, slope, steps)
            climbing = without_exact(climbing, slope, factors, damping, decrement, steps, _FOUND)
        return self._ended(z, log_p, steps, factors, decrement, damping)

    @property
    def is_independent(self) -> bool:
        """Whether no local variable meets another, by the pattern."""
        return self.factors.is_diagonal

    @cached_property
    def blocks(self) -> Blocks | None:
        """Of local variables that meet each other and no others, where these are many and small."""
        return Blocks.of_pattern(self.factors.pattern) if self.factors.is_apart else None

    @cached_property
    def apart(self) -> Blocks:
        """The same, however few and large they are: for what says nothing by weights."""
        return self.blocks or Blocks.of_any(self.factors.pattern)

    @property
    def is_in_blocks(self) -> bool:
        """Whether they are in several blocks of more than one variable."""
        return self.blocks is not None and not self.is_independent

    @cached_property
    def third(self) -> ThirdDerivatives:
        """How the local variables change with the global ones, where they fall apart."""
        return ThirdDerivatives(self.density, self.pattern, self.globals, self.locals, self.apart)

    def curved(self, modes: Modes) -> Modes:
        """The same with the density of each local variable, which are independent."""
        z, values = modes.z, np.full(len(modes.z), -np.inf)
        empty = np.zeros((1, len(self.locals)))
        curves = [Curves(empty[0], empty[0], empty)] * len(z)
        known = np.flatnonzero(np.isfinite(modes.log_marginal))
        if len(known):
            precisions = np.stack([modes.factors[i].precisions for i in known])
            found = curves_at(self.density, z[known], self.locals, precisions)
            for i, (curve, here, _) in zip(known, found, strict=True):
                curves[i], total = curve, here + curve.log_masses.sum()
                values[i] = total if np.isfinite(total) else -np.inf
        return Modes(z, modes.factors, values, tuple(curves))

    def _led(self, near: Factor, z: Floats, log_p: Floats, slope: Floats) -> None:
        """Steps by one factor for all, of each for as long as they grow shorter quickly."""
        inner = self.locals
        todo = np.flatnonzero(np.isfinite(log_p))
        before = np.full(len(z), np.inf)
        for _ in range(_LED if len(todo) else 0):
            tick()
            steps = near.solve(slope[todo])
            length = np.sqrt((steps * slope[todo]).sum(1).clip(0))
            is_quick = length < _SHORTER * before[todo]
            before[todo] = length
            goes_on = is_quick & (length > _LED_TO)
            todo, steps = todo[goes_on], steps[goes_on]
            if not len(todo):
                return
            ahead = z[todo]
            ahead[:, inner] += steps
            value, new = self.value_and_slope(ahead)
            is_up = value >= log_p[todo]
            todo = todo[is_up]
            z[todo], log_p[todo], slope[todo] = ahead[is_up], value[is_up], new[is_up]
            if not len(todo):
                return

    def _step(
        self, climbing: Integers, z: Floats, log_p: Floats, slope: Floats, steps: Floats
    ) -> Integers:
        """One step each, halved until it is no step down; those that made one."""
        rate, todo = 1.0, climbing
        for _ in range(_HALVINGS):
            if not len(todo):
                break
            ahead = z[todo]
            ahead[:, self.locals] += rate * steps[todo]
            value, new = self.value_and_slope(ahead)
            is_up = value >= log_p[todo] - 1e-9 * np.abs(log_p[todo])
            moved = todo[is_up]
            z[moved], log_p[moved], slope[moved] = ahead[is_up], value[is_up], new[is_up]
            todo, rate = todo[~is_up], rate / 3
        return np.setdiff1d(climbing, todo)

    def _ended(
        self,
        z: Floats,
        log_p: Floats,
        steps: Floats,
        factors: list[Factor | None],
        decrement: Floats,
        damping: Floats,
    ) -> Modes:
        is_found = (decrement < _LOST) & (damping == 0)
        # the last step, and what it gains, by the curvature at the point before it
        last = np.where(is_found & (decrement <= _FOUND), 1.0, 0.0)
        z[:, self.locals] += last[:, None] * steps
        gain = np.where(last > 0, decrement**2 / 2, 0.0)
        log_dets = log_dets_of(factors)
        constant = len(self.locals) / 2 * np.log(2 * np.pi)
        log_marginal = np.where(is_found, log_p + gain - log_dets / 2 + constant, -np.inf)
        return Modes(z, tuple(factors), log_marginal)  # type: ignore[arg-type]
