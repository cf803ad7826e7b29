"""The sinh-arcsinh layer: skewness and tails of each coordinate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, override

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.base import AbstractLayer, Params, Shape
from pmflow.flows.constraints import SOFTPLUS_ONE

__all__ = ["SinhArcsinh"]

_LEAST_TAIL = 0.1


@dataclass(frozen=True)
class SinhArcsinh(AbstractLayer):
    r"""Sinh-arcsinh map of each coordinate.

    Jones & Pewsey (2009), https://doi.org/10.1093/biomet/asp053.

    .. math::

        z' = \sinh y, \quad y = \tau\,(\operatorname{arcsinh} z + \epsilon), \qquad
        \log|\det J| = \sum_i \log \tau_i + \log\cosh y_i - \tfrac12 \log(1 + z_i^2)

    with :math:`\tau = 0.1 + 0.9\,\mathrm{softplus}(\rho)`. Far out :math:`z'` grows as
    :math:`|z|^\tau`, so that a normal draw gets tails
    :math:`\exp(-|z'|^{2/\tau})`: those of a Laplace density at :math:`\tau = 2`, lighter than
    normal below 1. (Power tails, such as Cauchy's, need ``base="student_t"``.)
    :math:`\epsilon` skews. In the paper's letters :math:`\tau = 1/\delta`.

    Parameters of the flow, unconstrained: ``rho`` and ``skew``, shape ``(dim,)``; they start at
    the identity, :math:`\tau = 1` and :math:`\epsilon = 0`.
    """

    word: ClassVar[str] = "sinh"

    @override
    def param_shapes(self, dim: int) -> dict[str, Shape]:
        return {"rho": (dim,), "skew": (dim,)}

    @override
    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        return {
            "rho": SOFTPLUS_ONE + jitter * rng.standard_normal(dim),
            "skew": jitter * rng.standard_normal(dim),
        }

    @override
    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:
        tail = _tail(params)
        y = tail * (pt.arcsinh(z) + params["skew"])
        log_cosh = abs(y) + pt.log1p(pt.exp(-2 * abs(y))) - math.log(2)
        log_slope = pt.log(tail) + log_cosh - 0.5 * pt.log1p(z**2)
        return pt.sinh(y), log_slope.sum(-1)

    @override
    def forward_with_score(
        self, z: TensorVariable, params: Params, score: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        tail = _tail(params)
        y = tail * (pt.arcsinh(z) + params["skew"])
        root = pt.sqrt(1 + z**2)
        slope_of_log = (tail * pt.tanh(y) - z / root) / root
        # 1 / cosh y, without overflow
        inverse_cosh = 2 * pt.exp(-abs(y)) / (1 + pt.exp(-2 * abs(y)))
        return *self.forward(z, params), (score - slope_of_log) * root / tail * inverse_cosh

    @override
    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:
        return pt.sinh(pt.arcsinh(z) / _tail(params) - params["skew"])


def _tail(params: Params) -> TensorVariable:
    return _LEAST_TAIL + (1 - _LEAST_TAIL) * pt.softplus(params["rho"])
