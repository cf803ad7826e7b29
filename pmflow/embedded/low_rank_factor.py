"""Factors of precisions that are few rows beside one that has a factor already."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import override

import numpy as np
from numpy.typing import NDArray

from pmflow.embedded.factor import Factor
from pmflow.watch import importing

__all__ = ["DiagonalFactor", "LowRankFactor"]

type Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class DiagonalFactor(Factor):
    """A precision without entries beside its diagonal.

    Attributes
    ----------
    diagonal : ndarray, shape (size,)
        Positive.
    """

    diagonal: Floats

    @classmethod
    def of(cls, diagonal: Floats) -> DiagonalFactor | None:
        """The factor of a diagonal; None where it is not positive definite."""
        return cls(diagonal) if (diagonal > 0).all() else None

    @property
    @override
    def size(self) -> int:
        return len(self.diagonal)

    @cached_property
    @override
    def log_det(self) -> float:
        return float(np.log(self.diagonal).sum())

    @property
    @override
    def precisions(self) -> Floats:
        return self.diagonal

    @property
    @override
    def variances(self) -> Floats:
        return np.asarray(1 / self.diagonal)

    @override
    def whitened(self, b: Floats) -> Floats:
        return np.asarray(b / np.sqrt(self.diagonal))

    @override
    def coloured(self, e: Floats) -> Floats:
        return np.asarray(e / np.sqrt(self.diagonal))

    @override
    def scaled(self, d: Floats) -> Floats:
        return np.asarray(d * np.sqrt(self.diagonal))

    @override
    def slopes(self, e: Floats) -> Floats:
        return self.scaled(e)


@dataclass(frozen=True, eq=False)
class LowRankFactor(Factor):
    r"""A precision :math:`P = B (I + W \Lambda W^\top) B^\top`, with B the root of another one.

    The root of what is between is the symmetric one, so all of it costs no more than products with
    W beside what B takes (Woodbury's formula).

    Attributes
    ----------
    base : Factor
        Of :math:`B B^\top`.
    directions : ndarray, shape (size, rank)
        W, with orthonormal columns.
    growth : ndarray, shape (rank,)
        The diagonal of Lambda, above -1.
    gained : ndarray, shape (size,)
        What the rows add to the diagonal of P.
    """

    base: Factor
    directions: Floats
    growth: Floats
    gained: Floats

    @classmethod
    def of(cls, base: Factor | None, rows: Floats, middle: Floats) -> LowRankFactor | None:
        """The factor of the base's precision + rows' middle rows; None where it has none.

        Parameters
        ----------
        base : Factor or None
        rows : ndarray, shape (rank, size)
        middle : ndarray, shape (rank, rank)
            Symmetric.
        """
        if base is None:
            return None
        with importing("scipy.linalg"):
            from scipy.linalg import qr
        basis, upper = qr(base.whitened(rows).T, mode="economic", check_finite=False)
        growth, rotation = np.linalg.eigh(upper @ middle @ upper.T)
        if not (growth > -1).all():
            return None
        return cls(base, basis @ rotation, growth, (rows * (middle @ rows)).sum(0))

    @property
    @override
    def size(self) -> int:
        return self.base.size

    @cached_property
    @override
    def log_det(self) -> float:
        return float(self.base.log_det + np.log1p(self.growth).sum())

    @property
    @override
    def precisions(self) -> Floats:
        return np.asarray(self.base.precisions + self.gained)

    @property
    @override
    def variances(self) -> Floats:
        directions = self.base.coloured(self.directions.T)
        lost = (self.growth / (1 + self.growth)) @ directions**2
        return np.asarray(self.base.variances - lost)

    @override
    def whitened(self, b: Floats) -> Floats:
        r""":math:`(I + W \Lambda W^\top)^{-1/2} B^{-1} b`."""
        return self._along(self.base.whitened(b), -0.5)

    @override
    def coloured(self, e: Floats) -> Floats:
        r""":math:`B^{-\top} (I + W \Lambda W^\top)^{-1/2} e`."""
        return self.base.coloured(self._along(e, -0.5))

    @override
    def scaled(self, d: Floats) -> Floats:
        r""":math:`(I + W \Lambda W^\top)^{1/2} B^\top d`."""
        return self._along(self.base.scaled(d), 0.5)

    @override
    def slopes(self, e: Floats) -> Floats:
        r""":math:`B (I + W \Lambda W^\top)^{1/2} e`."""
        return self.base.slopes(self._along(e, 0.5))

    def _along(self, rows: Floats, power: float) -> Floats:
        """Rows times a power of what is between."""
        change = (1 + self.growth) ** power - 1
        return np.asarray(rows + (rows @ self.directions * change) @ self.directions.T)
