"""The lower-triangular layer."""

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
from pmflow.flows.layers.triangular import add_product, n_packed, solve_triangle, strict_triangle

__all__ = ["Tril"]


@dataclass(frozen=True)
class Tril(AbstractLayer):
    r"""Lower-triangular linear map: with ``loc``, the Gaussian of full rank.

    .. math:: z' = (I + N)\,(\sigma \odot z), \qquad \sigma = \mathrm{softplus}(\rho), \qquad
              \log|\det J| = \sum_i \log \sigma_i

    :math:`N` is strictly lower-triangular with the entries ``lower`` :math:`/ \sqrt{d}`, row by
    row. :math:`(I + N)\,\mathrm{diag}(\sigma)` reaches every Cholesky factor, so the family is
    that of `pymc.FullRankADVI` (Kucukelbir et al., 2017, https://arxiv.org/abs/1603.00788). With
    the scale inside, a change of one of the two factors leaves the other's conditioning alone, and
    the root keeps the map well conditioned when all entries move together.

    Cost: :math:`d^2` per draw; inverse by substitution.

    Parameters of the flow, unconstrained: ``rho``, shape ``(dim,)``, starts at
    :math:`\log(e - 1)`, where :math:`\sigma = 1`; ``lower``, shape ``(dim * (dim - 1) / 2,)``,
    starts at 0.
    """

    word: ClassVar[str] = "tril"
    mixes: ClassVar[bool] = True
    is_affine: ClassVar[bool] = True

    @override
    def param_shapes(self, dim: int) -> dict[str, Shape]:
        return {"rho": (dim,), "lower": (n_packed(dim),)}

    @override
    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        return {
            "rho": SOFTPLUS_ONE + jitter * rng.standard_normal(dim),
            "lower": jitter * rng.standard_normal(n_packed(dim)),
        }

    @override
    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:
        sigma, log_sigma = softplus_and_log(params["rho"])
        strict = strict_triangle(params["lower"], static_length(params["rho"]), lower=True)
        return add_product(z * sigma, strict), pt.zeros_like(z[..., 0]) + log_sigma.sum()

    @override
    def forward_with_score(
        self, z: TensorVariable, params: Params, score: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        strict = strict_triangle(params["lower"], static_length(params["rho"]), lower=True)
        score = score * pt.exp(-softplus_and_log(params["rho"])[1])
        score = solve_triangle(strict.T, score, lower=False)
        return *self.forward(z, params), score

    @override
    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:
        strict = strict_triangle(params["lower"], static_length(params["rho"]), lower=True)
        return solve_triangle(strict, z, lower=True) * pt.exp(-softplus_and_log(params["rho"])[1])
