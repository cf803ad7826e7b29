"""The scale layer: every coordinate times a positive number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, override

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.base import AbstractLayer, Params, Shape
from pmflow.flows.constraints import SOFTPLUS_ONE
from pmflow.flows.kernels.softplus import softplus_and_log

__all__ = ["Scale"]


@dataclass(frozen=True)
class Scale(AbstractLayer):
    r"""Positive diagonal scaling.

    .. math:: z' = \sigma \odot z, \qquad \sigma = \mathrm{softplus}(\rho), \qquad
              \log|\det J| = \sum_i \log \sigma_i

    Parameters of the flow: ``rho``, shape ``(dim,)``, unconstrained, starts at
    :math:`\log(e - 1)`, where :math:`\sigma = 1`.
    """

    word: ClassVar[str] = "scale"
    is_affine: ClassVar[bool] = True

    @override
    def param_shapes(self, dim: int) -> dict[str, Shape]:
        return {"rho": (dim,)}

    @override
    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        return {"rho": SOFTPLUS_ONE + jitter * rng.standard_normal(dim)}

    @override
    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:
        sigma, log_sigma = softplus_and_log(params["rho"])
        return z * sigma, pt.zeros_like(z[..., 0]) + log_sigma.sum()

    @override
    def forward_with_score(
        self, z: TensorVariable, params: Params, score: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        _, log_sigma = softplus_and_log(params["rho"])
        return *self.forward(z, params), score * pt.exp(-log_sigma)

    @override
    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:
        return z * pt.exp(-softplus_and_log(params["rho"])[1])
