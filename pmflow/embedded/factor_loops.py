"""Loops over the entries of triangular factors, compiled by numba."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pmflow.embedded.compiled import compiled

__all__ = ["multiply_lower", "multiply_upper", "selected_inverse", "solve_lower", "solve_upper"]

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]


@compiled
def solve_lower(pointers: Integers, rows: Integers, entries: Floats, x: Floats) -> None:
    """Solve L x = b in place, for columns of shape (dim, n)."""
    for column in range(len(pointers) - 1):
        for at in range(pointers[column], pointers[column + 1]):
            for k in range(x.shape[1]):
                x[rows[at], k] -= entries[at] * x[column, k]


@compiled
def solve_upper(pointers: Integers, rows: Integers, entries: Floats, x: Floats) -> None:
    """Solve L' x = b in place."""
    for column in range(len(pointers) - 2, -1, -1):
        for at in range(pointers[column], pointers[column + 1]):
            for k in range(x.shape[1]):
                x[column, k] -= entries[at] * x[rows[at], k]


@compiled
def multiply_upper(pointers: Integers, rows: Integers, entries: Floats, x: Floats) -> None:
    """Put L' x in the place of x."""
    for column in range(len(pointers) - 1):
        for at in range(pointers[column], pointers[column + 1]):
            for k in range(x.shape[1]):
                x[column, k] += entries[at] * x[rows[at], k]


@compiled
def multiply_lower(pointers: Integers, rows: Integers, entries: Floats, x: Floats) -> None:
    """Put L x in the place of x."""
    for column in range(len(pointers) - 2, -1, -1):
        for at in range(pointers[column], pointers[column + 1]):
            for k in range(x.shape[1]):
                x[rows[at], k] += entries[at] * x[column, k]


@compiled
def selected_inverse(
    pointers: Integers, rows: Integers, entries: Floats, diagonal: Floats
) -> Floats:
    """The diagonal of (L D L')^-1, from its last column to its first.

    Of the inverse only the entries are had that L has: no others are needed for these.
    """
    dim = len(diagonal)
    found, on_diagonal = np.zeros(len(entries)), np.zeros(dim)
    place = np.full(dim, -1, dtype=np.int64)
    for column in range(dim - 1, -1, -1):
        begin, end = pointers[column], pointers[column + 1]
        for at in range(begin, end):
            place[rows[at]] = at
        for at in range(begin, end):
            row = rows[at]
            found[at] -= entries[at] * on_diagonal[row]
            for other in range(pointers[row], pointers[row + 1]):
                below = place[rows[other]]
                if below >= 0:
                    found[at] -= entries[below] * found[other]
                    found[below] -= entries[at] * found[other]
        on_diagonal[column] = 1 / diagonal[column]
        for at in range(begin, end):
            on_diagonal[column] -= entries[at] * found[at]
            place[rows[at]] = -1
    return on_diagonal
