"""Dense linear layers: a lower triangle, and both triangles with a permutation between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.base import AbstractLayer, Params, Shape, static_length
from pmflow.flows.constraints import SOFTPLUS_ONE
from pmflow.flows.kernels.softplus import softplus_and_log
from pmflow.flows.layers.permutation import check_seed, seeded_order

__all__ = ["LU", "Tril"]


def _strict_triangle(packed: TensorVariable, dim: int, *, lower: bool) -> TensorVariable:
    r"""A matrix with `packed` :math:`/ \sqrt{d}` on one side of its diagonal, zero elsewhere."""
    rows, columns = np.tril_indices(dim, -1)
    if not lower:
        rows, columns = columns, rows
    packed = packed / np.sqrt(dim).astype(packed.dtype)
    return pt.zeros((dim, dim), dtype=packed.dtype)[rows, columns].set(packed)


def _add_product(z: TensorVariable, strict: TensorVariable) -> TensorVariable:
    """``(I + strict) z`` for every point of a batch."""
    return z + z @ strict.T


def _solve(strict: TensorVariable, z: TensorVariable, *, lower: bool) -> TensorVariable:
    """``(I + strict)^-1 z`` for every point of a batch."""
    columns = z.reshape((-1, z.shape[-1])).T
    solved = pt.linalg.solve_triangular(
        strict, columns, lower=lower, unit_diagonal=True, check_finite=False
    )
    return solved.T.reshape(z.shape)


def _n_packed(dim: int) -> int:
    return dim * (dim - 1) // 2


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

    Cost: :math:`d^2` a draw; inverse by substitution.

    Parameters of the flow, unconstrained: ``rho``, shape ``(dim,)``, starts at
    :math:`\log(e - 1)`, where :math:`\sigma = 1`; ``lower``, shape ``(dim * (dim - 1) / 2,)``,
    starts at 0.
    """

    word: ClassVar[str] = "tril"
    mixes: ClassVar[bool] = True
    is_affine: ClassVar[bool] = True

    def param_shapes(self, dim: int) -> dict[str, Shape]:  # noqa: D102
        return {"rho": (dim,), "lower": (_n_packed(dim),)}

    def init_params(  # noqa: D102
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        return {
            "rho": SOFTPLUS_ONE + jitter * rng.standard_normal(dim),
            "lower": jitter * rng.standard_normal(_n_packed(dim)),
        }

    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:  # noqa: D102
        sigma, log_sigma = softplus_and_log(params["rho"])
        strict = _strict_triangle(params["lower"], static_length(params["rho"]), lower=True)
        return _add_product(z * sigma, strict), pt.zeros_like(z[..., 0]) + log_sigma.sum()

    def forward_with_score(  # noqa: D102
        self, z: TensorVariable, params: Params, score: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        strict = _strict_triangle(params["lower"], static_length(params["rho"]), lower=True)
        score = score * pt.exp(-softplus_and_log(params["rho"])[1])
        score = _solve(strict.T, score, lower=False)
        return *self.forward(z, params), score

    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:  # noqa: D102
        strict = _strict_triangle(params["lower"], static_length(params["rho"]), lower=True)
        return _solve(strict, z, lower=True) * pt.exp(-softplus_and_log(params["rho"])[1])


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

    Cost: :math:`2 d^2` a draw; inverse by two substitutions.

    Parameters
    ----------
    seed : int
        Of the permutation.

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
        check_seed(self.seed)

    def param_shapes(self, dim: int) -> dict[str, Shape]:  # noqa: D102
        return {"rho": (dim,), "lower": (_n_packed(dim),), "upper": (_n_packed(dim),)}

    def init_params(  # noqa: D102
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        return {
            "rho": SOFTPLUS_ONE + jitter * rng.standard_normal(dim),
            "lower": jitter * rng.standard_normal(_n_packed(dim)),
            "upper": jitter * rng.standard_normal(_n_packed(dim)),
        }

    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:  # noqa: D102
        sigma, log_sigma = softplus_and_log(params["rho"])
        lower, upper, order = self._factors(params)
        z_new = _add_product(_add_product(z[..., order], upper) * sigma, lower)
        log_det = pt.zeros_like(z[..., 0]) + log_sigma.sum()
        return z_new[..., np.argsort(order)], log_det

    def forward_with_score(  # noqa: D102
        self, z: TensorVariable, params: Params, score: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        lower, upper, order = self._factors(params)
        inner = _solve(upper.T, score[..., order], lower=True)
        inner = inner * pt.exp(-softplus_and_log(params["rho"])[1])
        score = _solve(lower.T, inner, lower=False)[..., np.argsort(order)]
        return *self.forward(z, params), score

    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:  # noqa: D102
        lower, upper, order = self._factors(params)
        inner = _solve(lower, z[..., order], lower=True)
        inner = inner * pt.exp(-softplus_and_log(params["rho"])[1])
        return _solve(upper, inner, lower=False)[..., np.argsort(order)]

    def _factors(self, params: Params) -> tuple[TensorVariable, TensorVariable, NDArray[np.int64]]:
        dim = static_length(params["rho"])
        lower = _strict_triangle(params["lower"], dim, lower=True)
        upper = _strict_triangle(params["upper"], dim, lower=False)
        return lower, upper, seeded_order(dim, self.seed)
