"""Factors of precisions that all variables meet in: of a matrix, or of few rows and a diagonal."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import override

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from pmflow.embedded.factor import DenseFactor, Factor
from pmflow.embedded.factors import Factors
from pmflow.watch import importing

__all__ = ["DenseFactors", "LowRankFactor", "LowRankFactors"]

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]


class DenseFactors(Factors):
    """Factors of precisions that are given as whole matrices, row by row: `values` is flat."""

    @cached_property
    @override
    def on_diagonal(self) -> Integers:
        return np.arange(self.dim) * (self.dim + 1)

    @override
    def matrix(self, values: Floats) -> csr_array:
        return csr_array(values.reshape(self.dim, self.dim))

    @override
    def _of_finite(self, values: Floats) -> Factor | None:
        matrix = values.reshape(self.dim, self.dim)
        return DenseFactor.of(matrix.T)  # column by column, as LAPACK reads


@dataclass(frozen=True, eq=False)
class LowRankFactor(Factor):
    r"""A precision :math:`P = D^{1/2} (I + W \Lambda W^\top) D^{1/2}`.

    Its root is the symmetric one of what is between, so all of it costs no more than products with
    W (Woodbury's formula).

    Attributes
    ----------
    diagonal : ndarray, shape (size,)
        D, positive.
    directions : ndarray, shape (size, rank)
        W, with orthonormal columns.
    growth : ndarray, shape (rank,)
        The diagonal of Lambda, above -1.
    """

    diagonal: Floats
    directions: Floats
    growth: Floats

    @classmethod
    def of(cls, diagonal: Floats, rows: Floats, signs: Floats) -> LowRankFactor | None:
        """The factor of diag(diagonal) + rows' diag(signs) rows; None where it has none.

        Parameters
        ----------
        diagonal : ndarray, shape (size,)
        rows : ndarray, shape (rank, size)
        signs : ndarray, shape (rank,)
        """
        if not (diagonal > 0).all():
            return None
        with importing("scipy.linalg"):
            from scipy.linalg import qr
        basis, upper = qr((rows / np.sqrt(diagonal)).T, mode="economic", check_finite=False)
        growth, rotation = np.linalg.eigh((upper * signs) @ upper.T)
        if not (growth > -1).all():
            return None
        return cls(diagonal, basis @ rotation, growth)

    @property
    @override
    def size(self) -> int:
        return len(self.diagonal)

    @cached_property
    @override
    def log_det(self) -> float:
        return float(np.log(self.diagonal).sum() + np.log1p(self.growth).sum())

    @property
    @override
    def precisions(self) -> Floats:
        return np.asarray(self.diagonal * (1 + self.directions**2 @ self.growth))

    @override
    def whitened(self, b: Floats) -> Floats:
        r""":math:`(I + W \Lambda W^\top)^{-1/2} D^{-1/2} b`."""
        return self._narrowed(b / np.sqrt(self.diagonal))

    @override
    def coloured(self, e: Floats) -> Floats:
        r""":math:`D^{-1/2} (I + W \Lambda W^\top)^{-1/2} e`."""
        return np.asarray(self._narrowed(e) / np.sqrt(self.diagonal))

    @override
    def squared_norm(self, d: Floats) -> Floats:
        scaled = d * np.sqrt(self.diagonal)
        return np.asarray((scaled**2).sum(1) + (scaled @ self.directions) ** 2 @ self.growth)

    def _narrowed(self, rows: Floats) -> Floats:
        along = (rows @ self.directions) * (1 / np.sqrt(1 + self.growth) - 1)
        return np.asarray(rows + along @ self.directions.T)


class LowRankFactors(Factors):
    """Factors of precisions that are a diagonal and few rows: D + R' S R with signs S.

    `values` is flat: the diagonal, the rows one after the other, and their signs.

    Parameters
    ----------
    pattern : csr_array, shape (dim, dim)
    rank : int
        How many rows there are.
    """

    def __init__(self, pattern: csr_array, rank: int) -> None:
        super().__init__(pattern)
        self._rank = rank

    @override
    def diagonal(self, values: Floats) -> Floats:
        diagonal, rows, signs = self._parts(values)
        return np.asarray(diagonal + (signs[..., None] * rows**2).sum(-2))

    @override
    def raised(self, values: Floats, by: Floats) -> Floats:
        found = values.copy()
        found[: self.dim] += by
        return found

    @override
    def matrix(self, values: Floats) -> csr_array:
        diagonal, rows, signs = self._parts(values)
        return csr_array(np.diag(diagonal) + (rows.T * signs) @ rows)

    @override
    def _of_finite(self, values: Floats) -> Factor | None:
        return LowRankFactor.of(*self._parts(values))

    def _parts(self, values: Floats) -> tuple[Floats, Floats, Floats]:
        diagonal, rows, signs = np.split(values, [self.dim, self.dim * (1 + self._rank)], -1)
        return diagonal, rows.reshape(*rows.shape[:-1], self._rank, self.dim), signs
