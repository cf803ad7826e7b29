"""Factors of precisions that all have one pattern."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array

from pmflow.embedded.factor import DenseFactor, Factor, SparseFactor

__all__ = ["Factors", "is_dense"]

_DENSE = 0.3
"""Share of entries of a pattern: its factor has nearly all of them."""
_MOST_DAMPED = 1e6
"""Relative to the diagonal: farther from a precision than that is not looked."""

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]


def is_dense(pattern: csr_array) -> bool:
    """Whether a factor of such a precision is as quick with all of its entries."""
    return bool(pattern.nnz > _DENSE * pattern.shape[0] ** 2)


class Factors:
    """Factors of precisions that all have one pattern, which is analysed once.

    Parameters
    ----------
    pattern : csr_array, shape (dim, dim)
        Symmetric, with its diagonal.

    Attributes
    ----------
    pattern
        As given.
    dim : int
    rows, columns : ndarray, shape (entries,)
        Entries of the upper triangle, column by column: the order of `values` below.
    on_diagonal : ndarray, shape (dim,)
        Which of the entries are those of the diagonal.
    """

    def __init__(self, pattern: csr_array) -> None:
        self.pattern, self.dim = pattern, pattern.shape[0]
        self._solver: Any = None

    @cached_property
    def _upper(self) -> tuple[Integers, Integers]:
        upper = csc_array(self.pattern).sorted_indices()
        columns = np.repeat(np.arange(self.dim), np.diff(upper.indptr))
        kept = upper.indices <= columns
        return upper.indices[kept].astype(np.int64), columns[kept].astype(np.int64)

    @property
    def rows(self) -> Integers:
        """Row of each entry of the upper triangle."""
        return self._upper[0]

    @property
    def columns(self) -> Integers:
        """Column of each, in which they are ordered."""
        return self._upper[1]

    @cached_property
    def on_diagonal(self) -> Integers:
        """Which of the entries are those of the diagonal."""
        return np.flatnonzero(self.rows == self.columns)

    @cached_property
    def _pointers(self) -> Integers:
        return np.searchsorted(self.columns, np.arange(self.dim + 1))

    @property
    def is_diagonal(self) -> bool:
        """Whether no two coordinates meet."""
        return bool(self.pattern.nnz == self.dim)

    @property
    def is_apart(self) -> bool:
        """Whether coordinates that are not connected by the pattern are independent."""
        return True

    def has_crossed(self, values: Floats) -> bool:
        """Whether coordinates that do not meet by the pattern meet through sums of all."""
        return False

    def diagonal(self, values: Floats) -> Floats:
        """The diagonals of precisions of shape (..., entries), shape (..., dim)."""
        return values[..., self.on_diagonal]

    def raised(self, values: Floats, by: Floats) -> Floats:
        """A precision with so much more on its diagonal."""
        found = values.copy()
        found[self.on_diagonal] += by
        return found

    def times(self, values: Floats, d: Floats) -> Floats:
        """The precision with these entries times a vector of shape (dim,)."""
        return np.asarray(self.matrix(values) @ d)

    def matrix(self, values: Floats) -> csr_array:
        """The symmetric matrix with these entries."""
        off = self.rows != self.columns
        rows = np.concatenate([self.rows, self.columns[off]])
        columns = np.concatenate([self.columns, self.rows[off]])
        both = np.concatenate([values, values[off]])
        return csr_array((both, (rows, columns)), shape=2 * (self.dim,))

    def of(self, values: Floats) -> Factor | None:
        """The factor of the precision with these entries, None where it is not positive definite.

        Parameters
        ----------
        values : ndarray, shape (entries,)
        """
        return self._of_finite(values) if np.isfinite(values).all() else None

    def _of_finite(self, values: Floats) -> Factor | None:
        if is_dense(self.pattern):
            return self._of_all(values)
        import qdldl

        values = np.ascontiguousarray(values)  # qdldl reads past strides
        matrix = csc_array((values, self.rows, self._pointers), shape=2 * (self.dim,))
        try:
            if self._solver is None:
                self._solver = qdldl.Solver(matrix, upper=True)
            else:
                self._solver.update(matrix, upper=True)
        except RuntimeError:  # a pivot is 0
            return None
        lower, diagonal, order = self._solver.factors()
        if not (np.isfinite(diagonal).all() and (diagonal > 0).all()):
            return None
        return SparseFactor(
            lower.indptr.astype(np.int64),
            lower.indices.astype(np.int64),
            lower.data,
            np.asarray(diagonal),
            np.asarray(order, dtype=np.int64),
        )

    def _of_all(self, values: Floats) -> Factor | None:
        """The same by LAPACK, with all entries below the diagonal."""
        matrix = np.zeros((self.dim, self.dim), order="F")
        matrix[self.columns, self.rows] = values
        return DenseFactor.of(matrix)

    def damped(self, values: Floats) -> tuple[Factor, float, Floats]:
        """The same with as much added to its diagonal as makes it positive definite.

        Returns
        -------
        Factor
        float
            How much, relative to the diagonal: 0 where nothing was added.
        ndarray, shape (entries,)
            What it is the factor of.
        """
        size = np.abs(self.diagonal(values))
        size = np.maximum(size, 1e-8 * size.max())
        damping = 0.0
        while True:
            changed = self.raised(values, damping * size)
            factor = self.of(changed)
            if factor is not None:
                return factor, damping, changed
            damping = max(4 * damping, 1e-2)
            if damping > _MOST_DAMPED:
                raise np.linalg.LinAlgError("no precision near it is positive definite")
