"""The sparse layer: a precision with the zeros of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, override

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.errors import ParameterError
from pmflow.flows.base import AbstractLayer, Params, Shape, static_length
from pmflow.flows.constraints import SOFTPLUS_ONE
from pmflow.flows.kernels.softplus import softplus_and_log
from pmflow.flows.kernels.sparse_triangle import sparse_triangle
from pmflow.flows.latent import Latent
from pmflow.records import Triangle, full_triangle

__all__ = ["Sparse"]


@dataclass(frozen=True)
class Sparse(AbstractLayer):
    r"""Linear map whose Gaussian has a precision with the zeros of the model's own.

    .. math:: z' = T^{-\top} (\sigma \odot z), \qquad
              \sigma = \mathrm{softplus}(\rho), \qquad
              \log|\det J| = \sum_i \log \sigma_i

    :math:`T` is a unit lower triangle, its rows and columns in the order of the coordinates. Its
    entries are ``entries`` :math:`/ \sqrt{m}`, where m is the largest number of them in a column.
    With ``loc`` and a normal base, the precision is :math:`T \mathrm{diag}(\sigma)^{-2} T^\top`.
    T has entries where the Cholesky factor of the model's precision has them, so it reaches every
    Gaussian in which coordinates that do not meet in the model are independent given all others,
    the one with the largest ELBO among them (Opper & Archambeau, 2009,
    https://doi.org/10.1162/neco.2008.08-07-592; Tan & Nott, 2018,
    https://arxiv.org/abs/1605.05622). Coordinates meet where the second derivative of the log
    density by both can be other than 0; which do is read from the model's graph.

    Cost: the number of entries of T per draw, instead of `dim` squared for ``tril``. Without a
    model, or in one whose coordinates all meet, all entries of the triangle are there.

    Parameters of the flow, unconstrained: ``rho``, shape ``(dim,)``, starts at
    :math:`\log(e - 1)`, where :math:`\sigma = 1`; ``entries``, shape ``(entries,)``, by columns,
    starts at 0.
    """

    word: ClassVar[str] = "sparse"
    mixes: ClassVar[bool] = True
    is_affine: ClassVar[bool] = True

    @override
    def bind(self, latent: Latent) -> BoundSparse:
        return BoundSparse(latent.graph().triangle)

    @override
    def param_shapes(self, dim: int) -> dict[str, Shape]:
        return {"rho": (dim,), "entries": self._triangle(dim).rows.shape}

    @override
    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        return {
            name: start + jitter * rng.standard_normal(shape)
            for (name, shape), start in zip(
                self.param_shapes(dim).items(), (SOFTPLUS_ONE, 0.0), strict=True
            )
        }

    @override
    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:
        sigma, log_sigma = softplus_and_log(params["rho"])
        z_new = self._applied(z * sigma, params, solves=True, transposed=True)
        return z_new, pt.zeros_like(z[..., 0]) + log_sigma.sum()

    @override
    def forward_with_score(
        self, z: TensorVariable, params: Params, score: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        score = score * pt.exp(-softplus_and_log(params["rho"])[1])
        score = self._applied(score, params, solves=False, transposed=False)
        return *self.forward(z, params), score

    @override
    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:
        z = self._applied(z, params, solves=False, transposed=True)
        return z * pt.exp(-softplus_and_log(params["rho"])[1])

    def _applied(
        self, z: TensorVariable, params: Params, *, solves: bool, transposed: bool
    ) -> TensorVariable:
        triangle = self._triangle(static_length(params["rho"]))
        entries = params["entries"] / np.sqrt(triangle.largest).astype(params["entries"].dtype)
        at = triangle.coordinates
        return sparse_triangle(entries, z, *at, solves=solves, transposed=transposed)

    def _triangle(self, dim: int) -> Triangle:
        """Where T has entries."""
        return full_triangle(dim)


@dataclass(frozen=True)
class BoundSparse(Sparse):
    """The layer of a model.

    Parameters
    ----------
    triangle : Triangle
        Where T has entries.
    """

    triangle: Triangle

    @override
    def __str__(self) -> str:
        return self.word

    @override
    def _triangle(self, dim: int) -> Triangle:
        if self.triangle.dim != dim:
            raise ParameterError(
                f"The layer 'sparse' belongs to a model of {self.triangle.dim} dimensions, but is "
                f"asked for {dim}."
            )
        return self.triangle
