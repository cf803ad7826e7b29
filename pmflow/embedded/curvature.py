"""Second derivatives of a log density by differences of its gradients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import override

import numpy as np
from numpy.typing import NDArray

from pmflow.embedded.colours import Colours
from pmflow.posterior.graph_density import GraphDensity

__all__ = ["STEP", "AbstractCurvature", "Differences", "along"]

STEP = 1e-3
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
    colours : Colours
        Of their pattern.
    """

    def __init__(self, density: GraphDensity, inner: Integers, colours: Colours) -> None:
        self._density, self._inner, self._colours = density, inner, colours

    @property
    @override
    def gradients(self) -> int:
        return 2 * self._colours.number

    @override
    def at(self, z: Floats, sds: Floats) -> Floats:
        """Minus the second derivatives; units may be those of each point, shape (n, inner)."""
        colours, inner, dim = self._colours, self._inner, self._density.dim
        units = STEP * np.broadcast_to(sds, (len(z), len(inner)))
        rows = max(1, _NUMBERS_AT_ONCE // (self.gradients * dim))
        found = []
        for i in range(0, len(z), rows):
            some, unit = z[i : i + rows, None], units[i : i + rows]
            steps = np.zeros((len(some), colours.number, dim))
            steps[:, :, inner] = unit[:, None] * colours.directions
            points = np.concatenate([some - steps, some + steps], axis=1)
            _, gradient = self._density.value_and_gradient(points.reshape(-1, dim))
            shaped = gradient[:, inner].reshape(len(some), 2, colours.number, -1)
            change = (shaped[:, 0] - shaped[:, 1])[:, colours.read_colour, colours.read_row]
            found.append(change / (2 * unit[:, colours.read_column]))
        return np.concatenate(found)


def along(places: Integers, lengths: Floats, dim: int) -> Floats:
    """A step along each of some coordinates of the latent vector, shape (steps, dim)."""
    steps = np.zeros((len(places), dim))
    steps[np.arange(len(places)), places] = lengths
    return steps
