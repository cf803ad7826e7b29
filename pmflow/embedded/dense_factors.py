"""Factors of precisions that all variables meet in: of a matrix, or of few rows and a diagonal."""

from __future__ import annotations

from functools import cached_property
from typing import override

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from pmflow.embedded.factor import DenseFactor, Factor
from pmflow.embedded.factors import Factors
from pmflow.embedded.low_rank_factor import DiagonalFactor, LowRankFactor

__all__ = ["DenseFactors", "LowRankFactors"]

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
        diagonal, rows, signs = self._parts(values)
        return LowRankFactor.of(DiagonalFactor.of(diagonal), rows, np.diag(signs))

    def _parts(self, values: Floats) -> tuple[Floats, Floats, Floats]:
        diagonal, rows, signs = np.split(values, [self.dim, self.dim * (1 + self._rank)], -1)
        return diagonal, rows.reshape(*rows.shape[:-1], self._rank, self.dim), signs
