"""The Sylvester layer: a bend in several directions at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, override

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.base import AbstractLayer, Params, Shape, check_directions, static_length
from pmflow.flows.constraints import SOFTPLUS_ONE
from pmflow.flows.layers.householder import Householder
from pmflow.flows.layers.planar import along, along_prime
from pmflow.flows.roots import solve_increasing

__all__ = ["Sylvester"]

_MOST = 100
"""Directions: the graph has a part for each pair of them."""


@dataclass(frozen=True)
class Sylvester(AbstractLayer):
    r"""Sylvester flow with Householder reflections.

    Van den Berg et al. (2018), https://arxiv.org/abs/1803.05649.

    .. math::

        z' = z + Q R \tanh(\tilde R\, Q^\top z + b), \qquad
        \log|\det J| = \sum_{i=1}^m \log\bigl(1 + R_{ii} \tilde R_{ii}\,(1 - \tanh_i^2)\bigr)

    :math:`Q` has `m` orthonormal columns, the first ones of a product of `m` reflections;
    :math:`R` and :math:`\tilde R` are upper triangular. The map is invertible where
    :math:`R_{ii} \tilde R_{ii} > -1` (theorem 2), here by
    :math:`\tilde R_{ii} = \mathrm{softplus}(\tilde\rho_i)` and
    :math:`R_{ii} \tilde R_{ii} = \mathrm{softplus}(\rho_i) - 1`. With ``m = 1`` it is the planar
    layer whose `u` and `w` are parallel.

    Cost: ``m * dim`` per draw; the inverse takes `m` bracketed roots per point, one by one.

    Parameters
    ----------
    m : int
        Number of directions, from 1 to 100, and no more than there are dimensions, as in the
        paper. The default is one direction on a line.

    Notes
    -----
    Parameters of the flow, unconstrained, with m directions: ``v``, shape ``(m, dim)``, the
    reflections; ``rho``, ``rho_tilde`` and ``b``, shape ``(m,)``; ``upper`` and ``upper_tilde``,
    shape ``(m * (m - 1) / 2,)``, the entries above the diagonals, row by row. They start at the
    identity, :math:`R = 0` and :math:`\tilde R = I`, with random reflections and offsets.
    """

    word: ClassVar[str] = "sylvester"
    mixes: ClassVar[bool] = True

    m: int = 2

    def __post_init__(self) -> None:
        if self.m < 1:
            raise ValueError(f"m must be >= 1, the number of directions, got {self.m}.")
        if self.m > _MOST:
            raise ValueError(
                f"m must be at most {_MOST}, the directions that are compiled one by one, got "
                f"{self.m}. Put several layers in sequence."
            )

    @override
    def param_shapes(self, dim: int) -> dict[str, Shape]:
        check_directions("m", self, dim)
        m = min(self.m, dim)
        packed = (m * (m - 1) // 2,)
        return {
            "v": (m, dim),
            "rho": (m,),
            "rho_tilde": (m,),
            "upper": packed,
            "upper_tilde": packed,
            "b": (m,),
        }

    @override
    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        start = {
            name: jitter * rng.standard_normal(s) for name, s in self.param_shapes(dim).items()
        }
        start["v"] = rng.standard_normal(start["v"].shape) / np.sqrt(dim)
        start["b"] = rng.standard_normal(start["b"].shape)
        return start | {name: SOFTPLUS_ONE + start[name] for name in ("rho", "rho_tilde")}

    @override
    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:
        r, r_tilde, margin = _triangles(params)
        y = _turn(z, params["v"])[..., : static_length(params["b"])]  # Q^T z, (*batch, m)
        bend = pt.tanh(_product(r_tilde, y) + params["b"])
        log_det = pt.log(bend**2 + margin * (1 - bend**2)).sum(-1)
        return z + _turn_back(_product(r, bend), params["v"]), log_det

    @override
    def forward_with_score(
        self, z: TensorVariable, params: Params, score: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        # J^T = I + Q A^T Q^T with A = R diag(h') R~: a lower triangle in m dimensions
        r, r_tilde, margin = _triangles(params)
        m = static_length(params["b"])
        bend = pt.tanh(_product(r_tilde, _turn(z, params["v"])[..., :m]) + params["b"])
        slope = 1 - bend**2
        det = bend**2 + margin * slope  # the diagonal of I + A
        own = _turn(score, params["v"])[..., :m]
        right = own - _product(r_tilde.T, 2 * bend * slope * (1 - margin) / det)
        solved: list[TensorVariable] = []
        bent: list[TensorVariable] = []  # h' R^T y
        for i in range(m):
            known = sum(r[j, i] * solved[j] for j in range(i)) * slope[..., i]
            rest = right[..., i] - sum(r_tilde[k, i] * bent[k] for k in range(i))
            solved.append((rest - r_tilde[i, i] * known) / det[..., i])
            bent.append(known + slope[..., i] * r[i, i] * solved[i])
        change = pt.stack(solved, axis=-1) - own
        return *self.forward(z, params), score + _turn_back(change, params["v"])

    @override
    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:
        r, r_tilde, margin = _triangles(params)
        m = static_length(params["b"])
        target = _turn(z, params["v"])[..., :m]
        # from the last direction, which depends on no other, to the first
        y: list[TensorVariable] = []
        bend: list[TensorVariable] = []
        for i in reversed(range(m)):
            later = range(i + 1, m)
            own = target[..., i] - sum(r[i, j] * bend[m - 1 - j] for j in later)
            offset = params["b"][i] + sum(r_tilde[i, j] * y[m - 1 - j] for j in later)
            s = _solve(r_tilde[i, i] * own, margin[i] - 1, offset)
            y.append(s / r_tilde[i, i])
            bend.append(pt.tanh(s + offset))
        step = pt.stack(bend[::-1], axis=-1)
        return z - _turn_back(_product(r, step), params["v"])


def _solve(target: TensorVariable, slope: TensorVariable, offset: TensorVariable) -> TensorVariable:
    """The s with ``s + slope * tanh(s + offset) == target``: a planar layer's root."""
    target, slope, offset = pt.broadcast_arrays(target, slope, offset)
    return solve_increasing(
        along,
        along_prime,
        target,
        lower=target - abs(slope),
        upper=target + abs(slope),
        args=(slope, offset),
    )


def _triangles(params: Params) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
    r""":math:`R`, :math:`\tilde R` and the margins :math:`1 + R_{ii} \tilde R_{ii} > 0`."""
    margin, diagonal_tilde = pt.softplus(params["rho"]), pt.softplus(params["rho_tilde"])
    diagonal = (margin - 1) / diagonal_tilde
    return (
        _upper(diagonal, params["upper"]),
        _upper(diagonal_tilde, params["upper_tilde"]),
        margin,
    )


def _upper(diagonal: TensorVariable, packed: TensorVariable) -> TensorVariable:
    m = static_length(diagonal)
    return pt.diag(diagonal)[np.triu_indices(m, 1)].set(packed)


def _product(matrix: TensorVariable, y: TensorVariable) -> TensorVariable:
    # a sum, no dot: the matrix is small, and BLAS costs numba seconds of compilation
    return (matrix * y[..., None, :]).sum(-1)


def _turn(z: TensorVariable, v: TensorVariable) -> TensorVariable:
    """Apply the reflections; the first m coordinates are then :math:`Q^T z`."""
    for k in range(v.type.shape[0]):
        z = Householder.reflect(z, v[k])
    return z


def _turn_back(y: TensorVariable, v: TensorVariable) -> TensorVariable:
    """:math:`Q y` for `y` of shape (*batch, m)."""
    m, dim = v.type.shape
    z = pt.concatenate([y, pt.zeros((*y.shape[:-1], dim - m), dtype=y.dtype)], axis=-1)
    for k in reversed(range(m)):
        z = Householder.reflect(z, v[k])
    return z
