"""How much one variable of a model changes of how curved its density is along others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pmflow.embedded.conditional import UNKNOWN, Conditional
from pmflow.embedded.curvature import along
from pmflow.posterior.density import LogDensity
from pmflow.watch import tick

__all__ = ["Diagonals", "changes_along", "changes_off_diagonal"]

_STEP = 1e-3
"""Of differences of gradients, in conditional standard deviations."""
_PROBES = 2
"""Random directions in which off-diagonal changes are looked for."""

type Floats = NDArray[np.float64]


class Diagonals:
    """The diagonal of the curvature at points, and the units of its differences.

    Where that is cheaper, those that may be global are differenced one by one, and the others with
    these held.
    """

    def __init__(self, whole: Conditional, inner: Conditional | None) -> None:
        self._whole, self._inner = whole, inner
        if inner is not None:
            one_by_one = inner.gradients + 2 * len(inner.globals)
            self._inner = inner if one_by_one < whole.gradients else None
        self.sds = np.full(whole.density.dim, UNKNOWN)

    def measure(self, z: Floats) -> None:
        """Take the units from the curvature at one point, shape (dim,)."""
        for _ in range(2):
            self.sds = 1 / np.sqrt(np.clip(np.abs(self(z[None])[0]), 1e-10, 1e10))

    def __call__(self, z: Floats) -> Floats:
        """At points of shape (n, dim): the same shape."""
        inner = self._inner
        if inner is None:
            self._whole.take_units(self.sds)
            return self._whole.diagonals(z)
        found = np.empty((len(z), len(self.sds)))
        inner.take_units(self.sds[inner.locals])
        found[:, inner.locals] = inner.diagonals(z)
        held = inner.globals
        steps = along(held, _STEP * self.sds[held], len(self.sds))
        points = np.concatenate([z[:, None] - steps, z[:, None] + steps], axis=1)
        _, gradient = inner.density.value_and_gradient(points.reshape(-1, len(self.sds)))
        behind, ahead = np.moveaxis(gradient.reshape(len(z), 2, len(held), -1), 1, 0)
        change = (behind - ahead)[:, np.arange(len(held)), held]
        found[:, held] = change / (2 * _STEP * self.sds[held])
        return found


def changes_along(diagonals: Diagonals, places: Sequence[slice], z: Floats) -> list[Floats]:
    """Relative changes of the diagonal of the curvature, by variable: (entries, dim) each."""
    sds = np.minimum(diagonals.sds, 1.0)
    here = diagonals(z[None])
    found = []
    for place in places:
        tick()
        at = np.arange(place.start, place.stop)
        steps = along(at, sds[at], len(sds))
        ahead, behind = diagonals(z + steps), diagonals(z - steps)
        found.append((_relative(ahead, here) - _relative(behind, here)) / 2)
    return found


def changes_off_diagonal(
    density: LogDensity, places: Sequence[slice], z: Floats, sds: Floats
) -> list[Floats]:
    """Squares of relative changes of all entries of the curvature, summed: (entries,) each.

    A correlation, such as that of an autoregression, leaves the diagonal as it is where it is 0.
    Each of the variables is moved by its sd; of the others products with vectors of random signs
    are looked at, whose squares are on average those of the entries.

    Parameters
    ----------
    density : LogDensity
    places : sequence of slice
        Of the variables.
    z : ndarray, shape (dim,)
    sds : ndarray, shape (dim,)
        Conditional ones there, at most 1 of each variable that is moved.
    """
    is_inner = np.ones(len(z), dtype=bool)
    for place in places:
        is_inner[place] = False
    inner = np.flatnonzero(is_inner)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (_PROBES, len(inner)))
    probes = np.zeros((_PROBES, len(z)))
    probes[:, inner] = _STEP * sds[inner] * signs
    ways = np.stack([probes, -probes])

    def products(points: Floats) -> Floats:
        every = (points[:, None, None] + ways).reshape(-1, len(z))
        gradient = density.value_and_gradient(every)[1][:, inner]
        ahead, behind = np.moveaxis(gradient.reshape(len(points), *ways.shape[:2], -1), 1, 0)
        return np.asarray((behind - ahead) / (2 * _STEP) * sds[inner])

    found = []
    for place in places:
        tick()
        at = np.arange(place.start, place.stop)
        steps = along(at, sds[at], len(z))
        changes = (products(z + steps) - products(z - steps)) / 2
        found.append((changes**2).sum(-1).mean(1))
    return found


def _relative(there: Floats, here: Floats) -> Floats:
    size = np.abs(there) + np.abs(here)
    return 2 * (there - here) / np.where(size > 0, size, 1.0)
