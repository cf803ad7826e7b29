"""Which columns of a sparse Hessian one difference of gradients can read together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from pmflow.embedded.factor import loops

__all__ = ["Colours"]

_MOST_LEVELS = 40
"""Numbers of hubs that are tried, of those at which the degree falls the most."""
_MOST_VISITS = 300_000_000
"""Neighbours of neighbours that a colouring looks at: a second."""

type Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Colours:
    """Columns of a symmetric matrix in groups, such that products with few vectors tell it all.

    The product of the matrix with the sum of the unit vectors of a colour holds an entry of the
    matrix in each row that meets one column of that colour only. By symmetry an entry needs to be
    read in one of its two columns: *hubs*, which meet many others, share colours where no row has
    two of them, and the others share theirs as if there were no hubs (a star colouring;
    Gebremedhin, Manne & Pothen, 2005, https://doi.org/10.1137/S0036144504444711). How many hubs
    there are is what makes the colours fewest. Where even to look for colours is too much, each
    column has its own.

    Attributes
    ----------
    of_column : ndarray, shape (dim,)
        The colour of each column.
    number : int
        How many there are.
    read_row, read_column, read_colour : ndarray, shape (entries,)
        Where each entry of the upper triangle is read: in which row of the product with which
        colour, and the column that it is of. In the order of the entries that `of_pattern` was
        given.
    """

    of_column: Integers
    number: int
    read_row: Integers
    read_column: Integers
    read_colour: Integers

    @classmethod
    def of_pattern(cls, pattern: csr_array, rows: Integers, columns: Integers) -> Colours:
        """Colours for a symmetric pattern.

        Parameters
        ----------
        pattern : csr_array, shape (dim, dim)
            With its diagonal.
        rows, columns : ndarray, shape (entries,)
            The entries that are to be read, each in one of the triangles.
        """
        degrees = np.diff(pattern.indptr)
        by_degree = np.argsort(-degrees, kind="stable")
        sizes = degrees[by_degree].astype(float)
        visits = np.append(np.cumsum(sizes[::-1] ** 2)[::-1], 0.0)  # with so many hubs
        best, hubs = np.arange(len(degrees)), np.zeros(len(degrees), dtype=bool)
        for number in _numbers_of_hubs(sizes):
            if number > best.max():
                break
            if visits[number] > _MOST_VISITS:
                continue
            is_hub = np.zeros(len(degrees), dtype=bool)
            is_hub[by_degree[:number]] = True
            found = loops().coloured(pattern.indptr, pattern.indices, is_hub)
            if found.max() < best.max():
                best, hubs = found, is_hub
        # an entry is read in the column of the hub, if one of the two is
        swap = hubs[rows] & ~hubs[columns]
        read_row, read_column = np.where(swap, columns, rows), np.where(swap, rows, columns)
        return cls(best, int(best.max()) + 1, read_row, read_column, best[read_column])

    @cached_property
    def directions(self) -> NDArray[np.float64]:
        """The sum of the unit vectors of each colour, shape (number, dim)."""
        found = np.zeros((self.number, len(self.of_column)))
        found[self.of_column, np.arange(len(self.of_column))] = 1.0
        return found


def _numbers_of_hubs(degrees: Integers) -> Integers:
    """How many hubs are tried, given the degrees of all columns, the largest first."""
    falls = degrees[:-1] / degrees[1:]
    places = np.flatnonzero(falls > 1)
    largest = places[np.argsort(-falls[places], kind="stable")[:_MOST_LEVELS]]
    return np.sort(np.append(largest + 1, 0))
