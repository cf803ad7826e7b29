"""Where a sparse triangle has entries."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from pmflow.records.states import State

__all__ = ["Triangle", "full_triangle"]

type Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Triangle(State):
    """Where a sparse unit lower triangle has entries, and of which coordinates its rows are.

    Attributes
    ----------
    pointers : ndarray, shape (dim + 1,)
        Where the entries of each column begin.
    rows : ndarray, shape (entries,)
        Rows of the entries below the diagonal, column by column.
    order : ndarray, shape (dim,)
        The coordinate that each row belongs to.
    """

    pointers: Integers
    rows: Integers
    order: Integers

    def __post_init__(self) -> None:
        dim, pointers, rows = len(self.order), self.pointers, self.rows
        is_one = (
            pointers.shape == (dim + 1,)
            and pointers[0] == 0
            and (np.diff(pointers) >= 0).all()
            and rows.shape == (pointers[-1],)
            and np.array_equal(np.sort(self.order), np.arange(dim))
            and (rows > self.columns).all()
            and (rows < dim).all()
        )
        if not is_one:
            raise ValueError("the entries of a triangle must lie below its diagonal")

    @property
    def dim(self) -> int:
        """Number of rows."""
        return len(self.order)

    @cached_property
    def columns(self) -> Integers:
        """Column of each entry."""
        return np.repeat(np.arange(len(self.pointers) - 1), np.diff(self.pointers))

    @cached_property
    def largest(self) -> int:
        """Entries of the column that has the most, 1 at least."""
        return max(1, int(np.diff(self.pointers).max()))

    @cached_property
    def coordinates(self) -> tuple[Integers, Integers]:
        """The coordinates that row and column of each entry belong to."""
        return self.order[self.rows], self.order[self.columns]


@lru_cache(maxsize=8)
def full_triangle(dim: int) -> Triangle:
    """The triangle of all entries, where nothing is known."""
    columns, rows = np.triu_indices(dim, 1)
    return Triangle(np.searchsorted(columns, np.arange(dim + 1)), rows, np.arange(dim))
