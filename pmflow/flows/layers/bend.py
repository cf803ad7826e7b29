"""The bend layer: scale and shift of a coordinate, quadratic in the coordinates before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, override

from pmflow.flows.conditioners.quadratic import Quadratic
from pmflow.flows.layers.autoregressive import AbstractAutoregressive
from pmflow.flows.scalar.affine import Affine
from pmflow.flows.scalar.base import Transformer

__all__ = ["Bend"]


@dataclass(frozen=True)
class Bend(AbstractAutoregressive):
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

    @property
    @override
    def _transformer(self) -> Transformer:
        return Affine()

    @override
    def _conditioner(self, dim: int) -> Quadratic:
        return Quadratic(dim, self._transformer.size)
