"""Loops over the entries of sparse matrices, compiled by numba."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pmflow.embedded.compiled import compiled
from pmflow.embedded.factor_loops import (
    multiply_lower,
    multiply_upper,
    selected_inverse,
    solve_lower,
    solve_upper,
)

__all__ = [
    "add_alike",
    "add_products",
    "apart",
    "chebyshev",
    "coloured",
    "differences",
    "inverted",
    "joined",
    "multiply_lower",
    "multiply_upper",
    "selected_inverse",
    "solve_lower",
    "solve_upper",
]


type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]


@compiled
def _first_free(taken_by: Integers, column: int, colour: int) -> int:
    """The first colour, from this one on, that is not taken for the column."""
    while taken_by[colour] == column:
        colour += 1
    return colour


@compiled
def coloured(indptr: Integers, indices: Integers, is_hub: NDArray[np.bool_]) -> Integers:
    """The first colour that no other at distance two has: of hubs, and then of the others."""
    dim = len(indptr) - 1
    colours = np.full(dim, -1, dtype=np.int64)
    taken_by = np.full(dim + 1, -1, dtype=np.int64)
    hubs = 0
    for column in range(dim):
        if not is_hub[column]:
            continue
        for at in range(indptr[column], indptr[column + 1]):
            row = indices[at]
            for other_at in range(indptr[row], indptr[row + 1]):
                colour = colours[indices[other_at]]
                if colour >= 0:
                    taken_by[colour] = column
        colours[column] = _first_free(taken_by, column, 0)
        hubs = max(hubs, colours[column] + 1)
    taken_by[:] = -1
    for column in range(dim):
        if is_hub[column]:
            continue
        for at in range(indptr[column], indptr[column + 1]):
            row = indices[at]
            if is_hub[row]:
                continue
            for other_at in range(indptr[row], indptr[row + 1]):
                colour = colours[indices[other_at]]
                if colour >= hubs:
                    taken_by[colour] = column
        colours[column] = _first_free(taken_by, column, hubs)
    return colours


@compiled
def apart(indptr: Integers, indices: Integers) -> Integers:
    """The first colour that no neighbour has, for each."""
    dim = len(indptr) - 1
    colours = np.full(dim, -1, dtype=np.int64)
    taken_by = np.full(dim + 1, -1, dtype=np.int64)
    for column in range(dim):
        for at in range(indptr[column], indptr[column + 1]):
            colour = colours[indices[at]]
            if colour >= 0:
                taken_by[colour] = column
        colours[column] = _first_free(taken_by, column, 0)
    return colours


@compiled
def differences(
    indptr: Integers,
    indices: Integers,
    colours: Integers,
    values: Floats,
    sds: Floats,
    jacobian: Floats,
    units: Floats,
) -> None:
    """Derivatives of each row by its columns, and how far one step along all of them moves it.

    The first row of `values` is at the point, the others after a step along each colour.
    """
    for row in range(len(indptr) - 1):
        variance = 0.0
        for at in range(indptr[row], indptr[row + 1]):
            column = indices[at]
            change = values[colours[column] + 1, row] - values[0, row]
            jacobian[at] = change / sds[column]
            variance += change * change
        units[row] = np.sqrt(variance) if variance > 0 else 1.0


@compiled
def add_products(
    rows: Integers,
    columns: Integers,
    indptr: Integers,
    indices: Integers,
    targets: NDArray[np.int32],
    h: Floats,
    jacobian: Floats,
    out: Floats,
) -> None:
    """Add J' H J, for the entries of the upper triangle of H; a target of -1 is left out."""
    number = 0
    for entry in range(len(rows)):
        a, b = rows[entry], columns[entry]
        for left in range(indptr[a], indptr[a + 1]):
            scaled = h[entry] * jacobian[left]
            for right in range(indptr[b], indptr[b + 1]):
                target = targets[number]
                number += 1
                if target >= 0:
                    # the mirror image of the entry puts as much there
                    twice = 2.0 if a != b and indices[left] == indices[right] else 1.0
                    out[target] += twice * scaled * jacobian[right]


@compiled
def add_alike(
    order: Integers,
    ends: Integers,
    widths: Integers,
    pointers: Integers,
    targets: NDArray[np.int32],
    h: Floats,
    jacobian: Floats,
    out: Floats,
) -> None:
    """Add J' H J of a diagonal H: of rows that have the same columns, and then in place.

    Rows `order` between two `ends` are alike, of so many entries each; a target of -1 is left out.
    """
    number = 0
    total = np.zeros((widths.max(), widths.max()))
    for kind in range(len(widths)):
        width = widths[kind]
        total[:width, :width] = 0.0
        for at in range(ends[kind], ends[kind + 1]):
            row = order[at]
            entries = jacobian[pointers[row] : pointers[row] + width]
            for a in range(width):
                scaled = h[row] * entries[a]
                for b in range(a + 1):
                    total[a, b] += scaled * entries[b]
        for a in range(width):
            for b in range(a + 1):
                if targets[number] >= 0:
                    out[targets[number]] += total[a, b]
                number += 1


@compiled
def inverted(density: Floats, shares: Floats, out: Floats) -> None:
    """Where each density has so much of its mass, in steps of its table, by lines.

    Of tables in rows of `density`, for columns of `shares`.
    """
    steps = density.shape[1]
    masses = np.zeros(steps)
    for k in range(density.shape[0]):
        for i in range(1, steps):
            masses[i] = masses[i - 1] + (density[k, i - 1] + density[k, i]) / 2
        for n in range(shares.shape[0]):
            wanted = shares[n, k] * masses[steps - 1]
            low, high = 0, steps - 1
            while high - low > 1:
                middle = (low + high) // 2
                if masses[middle] <= wanted:
                    low = middle
                else:
                    high = middle
            width = masses[high] - masses[low]
            part = (wanted - masses[low]) / width if width > 0 else 0.5
            out[n, k] = low + min(max(part, 0.0), 1.0)


@compiled
def chebyshev(coefficients: Floats, x: Floats, out: Floats) -> None:
    """Values of series, one in each column, by Clenshaw's recurrence; x has rows of all of them."""
    last = coefficients.shape[0] - 1
    for n in range(x.shape[0]):
        for k in range(x.shape[1]):
            ahead, further = 0.0, 0.0
            for i in range(last, 0, -1):
                ahead, further = coefficients[i, k] + 2 * x[n, k] * ahead - further, ahead
            out[n, k] = coefficients[0, k] + x[n, k] * ahead - further


@compiled
def joined(dim: int, rows: Integers, columns: Integers, largest: int) -> NDArray[np.int32]:
    """Groups of at most so many coordinates, joined pair by pair in the order that is given.

    The number of the group of each, counted from 0.
    """
    parent, size = np.arange(dim), np.ones(dim, dtype=np.int64)
    for at in range(len(rows)):
        one, other = rows[at], columns[at]
        while parent[one] != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        while parent[other] != other:
            parent[other] = parent[parent[other]]
            other = parent[other]
        if one != other and size[one] + size[other] <= largest:
            parent[other] = one
            size[one] += size[other]
    labels = np.full(dim, -1, dtype=np.int32)
    found, number = np.empty(dim, dtype=np.int32), 0
    for place in range(dim):
        root = place
        while parent[root] != root:
            root = parent[root]
        if labels[root] < 0:
            labels[root] = number
            number += 1
        found[place] = labels[root]
    return found
