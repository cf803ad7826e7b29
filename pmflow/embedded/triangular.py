"""Any factor of a precision as one with a sparse unit triangle."""

from __future__ import annotations

import numpy as np

from pmflow.embedded.factor import Factor, SparseFactor
from pmflow.embedded.low_rank_factor import DiagonalFactor, LowRankFactor
from pmflow.records import full_triangle

__all__ = ["triangular"]

_MOST_DENSE = 300
"""Variables of which rows beside another precision are kept: its triangle has no zeros then."""


def triangular(factor: Factor) -> SparseFactor:
    """The factor with a unit triangle.

    Of a low-rank factor of many variables that of its base alone: what the rows add is left out.
    """
    size = factor.size
    if isinstance(factor, SparseFactor):
        return factor
    if isinstance(factor, DiagonalFactor):
        return SparseFactor(
            np.zeros(size + 1, int), np.zeros(0, int), np.zeros(0), factor.diagonal, np.arange(size)
        )
    if isinstance(factor, LowRankFactor) and size > _MOST_DENSE:
        return triangular(factor.base)
    rows = factor.scaled(np.eye(size))
    root = np.linalg.cholesky(rows @ rows.T)
    sds, triangle = np.diag(root), full_triangle(size)
    entries = (root / sds)[triangle.rows, triangle.columns]
    return SparseFactor(triangle.pointers, triangle.rows, entries, sds**2, triangle.order)
