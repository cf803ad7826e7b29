"""Factors of sparse precisions: draws, solves and determinants."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array

from pmflow.records import State
from pmflow.watch import importing

__all__ = ["Factor", "Factors", "is_dense", "loops"]

_DENSE = 0.3
"""Share of entries of a pattern: its factor has nearly all of them."""
_MOST_DAMPED = 1e6
"""Relative to the diagonal: farther from a precision than that is not looked."""

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]


def loops() -> Any:
    """The loops over entries, which load numba."""
    with importing("numba"):
        from pmflow.embedded import loops as found

    return found


@dataclass(frozen=True, eq=False)
class Factor(State):
    r"""A precision :math:`P = A^\top L D L^\top A` with a permutation A and a unit triangular L.

    Attributes
    ----------
    pointers, rows : ndarray
        Where the entries of L below its diagonal are, by columns.
    entries : ndarray
    diagonal : ndarray, shape (dim,)
        D, positive.
    order : ndarray, shape (dim,)
        The row of P that each row of L belongs to.
    """

    pointers: Integers
    rows: Integers
    entries: Floats
    diagonal: Floats
    order: Integers

    @cached_property
    def log_det(self) -> float:
        """Log of the determinant of P."""
        return float(np.log(self.diagonal).sum())

    @property
    def precisions(self) -> Floats:
        """The diagonal of P, where it has nothing else."""
        found = np.empty_like(self.diagonal)
        found[self.order] = self.diagonal
        return found

    def whitened(self, b: Floats) -> Floats:
        r""":math:`D^{-1/2} L^{-1} A b` of rows of shape (n, dim): its square is b' P^-1 b."""
        x = np.ascontiguousarray(b[:, self.order].T)
        loops().solve_lower(self.pointers, self.rows, self.entries, x)
        return (x / np.sqrt(self.diagonal)[:, None]).T

    def coloured(self, e: Floats) -> Floats:
        r""":math:`A^\top L^{-\top} D^{-1/2} e` of rows of shape (n, dim): draws of N(0, P^-1)."""
        x = np.ascontiguousarray(e.T) / np.sqrt(self.diagonal)[:, None]
        loops().solve_upper(self.pointers, self.rows, self.entries, x)
        found = np.empty_like(x)
        found[self.order] = x
        return found.T

    def of_variables(self, e: Floats) -> Floats:
        """Base draws of shape (n, dim), each in the place of one of the variables it moves."""
        found = np.empty_like(e)
        found[:, self.order] = e
        return found

    def solve(self, b: Floats) -> Floats:
        """Rows of shape (n, dim) times P^-1."""
        return self.coloured(self.whitened(b))

    def squared_norm(self, d: Floats) -> Floats:
        """D' P d of rows of shape (n, dim), shape (n,)."""
        x = np.ascontiguousarray(d[:, self.order].T)
        loops().multiply_upper(self.pointers, self.rows, self.entries, x)
        return np.asarray((self.diagonal[:, None] * x**2).sum(0))


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
    rows, columns : ndarray, shape (entries,)
        Entries of the upper triangle, column by column: the order of `values` below.
    on_diagonal : ndarray, shape (dim,)
        Which of the entries are those of the diagonal.
    """

    def __init__(self, pattern: csr_array) -> None:
        self.pattern, self.dim = pattern, pattern.shape[0]
        upper = csc_array(pattern).sorted_indices()
        columns = np.repeat(np.arange(self.dim), np.diff(upper.indptr))
        kept = upper.indices <= columns
        self.rows: Integers = upper.indices[kept].astype(np.int64)
        self.columns: Integers = columns[kept].astype(np.int64)
        self.on_diagonal: Integers = np.flatnonzero(self.rows == self.columns)
        self._pointers = np.searchsorted(self.columns, np.arange(self.dim + 1))
        self._solver: Any = None
        self._is_dense = is_dense(self.pattern)

    @property
    def is_diagonal(self) -> bool:
        """Whether no two coordinates meet."""
        return len(self.rows) == self.dim

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
        import qdldl

        if not np.isfinite(values).all():
            return None
        if self._is_dense:
            return self._of_all(values)
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
        return Factor(
            lower.indptr.astype(np.int64),
            lower.indices.astype(np.int64),
            lower.data,
            np.asarray(diagonal),
            np.asarray(order, dtype=np.int64),
        )

    def _of_all(self, values: Floats) -> Factor | None:
        """The same by LAPACK, with all entries below the diagonal."""
        matrix = np.zeros((self.dim, self.dim))
        matrix[self.columns, self.rows] = values
        with importing("scipy.linalg"):
            from scipy.linalg import lapack
        root, failed = lapack.dpotrf(matrix, lower=1, clean=1)
        if failed:
            return None
        of_root = np.diag(root)
        below, order = self._below, np.arange(self.dim)
        return Factor(*below[:2], (root / of_root).T[below[2:]], of_root**2, order)

    @cached_property
    def _below(self) -> tuple[Integers, Integers, Integers, Integers]:
        """Pointers and rows of the entries below the diagonal, and where they are in L'."""
        columns, rows = np.triu_indices(self.dim, 1)
        pointers = np.searchsorted(columns, np.arange(self.dim + 1))
        return pointers, rows, columns, rows

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
        size = np.abs(values[self.on_diagonal])
        size = np.maximum(size, 1e-8 * size.max())
        damping = 0.0
        while True:
            changed = values.copy()
            changed[self.on_diagonal] += damping * size
            factor = self.of(changed)
            if factor is not None:
                return factor, damping, changed
            damping = max(4 * damping, 1e-2)
            if damping > _MOST_DAMPED:
                raise np.linalg.LinAlgError("no precision near it is positive definite")
