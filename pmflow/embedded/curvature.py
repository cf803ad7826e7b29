"""Second derivatives of a log density by differences of its gradients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import override

import numpy as np
from numpy.typing import NDArray

from pmflow.embedded.colours import Colours
from pmflow.embedded.factor import Factors
from pmflow.posterior.graph_density import GraphDensity

__all__ = ["AbstractCurvature", "Differences", "differenced"]

_STEP = 1e-3
"""Of differences of gradients, in conditional standard deviations."""
_NUMBERS_AT_ONCE = 2**23
"""Of points at which gradients are held at a time."""

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]


class AbstractCurvature(ABC):
    """Minus the second derivatives by some entries of the latent vector."""

    @property
    @abstractmethod
    def gradients(self) -> int:
        """How many gradients they take at one point."""

    @abstractmethod
    def at(self, z: Floats, sds: Floats) -> Floats:
        """Minus the second derivatives, at points of shape (n, dim).

        Parameters
        ----------
        z : ndarray, shape (n, dim)
        sds : ndarray, shape (inner,)
            Units of differences along these entries.

        Returns
        -------
        ndarray, shape (n, entries)
            In the order of `Factors`.
        """


class Differences(AbstractCurvature):
    """Those of a density, differenced along the colours of their pattern.

    Parameters
    ----------
    density : GraphDensity
    inner : ndarray
        Places of the entries in the vector.
    factors : Factors
        Of their pattern.
    colours : Colours
    """

    def __init__(
        self, density: GraphDensity, inner: Integers, factors: Factors, colours: Colours
    ) -> None:
        self._density, self._inner = density, inner
        self._rows, self._columns, self._colours = factors.rows, factors.columns, colours

    @property
    @override
    def gradients(self) -> int:
        return 2 * self._colours.number

    @override
    def at(self, z: Floats, sds: Floats) -> Floats:
        """Minus the second derivatives, at points of shape (n, dim): shape (n, entries)."""
        units = np.broadcast_to(sds, (len(z), len(sds)))
        return differenced(self._density, self._inner, self._colours, self._column_read, z, units)

    @cached_property
    def _column_read(self) -> Integers:
        return self._colours.column_read(self._rows, self._columns)


def differenced(
    density: GraphDensity,
    inner: Integers,
    colours: Colours,
    column_read: Integers,
    z: Floats,
    units: Floats,
) -> Floats:
    """Entries of minus the Hessian at points of shape (n, dim), in units of shape (n, inner)."""
    rows = max(1, _NUMBERS_AT_ONCE // (2 * colours.number * density.dim))
    found = []
    for i in range(0, len(z), rows):
        some, unit = z[i : i + rows, None], _STEP * units[i : i + rows]
        steps = np.zeros((len(some), colours.number, density.dim))
        steps[:, :, inner] = unit[:, None] * colours.directions
        points = np.concatenate([some - steps, some + steps], axis=1)
        _, gradient = density.value_and_gradient(points.reshape(-1, density.dim))
        shaped = gradient[:, inner].reshape(len(some), 2, colours.number, -1)
        change = shaped[:, 0] - shaped[:, 1]
        found.append(change[:, colours.read_colour, colours.read_row] / (2 * unit[:, column_read]))
    return np.concatenate(found)
