"""Densities of independent local variables, by the gradient along all of them at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pmflow.embedded.curves import Curves, Rule, rule_of, series
from pmflow.posterior.density import LogDensity
from pmflow.watch import tick

__all__ = ["curves_at"]

_FARTHEST = 6.0
"""How far from the mode a density is known at most, in conditional sds."""
_FEW, _MANY = 13, 25
"""At how many places: Chebyshev's nodes, of which the few are every second one of the many."""
_ENDED = -30.0
"""Log density relative to the mode, as told by a few slopes, at which it has ended."""
_LOW, _HIGH = -8.0, 0.5
"""Log density relative to the mode: above the first at an end, too much is beyond; above the second
anywhere, the mode is none."""
_FURTHER, _DOWN_TO = 4.0, -16.0
"""How many times as far a density is followed where too much is beyond, down to which log density
as told by its last slope: the logarithm of a value near a limit falls like an exponential."""
_CLOSE, _CLOSE_EACH, _OFF = 0.02, 1e-5, 1e-3
"""Nats by which integrals of slopes may miss the density of all variables together along their
path: with few nodes, in all and for each variable, and with many, for each."""
_NUMBERS_AT_ONCE = 2**22
"""Of points that are held at a time."""

type Floats = NDArray[np.float64]


def curves_at(
    density: LogDensity, z: Floats, inner: NDArray[np.int64], precisions: Floats
) -> list[tuple[Curves, float, bool]]:
    """The densities of local variables at some places, by the gradient along all of them at once.

    Parameters
    ----------
    density : LogDensity
    z : ndarray, shape (n, dim)
        The local variables at their modes.
    inner : ndarray
        Their places.
    precisions : ndarray, shape (n, locals)
        Minus the second derivatives there.

    Returns
    -------
    list of tuple
        For each place the curves; the log density at `z`, NaN where polynomials are not near enough
        to the slopes; and whether little is beyond their ends too.
    """
    at_once = max(1, _NUMBERS_AT_ONCE // (_MANY * z.shape[1]))
    found = []
    for i in range(0, len(z), at_once):
        tick(i)
        part = slice(i, i + at_once)
        found += _curves_at(density, z[part], inner, precisions[part])
    return found


def _curves_at(
    density: LogDensity, z: Floats, inner: NDArray[np.int64], precisions: Floats
) -> list[tuple[Curves, float, bool]]:
    # each step is taken for all places that need it: one call of the density takes many points
    rule, far = rule_of(_FEW), _FARTHEST / np.sqrt(precisions)
    at_mode = np.zeros_like(far)
    parts = _seen(density, z, inner, at_mode, far, rule.nodes)
    places = [
        _Slopes(rule, middle, half, float(value[_FEW // 2]), value, slopes)
        for middle, half, (value, slopes) in zip(at_mode, far, parts, strict=True)
    ]
    others = [i for i, place in enumerate(places) if place.has_another_interval]
    if others:
        middles, halves = map(np.stack, zip(*(places[i].interval for i in others), strict=True))
        parts = _seen(density, z[others], inner, middles, halves, rule.nodes)
        for i, middle, half, part in zip(others, middles, halves, parts, strict=True):
            places[i] = _Slopes(rule, middle, half, places[i].here, *part)
    close = min(_CLOSE, _CLOSE_EACH * len(inner))
    rough = [i for i, place in enumerate(places) if not place.missed < close]
    if rough:
        rule = rule_of(_MANY)
        middles = np.stack([places[i].middle for i in rough])
        halves = np.stack([places[i].half for i in rough])
        parts = _seen(density, z[rough], inner, middles, halves, rule.nodes[1::2])
        for i, between in zip(rough, parts, strict=True):
            places[i] = places[i].finer(rule, *between)
    return [place.curves for place in places]


def _seen(
    density: LogDensity,
    z: Floats,
    inner: NDArray[np.int64],
    middle: Floats,
    half: Floats,
    nodes: Floats,
) -> list[tuple[Floats, Floats]]:
    """Log density, and its slope along each variable by itself, all of them at the same node.

    For each of some places, of shape (n, dim), in intervals of shape (n, locals).
    """
    points = np.repeat(z, len(nodes), axis=0).reshape(len(z), len(nodes), -1)
    points[..., inner] += middle[:, None] + half[:, None] * nodes[:, None]
    value, gradient = density.value_and_gradient(points.reshape(-1, z.shape[1]))
    value = value.reshape(points.shape[:2])
    slopes = gradient.reshape(points.shape)[..., inner] * half[:, None]
    return list(zip(value, slopes, strict=True))


@dataclass(frozen=True, eq=False)
class _Slopes:
    """Log density and slopes at one place, at the nodes of a rule.

    Attributes
    ----------
    rule : Rule
    middle, half : ndarray, shape (locals,)
        The interval of each variable, from its mode.
    here : float
        Log density at the mode.
    value : ndarray, shape (nodes,)
        The same of all variables together, at the nodes.
    slopes : ndarray, shape (nodes, locals)
        In units of half the interval.
    """

    rule: Rule
    middle: Floats
    half: Floats
    here: float
    value: Floats
    slopes: Floats

    @cached_property
    def logs(self) -> Floats:
        """Log densities relative to the mode, shape (nodes, locals)."""
        logs = self.rule.to_logs @ self.slopes
        mode = -(self.middle / self.half)[None]
        return np.asarray(logs - series(self.rule.to_coefficients @ logs, mode))

    @cached_property
    def missed(self) -> float:
        """By how much these miss the density along their path."""
        near = np.abs(self.rule.nodes) < 0.5
        with np.errstate(invalid="ignore"):
            return float(np.abs(self.value - self.here - self.logs.sum(1))[near].max())

    @property
    def has_another_interval(self) -> bool:
        """Whether a density ends before the last node, or goes on beyond it."""
        return not all((ends == 1).all() for ends in self._ends)

    @property
    def interval(self) -> tuple[Floats, Floats]:
        """Middle and half of where they are."""
        low, high = self._ends
        return (high - low) / 2 * self.half, (high + low) / 2 * self.half

    @cached_property
    def _ends(self) -> tuple[Floats, Floats]:
        """How far below and above its mode, in the middle, each density goes."""
        found = []
        for sign in (-1, 1):
            at, out = sign * self.rule.nodes[::sign], sign * self.slopes[::sign]
            at, out = at[len(at) // 2 :], out[len(at) // 2 :]
            log = np.cumsum(np.diff(at)[:, None] * (out[1:] + out[:-1]) / 2, axis=0)
            has_ended = log < _ENDED
            with np.errstate(all="ignore"):
                further = np.where(log[-1] > _LOW, 1 + (_DOWN_TO - log[-1]) / out[-1], 1.0)
            further = np.where((out[-1] < 0) & np.isfinite(further), further, 1.0)
            ends = np.where(has_ended.any(0), at[1:][has_ended.argmax(0)], further)
            found.append(np.clip(ends, None, _FURTHER))
        return found[0], found[1]

    def finer(self, rule: Rule, value: Floats, slopes: Floats) -> _Slopes:
        """With what was seen at the nodes of a rule that are between these."""
        value, slopes = _interleaved(self.value, value), _interleaved(self.slopes, slopes)
        return replace(self, rule=rule, value=value, slopes=slopes)

    @property
    def curves(self) -> tuple[Curves, float, bool]:
        """What `curves_at` has for the place."""
        curves, logs = Curves(self.middle, self.half, self.logs), self.logs
        is_known = bool(np.isfinite(self.value).all()) and self.missed < _OFF * logs.shape[1]
        if not (is_known and logs.max() < _HIGH):
            return curves, np.nan, False
        return curves, self.here, float(logs[[0, -1]].max()) < _LOW


def _interleaved(few: Floats, between: Floats) -> Floats:
    """Values at all nodes of those at every second one and those between."""
    found = np.empty((len(few) + len(between), *few.shape[1:]))
    found[::2], found[1::2] = few, between
    return found
