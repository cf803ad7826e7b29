"""Factors of precisions: draws, solves and determinants."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, override

import numpy as np
from numpy.typing import NDArray

from pmflow.records import State, Triangle
from pmflow.watch import importing

__all__ = ["DenseFactor", "Factor", "SparseFactor", "log_dets_of", "loops"]


type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]


def loops() -> Any:
    """The loops over entries, which load numba."""
    with importing("numba"):
        from pmflow.embedded import loops as found

    return found


class Factor(State, ABC):
    """A square root of a precision P."""

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of variables."""

    @property
    @abstractmethod
    def log_det(self) -> float:
        """Log of the determinant of P."""

    @property
    @abstractmethod
    def precisions(self) -> Floats:
        """The diagonal of P."""

    @property
    @abstractmethod
    def variances(self) -> Floats:
        """The diagonal of P^-1."""

    @abstractmethod
    def whitened(self, b: Floats) -> Floats:
        """Rows of shape (n, size) whose squared lengths are b' P^-1 b."""

    @abstractmethod
    def coloured(self, e: Floats) -> Floats:
        """Base draws of shape (n, size) as draws of N(0, P^-1)."""

    @abstractmethod
    def scaled(self, d: Floats) -> Floats:
        """Rows of shape (n, size) whose squared lengths are d' P d: `coloured`, undone."""

    def in_order(self, rows: Floats) -> Floats:
        """Rows of shape (n, size) by the variables of P as rows by those of its root."""
        return rows

    def squared_norm(self, d: Floats) -> Floats:
        """D' P d of rows of shape (n, size), shape (n,)."""
        return np.asarray((self.scaled(d) ** 2).sum(1))

    @abstractmethod
    def slopes(self, e: Floats) -> Floats:
        """P times `coloured(e)`, shape (n, size): how the log density falls, at draws."""

    def solve(self, b: Floats) -> Floats:
        """Rows of shape (n, size) times P^-1."""
        return self.coloured(self.whitened(b))


@dataclass(frozen=True, eq=False)
class SparseFactor(Factor):
    r"""A precision :math:`P = A^\top L D L^\top A` with a permutation A and a unit triangular L.

    Attributes
    ----------
    pointers, rows : ndarray
        Where the entries of L below its diagonal are, by columns.
    entries : ndarray
    diagonal : ndarray, shape (size,)
        D, positive.
    order : ndarray, shape (size,)
        The row of P that each row of L belongs to.
    """

    pointers: Integers
    rows: Integers
    entries: Floats
    diagonal: Floats
    order: Integers

    @property
    def triangle(self) -> Triangle:
        """Where L has entries, checked."""
        return Triangle(self.pointers, self.rows, self.order)

    @property
    @override
    def size(self) -> int:
        return len(self.diagonal)

    @override
    def in_order(self, rows: Floats) -> Floats:
        return rows[:, self.order]

    @cached_property
    @override
    def log_det(self) -> float:
        return float(np.log(self.diagonal).sum())

    @property
    @override
    def precisions(self) -> Floats:
        of_entries = np.repeat(self.diagonal, np.diff(self.pointers)) * self.entries**2
        found = np.empty_like(self.diagonal)
        found[self.order] = self.diagonal + np.bincount(self.rows, of_entries, self.size)
        return found

    @property
    @override
    def variances(self) -> Floats:
        """By the entries of the inverse that L has (Takahashi et al., 1973)."""
        found = np.empty_like(self.diagonal)
        found[self.order] = loops().selected_inverse(
            self.pointers, self.rows, self.entries, self.diagonal
        )
        return found

    @override
    def whitened(self, b: Floats) -> Floats:
        r""":math:`D^{-1/2} L^{-1} A b`."""
        x = np.ascontiguousarray(b[:, self.order].T)
        loops().solve_lower(self.pointers, self.rows, self.entries, x)
        return (x / np.sqrt(self.diagonal)[:, None]).T

    @override
    def coloured(self, e: Floats) -> Floats:
        r""":math:`A^\top L^{-\top} D^{-1/2} e`."""
        x = np.ascontiguousarray(e.T) / np.sqrt(self.diagonal)[:, None]
        loops().solve_upper(self.pointers, self.rows, self.entries, x)
        found = np.empty_like(x)
        found[self.order] = x
        return found.T

    @override
    def slopes(self, e: Floats) -> Floats:
        r""":math:`A^\top L D^{1/2} e`."""
        x = np.ascontiguousarray(e.T) * np.sqrt(self.diagonal)[:, None]
        loops().multiply_lower(self.pointers, self.rows, self.entries, x)
        found = np.empty_like(x)
        found[self.order] = x
        return found.T

    @override
    def scaled(self, d: Floats) -> Floats:
        r""":math:`D^{1/2} L^\top A d`."""
        x = np.ascontiguousarray(d[:, self.order].T)
        loops().multiply_upper(self.pointers, self.rows, self.entries, x)
        return (x * np.sqrt(self.diagonal)[:, None]).T


def log_dets_of(factors: Iterable[Factor | None]) -> Floats:
    """Log determinants of precisions, NaN where there is no factor."""
    return np.array([np.nan if factor is None else factor.log_det for factor in factors])


@dataclass(frozen=True, eq=False)
class DenseFactor(Factor):
    r"""A precision :math:`P = R R^\top`, by LAPACK.

    Attributes
    ----------
    root : ndarray, shape (size, size)
        R, lower triangular.
    """

    root: Floats

    @classmethod
    def of(cls, matrix: Floats) -> DenseFactor | None:
        """The factor of a matrix by its lower triangle; None where it is not positive definite."""
        with importing("scipy.linalg"):
            from scipy.linalg import lapack
        root, failed = lapack.dpotrf(matrix, lower=1, clean=1)
        return None if failed else cls(root)

    @property
    @override
    def size(self) -> int:
        return len(self.root)

    @cached_property
    @override
    def log_det(self) -> float:
        return float(2 * np.log(np.diag(self.root)).sum())

    @property
    @override
    def precisions(self) -> Floats:
        return np.asarray((self.root**2).sum(1))

    @property
    @override
    def variances(self) -> Floats:
        return np.asarray((self._solved(np.eye(self.size), transposed=False) ** 2).sum(1))

    @override
    def whitened(self, b: Floats) -> Floats:
        r""":math:`R^{-1} b`."""
        return self._solved(b, transposed=False)

    @override
    def coloured(self, e: Floats) -> Floats:
        r""":math:`R^{-\top} e`."""
        return self._solved(e, transposed=True)

    @override
    def scaled(self, d: Floats) -> Floats:
        r""":math:`R^\top d`."""
        return np.asarray(d @ self.root)

    @override
    def slopes(self, e: Floats) -> Floats:
        r""":math:`R e`."""
        return np.asarray(e @ self.root.T)

    def _solved(self, rows: Floats, *, transposed: bool) -> Floats:
        with importing("scipy.linalg"):
            from scipy.linalg import lapack
        # without the checks of `scipy.linalg`, which take longer than a small system itself
        found, _ = lapack.dtrtrs(self.root, rows.T, lower=1, trans=int(transposed))
        return np.asarray(found.T)
