"""The affine coupling: a scale and a shift for each half, shaped by the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, override

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.base import Params, Shape
from pmflow.flows.conditioners.network import check_network
from pmflow.flows.constraints import SOFTPLUS_ONE
from pmflow.flows.kernels.softplus import softplus_and_log
from pmflow.flows.layers.pair import AbstractPair
from pmflow.flows.scalar.affine import Affine
from pmflow.flows.scalar.base import Transformer

__all__ = ["Coupling"]


@dataclass(frozen=True)
class Coupling(AbstractPair):
    r"""Affine coupling (Dinh et al., 2017, RealNVP, https://arxiv.org/abs/1605.08803).

    .. math::

        b' = e^{s(a)} \odot b + t(a), \qquad a' = e^{s(b')} \odot a + t(b'), \qquad
        z' = \sigma \odot (a', b')

    with :math:`a` the first half of the coordinates and :math:`b` the second, a network for each
    step, and :math:`\log|\det J| = \sum s(a) + \sum s(b') + \sum \log \sigma`. One layer is the
    pair of opposite masks, so that ``coupling*4`` needs no permutations between.

    The scale is softly clamped, :math:`|s| \le 3`, and :math:`\sigma = \mathrm{softplus}(\rho)` is
    free. Both directions take one pass of the networks. In one dimension it is a scale and a
    shift.

    Parameters
    ----------
    hidden, depth : int
        Units of a hidden layer of the networks, and how many hidden layers there are.
    activation : str
        ``tanh``, ``relu``, ``elu``, ``gelu`` or ``sin``, the last for periodic targets.

    Notes
    -----
    Parameters of the flow, unconstrained: ``rho``, shape ``(dim,)``, and those of the networks that
    move the second half (``b_w1``, ``b_b1``, ..., ``b_w_out``, ``b_bias``) and the first
    (``a_w1`` ...). They start at the identity with random hidden units.
    """

    word: ClassVar[str] = "coupling"
    mixes: ClassVar[bool] = True

    hidden: int = 32
    depth: int = 1
    activation: str = "tanh"

    def __post_init__(self) -> None:
        check_network(self.hidden, self.depth, self.activation)

    @property
    @override
    def _transformer(self) -> Transformer:
        return Affine()

    @override
    def param_shapes(self, dim: int) -> dict[str, Shape]:
        return {"rho": (dim,), **super().param_shapes(dim)}

    @override
    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        rho = SOFTPLUS_ONE + jitter * rng.standard_normal(dim)
        return {"rho": rho, **super().init_params(dim, jitter, rng)}

    @override
    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:
        sigma, log_sigma = softplus_and_log(params["rho"])
        z, log_det = super().forward(z, params)
        return z * sigma, log_det + log_sigma.sum()

    @override
    def forward_with_score(
        self, z: TensorVariable, params: Params, score: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        sigma, log_sigma = softplus_and_log(params["rho"])
        z, log_det, score = super().forward_with_score(z, params, score)
        return z * sigma, log_det + log_sigma.sum(), score * pt.exp(-log_sigma)

    @override
    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:
        return super().inverse(z * pt.exp(-softplus_and_log(params["rho"])[1]), params)
