"""The dense linear layer: both triangles, with a permutation between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, override

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.base import AbstractLayer, Params, Shape, static_length
from pmflow.flows.constraints import SOFTPLUS_ONE
from pmflow.flows.kernels.softplus import softplus_and_log
from pmflow.flows.layers.order import check_order_seed, seeded_order
from pmflow.flows.layers.triangular import add_product, n_packed, solve_triangle, strict_triangle

__all__ = ["LU"]


@dataclass(frozen=True)
class LU(AbstractLayer):
    r"""Dense linear map by its LU factors.

    Kingma & Dhariwal (2018), https://arxiv.org/abs/1807.03039, section 3.2.

    .. math:: z' = P^\top (I + L)\,\bigl(\sigma \odot (I + U)\,P z\bigr), \qquad
              \log|\det J| = \sum_i \log \sigma_i, \qquad \sigma = \mathrm{softplus}(\rho)

    :math:`P` is a fixed random permutation, drawn from `seed`; :math:`L` and :math:`U` are
    strictly triangular with the entries ``lower`` and ``upper`` :math:`/ \sqrt{d}`. The paper's
    map is :math:`P (I + L)(\mathrm{diag}(s) + U)`; the permutation undone at the end makes the
    start the identity. Between nonlinear layers it mixes all coordinates.

    Cost: :math:`2 d^2` per draw; inverse by two substitutions.

    Parameters
    ----------
    seed : int
        The seed of the permutation.

    Notes
    -----
    Parameters of the flow, unconstrained: ``rho``, shape ``(dim,)``, starts where
    :math:`\sigma = 1`; ``lower`` and ``upper``, shape ``(dim * (dim - 1) / 2,)``, start at 0.
    """

    word: ClassVar[str] = "lu"
    mixes: ClassVar[bool] = True
    is_affine: ClassVar[bool] = True

    seed: int = 0

    def __post_init__(self) -> None:
        check_order_seed(self.seed)

    @override
    def param_shapes(self, dim: int) -> dict[str, Shape]:
        return {"rho": (dim,), "lower": (n_packed(dim),), "upper": (n_packed(dim),)}

    @override
    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        return {
            "rho": SOFTPLUS_ONE + jitter * rng.standard_normal(dim),
            "lower": jitter * rng.standard_normal(n_packed(dim)),
            "upper": jitter * rng.standard_normal(n_packed(dim)),
        }

    @override
    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:
        sigma, log_sigma = softplus_and_log(params["rho"])
        lower, upper, order = self._factors(params)
        z_new = add_product(add_product(z[..., order], upper) * sigma, lower)
        log_det = pt.zeros_like(z[..., 0]) + log_sigma.sum()
        return z_new[..., np.argsort(order)], log_det

    @override
    def forward_with_score(
        self, z: TensorVariable, params: Params, score: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        lower, upper, order = self._factors(params)
        inner = solve_triangle(upper.T, score[..., order], lower=True)
        inner = inner * pt.exp(-softplus_and_log(params["rho"])[1])
        score = solve_triangle(lower.T, inner, lower=False)[..., np.argsort(order)]
        return *self.forward(z, params), score

    @override
    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:
        lower, upper, order = self._factors(params)
        inner = solve_triangle(lower, z[..., order], lower=True)
        inner = inner * pt.exp(-softplus_and_log(params["rho"])[1])
        return solve_triangle(upper, inner, lower=False)[..., np.argsort(order)]

    def _factors(self, params: Params) -> tuple[TensorVariable, TensorVariable, NDArray[np.int64]]:
        dim = static_length(params["rho"])
        lower = strict_triangle(params["lower"], dim, lower=True)
        upper = strict_triangle(params["upper"], dim, lower=False)
        return lower, upper, seeded_order(dim, self.seed)
