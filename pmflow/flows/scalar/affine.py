"""A scale and a shift of one coordinate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import override

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.scalar.base import Transformer

__all__ = ["Affine", "soft_clamp"]


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

    @override
    def start(self, rng: np.random.Generator) -> NDArray[np.float64]:
        return np.zeros(2)

    @override
    def forward(
        self, z: TensorVariable, numbers: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable]:
        log_scale = soft_clamp(numbers[..., 0, :], self.bound)
        z_new = z * pt.exp(log_scale) + numbers[..., 1, :]
        if log_scale.ndim < z.ndim:  # the same numbers for all points
            log_scale = log_scale + pt.zeros_like(z)
        return z_new, log_scale

    @override
    def inverse(self, z: TensorVariable, numbers: TensorVariable) -> TensorVariable:
        log_scale = soft_clamp(numbers[..., 0, :], self.bound)
        return (z - numbers[..., 1, :]) * pt.exp(-log_scale)
