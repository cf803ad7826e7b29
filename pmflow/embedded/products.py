"""J' H J of sparse matrices, for many H and J of the same patterns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pmflow.embedded.factor import loops
from pmflow.embedded.factors import Factors
from pmflow.embedded.jacobians import counted, one_of_each
from pmflow.embedded.predictors import NotLiftedError

__all__ = ["DiagonalProducts", "Products"]

_MOST_PLACES, _MOST_PRODUCTS = 20_000_000, 1_000_000_000
"""Places of products that are kept, and products of three numbers that one curvature adds up."""
_TOO_MANY = "its predictors depend on too many entries each"

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]


class Products:
    """The products that J' H J is the sum of.

    Parameters
    ----------
    outer : Factors
        Of the pattern of H.
    pointers, indices : ndarray
        Where J has entries, row by row.
    inner : Factors
        Of the pattern of J' H J: what it does not have cancels out.

    Raises
    ------
    NotLiftedError
        If they are too many.
    """

    def __init__(
        self, outer: Factors, pointers: Integers, indices: Integers, inner: Factors
    ) -> None:
        self._rows, self._columns = outer.rows, outer.columns
        self._pointers, self._indices = pointers, indices
        counts = np.diff(pointers)
        numbers = counts[outer.rows] * counts[outer.columns]
        if numbers.sum() > _MOST_PLACES:
            raise NotLiftedError(_TOO_MANY)
        entry, nth = counted(numbers)
        width = counts[outer.columns[entry]]
        i = indices[pointers[outer.rows[entry]] + nth // width]
        j = indices[pointers[outer.columns[entry]] + nth % width]
        targets = _targets(inner, i, j)
        # one of each two mirror images
        is_left_out = (outer.rows == outer.columns)[entry] & (i > j)
        self._targets = np.where(is_left_out, -1, targets).astype(np.int32)
        self._entries = len(inner.columns)

    def __call__(self, curvature: Floats, jacobian: Floats) -> Floats:
        """The entries of J' H J, by those of H and J."""
        found = np.zeros(self._entries)
        loops().add_products(
            self._rows,
            self._columns,
            self._pointers,
            self._indices,
            self._targets,
            np.ascontiguousarray(curvature),
            jacobian,
            found,
        )
        return found


class DiagonalProducts:
    """The same for a diagonal H: rows with the same columns add up before they are put in place.

    The rows of one group of a hierarchy are such rows.
    """

    def __init__(self, pointers: Integers, indices: Integers, inner: Factors) -> None:
        counts = np.diff(pointers)
        examples, kinds = one_of_each(pointers, indices)
        widths = counts[examples]
        numbers = widths * (widths + 1) // 2
        if numbers.sum() > _MOST_PLACES or (counts**2).sum() > _MOST_PRODUCTS:
            raise NotLiftedError(_TOO_MANY)
        self._order = np.argsort(kinds, kind="stable")
        self._ends = np.concatenate([[0], np.cumsum(np.bincount(kinds, minlength=len(examples)))])
        self._pointers, self._widths = pointers, widths
        kind, nth = counted(numbers)
        # the nth entry of a lower triangle, row by row
        row = ((np.sqrt(8 * nth + 1) - 1) // 2).astype(np.int64)
        begin = pointers[examples[kind]]
        i, j = indices[begin + row], indices[begin + nth - row * (row + 1) // 2]
        self._targets = _targets(inner, i, j).astype(np.int32)
        self._entries = len(inner.columns)

    def __call__(self, curvature: Floats, jacobian: Floats) -> Floats:
        """The entries of J' H J, by the diagonal of H and the entries of J."""
        found = np.zeros(self._entries)
        loops().add_alike(
            self._order,
            self._ends,
            self._widths,
            self._pointers,
            self._targets,
            np.ascontiguousarray(curvature),
            jacobian,
            found,
        )
        return found


def _targets(inner: Factors, i: Integers, j: Integers) -> Integers:
    """Which entries of the upper triangle those of row i and column j are; -1 for none of them."""
    wanted = np.maximum(i, j) * inner.dim + np.minimum(i, j)
    known = inner.columns * inner.dim + inner.rows
    target = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[target] == wanted, target, -1)
