"""The householder layer: a reflection in a hyperplane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, override

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.base import AbstractLayer, Params, Shape

__all__ = ["Householder"]


@dataclass(frozen=True)
class Householder(AbstractLayer):
    r"""Householder reflection (Tomczak & Welling, 2016, https://arxiv.org/abs/1611.09630).

    .. math:: z' = H z, \qquad H = I - 2 \frac{v v^\top}{v^\top v}, \qquad \log|\det J| = 0

    :math:`H` is orthogonal and its own inverse, so that `dim` of these layers reach every
    orthogonal matrix: ``'scale-hh*K-loc'`` is a Gaussian whose covariance has the eigenvectors
    that K reflections can turn to. A reflection is never the identity; but it leaves the base
    :math:`N(0, I)` as it is, so a stack of them at the start of a fit does no harm.

    Parameters of the flow: ``v``, shape ``(dim,)``, unconstrained. Only its direction matters. It
    starts as a random direction with length about 1, where its gradient is neither vanishing nor
    exploding (PyMC3 starts it near 0 and adds 1e-10 to :math:`v^\top v`, which makes :math:`H`
    inexact). At ``v = 0`` the layer is the identity.
    """

    word: ClassVar[str] = "hh"
    mixes: ClassVar[bool] = True
    aliases: ClassVar[tuple[str, ...]] = ("householder",)
    is_affine: ClassVar[bool] = True

    @override
    def param_shapes(self, dim: int) -> dict[str, Shape]:
        return {"v": (dim,)}

    @override
    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        return {"v": rng.standard_normal(dim) / np.sqrt(dim)}

    @override
    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:
        return self.reflect(z, params["v"]), pt.zeros_like(z[..., 0])

    @override
    def forward_with_score(
        self, z: TensorVariable, params: Params, score: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        # orthogonal and symmetric: a reflection takes scores as it takes points
        return *self.forward(z, params), self.reflect(score, params["v"])

    @override
    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:
        return self.reflect(z, params["v"])

    @staticmethod
    def reflect(z: TensorVariable, v: TensorVariable) -> TensorVariable:
        """Reflect points of shape (*batch, dim) in the hyperplane orthogonal to `v`."""
        length2 = (v**2).sum()
        length2 = pt.switch(pt.eq(length2, 0), 1, length2)
        projection = (z * v).sum(-1, keepdims=True)  # (*batch, 1)
        return z - 2 * projection / length2 * v
