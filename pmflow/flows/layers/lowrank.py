"""The low-rank layer: a diagonal and a few directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, override

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.base import AbstractLayer, Params, Shape, check_directions, static_length
from pmflow.flows.constraints import SOFTPLUS_ONE
from pmflow.flows.kernels.softplus import softplus_and_log
from pmflow.flows.layers.planar import Planar

__all__ = ["LowRank"]

_MOST = 200
"""Directions: each is a part of the graph of its own, and 200 take twenty seconds to build."""


@dataclass(frozen=True)
class LowRank(AbstractLayer):
    r"""Diagonal plus low rank.

    With ``loc`` it is the Gaussian of Ong et al. (2018), https://arxiv.org/abs/1701.03208.

    .. math::

        z' = \sigma \odot \Bigl(\prod_k \bigl(I + \hat u_k w_k^\top\bigr)\Bigr) z, \qquad
        \log|\det J| = \sum_i \log \sigma_i + \sum_k \log\bigl(1 + w_k^\top \hat u_k\bigr)

    by the matrix determinant lemma, one factor at a time. :math:`\hat u_k` is bent as in a planar
    layer, so that :math:`1 + w_k^\top \hat u_k = \mathrm{softplus}(w_k^\top u_k) > 0`; each factor
    is a planar layer without its tanh, with the closed inverse
    :math:`I - \hat u_k w_k^\top / (1 + w_k^\top \hat u_k)`. The vectors are those of the parameters
    divided by :math:`\sqrt{d}`: an optimiser that moves every number by 0.01 then moves a direction
    by 0.01 of its length, whatever the dimension. The product reaches every covariance
    :math:`D + B B^\top` with :math:`B` of `rank` columns (put :math:`\hat u_k` and :math:`w_k`
    along the eigenvectors of :math:`D^{-1/2} B B^\top D^{-1/2}`), and has no saddle at the
    identity, where :math:`I + V V^\top` has one.

    Cost: ``rank * dim`` per draw, in memory too.

    Parameters
    ----------
    rank : int
        Number of directions, from 1 to 200, and no more than there are dimensions, the default
        excepted.

    Notes
    -----
    Parameters of the flow, unconstrained: ``rho``, shape ``(dim,)``, starts where
    :math:`\sigma = 1`; ``u`` and ``w``, shape ``(rank, dim)``, both times :math:`\sqrt{d}`: random
    directions `w`, their numbers of about unit size, and no bend.
    """

    word: ClassVar[str] = "lowrank"
    mixes: ClassVar[bool] = True
    is_affine: ClassVar[bool] = True

    rank: int = 2

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be >= 1, got {self.rank}.")
        if self.rank > _MOST:
            raise ValueError(
                f"rank must be at most {_MOST}, the directions that are compiled one by one, got "
                f"{self.rank}. 'tril' reaches every covariance."
            )

    @override
    def param_shapes(self, dim: int) -> dict[str, Shape]:
        check_directions("rank", self, dim)
        return {"rho": (dim,), "u": (self.rank, dim), "w": (self.rank, dim)}

    @override
    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        shapes = self.param_shapes(dim)
        w = rng.standard_normal(shapes["w"])
        w *= np.sqrt(dim) / np.linalg.norm(w, axis=1, keepdims=True)
        return {
            "rho": SOFTPLUS_ONE + jitter * rng.standard_normal(dim),
            "u": SOFTPLUS_ONE * w + jitter * rng.standard_normal(shapes["u"]),
            "w": w,
        }

    @override
    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:
        u_hat, w, margin = _factors(params)
        for k in range(self.rank):
            z = z + (z * w[k]).sum(-1, keepdims=True) * u_hat[k]
        sigma, log_sigma = softplus_and_log(params["rho"])
        log_det = log_sigma.sum() + pt.log(margin).sum()
        return z * sigma, pt.zeros_like(z[..., 0]) + log_det

    @override
    def forward_with_score(
        self, z: TensorVariable, params: Params, score: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        u_hat, w, margin = _factors(params)
        for k in range(self.rank):  # Sherman-Morrison, factor by factor
            pull = (score * u_hat[k]).sum(-1, keepdims=True) / margin[k]
            score = score - pull * w[k]
        score = score * pt.exp(-softplus_and_log(params["rho"])[1])
        return *self.forward(z, params), score

    @override
    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:
        u_hat, w, margin = _factors(params)
        z = z * pt.exp(-softplus_and_log(params["rho"])[1])
        for k in reversed(range(self.rank)):
            along = (z * w[k]).sum(-1, keepdims=True) / margin[k]
            z = z - along * u_hat[k]
        return z


def _factors(params: Params) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
    """The bent u and w, each of shape (rank, dim), and 1 + w.u of each factor."""
    root = np.sqrt(static_length(params["rho"])).astype(params["w"].dtype)
    u, w = params["u"] / root, params["w"] / root
    u_hat, margin = Planar.constrain({"u": u, "w": w})
    return u_hat, w, margin
