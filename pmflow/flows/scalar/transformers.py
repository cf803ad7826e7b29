"""Increasing maps of one coordinate, shaped by numbers that a network or the parameters give.

A transformer is what an autoregressive layer or a coupling does to each coordinate. It holds no
parameters: the numbers come with the points, as an array with one more axis.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

__all__ = ["Affine", "Transformer", "soft_clamp"]


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


def soft_clamp(x: TensorVariable, bound: float) -> TensorVariable:
    """Keep `x` within -/+ `bound`, smoothly, and as it is near 0."""
    return bound * pt.tanh(x / bound)


@dataclass(frozen=True)
class Affine(Transformer):
    r"""A scale and a shift, the scale bounded.

    .. math:: z' = e^{s} z + t, \qquad s = B \tanh(c_0 / B), \qquad t = c_1

    The bound :math:`B = 3` keeps one point far out from exploding the fit; where a coordinate
    needs a larger scale everywhere, the layers have one that is free.
    """

    bound: float = 3.0
    size: int = 2

    def start(self, rng: np.random.Generator) -> NDArray[np.float64]:  # noqa: D102
        return np.zeros(2)

    def forward(  # noqa: D102
        self, z: TensorVariable, numbers: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable]:
        log_scale = soft_clamp(numbers[..., 0, :], self.bound)
        z_new = z * pt.exp(log_scale) + numbers[..., 1, :]
        if log_scale.ndim < z.ndim:  # the same numbers for all points
            log_scale = log_scale + pt.zeros_like(z)
        return z_new, log_scale

    def inverse(self, z: TensorVariable, numbers: TensorVariable) -> TensorVariable:  # noqa: D102
        log_scale = soft_clamp(numbers[..., 0, :], self.bound)
        return (z - numbers[..., 1, :]) * pt.exp(-log_scale)
