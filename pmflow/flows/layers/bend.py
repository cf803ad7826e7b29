"""The bend layer: scale and shift of a coordinate, quadratic in the coordinates before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, override

import numpy as np
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.base import AbstractLayer, Params, Shape, static_length
from pmflow.flows.conditioners.quadratic import Quadratic
from pmflow.flows.layers.autoregressive import map_back
from pmflow.flows.scalar.affine import Affine
from pmflow.flows.score import with_triangular_jacobian

__all__ = ["Bend"]

_SCALE = Affine()


@dataclass(frozen=True)
class Bend(AbstractLayer):
    r"""Triangular map with conditional scales and bends: funnels and bananas, by few parameters.

    .. math::

        z'_i = e^{s_i} z_i + t_i, \qquad
        (s_i, t_i) = b_i + \frac{1}{\sqrt d} \sum_{k<i} \bigl(u_{ik} h_k + v_{ik} (h_k^2 - 1)\bigr),
        \qquad
        \log|\det J| = \sum_i s_i

    with :math:`|s| \le 3` by a tanh, and :math:`h = z\,(1 + (z / 6)^6)^{-1/6}`, which is :math:`z`
    up to 0.3 % where that is within 3, and never above 6. It is the inverse autoregressive flow of
    Kingma et al. (2016, https://arxiv.org/abs/1606.04934) with a polynomial of second degree in
    place of the network, a triangular map as in Marzouk et al. (2016,
    https://arxiv.org/abs/1602.05023): in two dimensions it has 8 parameters. What it can't do, such
    as two modes, a network does.

    Parameters of the flow, unconstrained: ``bias``, shape ``(2, dim)``; from two dimensions on
    ``linear`` and ``square``, shape ``(2, dim * (dim - 1) / 2)``, the strict lower triangles row by
    row. The first row is of the log scales, the second of the shifts. They start at the identity.
    """

    word: ClassVar[str] = "bend"
    mixes: ClassVar[bool] = True

    @override
    def param_shapes(self, dim: int) -> dict[str, Shape]:
        return Quadratic(dim, _SCALE.size).param_shapes()

    @override
    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        return Quadratic(dim, _SCALE.size).init_params(_SCALE.start(rng), jitter, rng)

    @override
    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:
        numbers = _conditioner(params).outputs(z, params)
        z_new, log_slope = _SCALE.forward(z, numbers)
        return z_new, log_slope.sum(-1)

    @override
    def forward_with_score(
        self, z: TensorVariable, params: Params, score: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        return with_triangular_jacobian(self.forward, z, params, score)

    @override
    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:
        return map_back(_conditioner(params), _SCALE.inverse, z, params)


def _conditioner(params: Params) -> Quadratic:
    return Quadratic(static_length(params["bias"]), _SCALE.size)
