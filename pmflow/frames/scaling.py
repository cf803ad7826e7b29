"""What a frame multiplies by: a diagonal, or a triangle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import override

import numpy as np
from numpy.typing import NDArray

__all__ = ["AbstractScaling", "DiagonalScaling", "LowerScaling"]

type Floats = NDArray[np.float64]


class AbstractScaling(ABC):
    """An invertible matrix L, applied to points in rows."""

    @property
    @abstractmethod
    def sds(self) -> Floats:
        """Lengths of the rows of L."""

    @property
    @abstractmethod
    def log_det(self) -> float:
        """Log of the determinant of L."""

    @abstractmethod
    def forward(self, y: Floats) -> Floats:
        """L y."""

    @abstractmethod
    def backward(self, d: Floats) -> Floats:
        """L^-1 d."""

    @abstractmethod
    def pulled(self, gradient: Floats) -> Floats:
        """L' g."""

    @abstractmethod
    def times(self, inner: Floats) -> Floats:
        """L times a matrix of its own kind: a lower triangle, or a diagonal."""


@dataclass(frozen=True, eq=False)
class DiagonalScaling(AbstractScaling):
    """A positive diagonal, shape (dim,)."""

    diagonal: Floats

    @property
    @override
    def sds(self) -> Floats:
        return self.diagonal

    @property
    @override
    def log_det(self) -> float:
        return float(np.log(self.diagonal).sum())

    @override
    def forward(self, y: Floats) -> Floats:
        return y * self.diagonal

    @override
    def backward(self, d: Floats) -> Floats:
        return d / self.diagonal

    @override
    def pulled(self, gradient: Floats) -> Floats:
        return gradient * self.diagonal

    @override
    def times(self, inner: Floats) -> Floats:
        return self.diagonal * inner


@dataclass(frozen=True, eq=False)
class LowerScaling(AbstractScaling):
    """A lower triangle with a positive diagonal, shape (dim, dim)."""

    lower: Floats

    @property
    @override
    def sds(self) -> Floats:
        return np.sqrt((self.lower**2).sum(1))

    @property
    @override
    def log_det(self) -> float:
        return float(np.log(np.diag(self.lower)).sum())

    @override
    def forward(self, y: Floats) -> Floats:
        return y @ self.lower.T

    @override
    def backward(self, d: Floats) -> Floats:
        from scipy.linalg import solve_triangular  # slow to import

        y: Floats = solve_triangular(self.lower, d.T, lower=True).T
        return y

    @override
    def pulled(self, gradient: Floats) -> Floats:
        return gradient @ self.lower

    @override
    def times(self, inner: Floats) -> Floats:
        return self.lower @ inner
