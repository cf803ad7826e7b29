"""What a sum over rows is to second order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Entries", "Expansion"]

type Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Entries:
    """Which second derivatives an expansion has: each pair of coordinates once.

    Attributes
    ----------
    rows, columns : ndarray of int, shape (entries,)
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    @property
    def shares(self) -> Floats:
        """What an entry counts in the expansion: a pair of two coordinates is there twice."""
        return np.where(self.rows == self.columns, 0.5, 1.0)


@dataclass(frozen=True, eq=False)
class Expansion:
    """Value, gradient and second derivatives at a centre, in units of coordinates.

    Attributes
    ----------
    value : float
    gradient : ndarray, shape (dim,)
    curvature : ndarray, shape (dim, dim), or (entries,) where it is sparse
        Second derivatives; 0 where they were not asked for.
    """

    value: float
    gradient: Floats
    curvature: Floats
