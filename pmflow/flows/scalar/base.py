"""Increasing maps of one coordinate, shaped by numbers that a network or the parameters give.

A transformer is what an autoregressive layer or a coupling does to each coordinate. It holds no
parameters: the numbers come with the points, as an array with one more axis.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

__all__ = ["LEAST_SLOPE", "Transformer"]

LEAST_SLOPE = 1e-3
"""The least slope of a sigmoid's argument, and of a polynomial: it keeps inverses within reach."""


class Transformer(ABC):
    """An increasing map of the line to itself, applied to every coordinate on its own."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How many numbers shape the map of one coordinate."""

    @abstractmethod
    def start(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """The numbers at which the map is the identity, shape (size,)."""

    @abstractmethod
    def forward(
        self, z: TensorVariable, numbers: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable]:
        """Map points.

        Parameters
        ----------
        z : TensorVariable, shape (*batch, n)
        numbers : TensorVariable, shape (*batch, size, n) or (size, n)

        Returns
        -------
        z_new : TensorVariable, shape (*batch, n)
        log_slope : TensorVariable, shape (*batch, n)
            Log of the derivative of each coordinate.
        """

    @abstractmethod
    def inverse(self, z: TensorVariable, numbers: TensorVariable) -> TensorVariable:
        """Map points back, shape (*batch, n)."""
