"""Second derivatives through the linear predictors of a model."""

from __future__ import annotations

from typing import override

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from pmflow.embedded.curvature import AbstractCurvature
from pmflow.embedded.factors import Factors
from pmflow.embedded.jacobians import Fixed, Moving, places_of
from pmflow.embedded.predictors import NotLiftedError, Predictors, curvature_of
from pmflow.embedded.products import DiagonalProducts, Products
from pmflow.graphs.affine import affine_ends, is_affine
from pmflow.graphs.sparsity import jacobian_pattern
from pmflow.posterior.graph_density import GraphDensity

__all__ = ["Lifted"]

_NUMBERS_AT_ONCE = 2**23
"""Of predictors that are held at a time."""

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]


class Lifted(AbstractCurvature):
    r"""Those of :math:`F(\eta(z), z)`, where :math:`\eta` is affine in the entries that count.

    The Hessian of the density by these entries is :math:`J^\top H J`, with J the Jacobian of
    :math:`\eta` and H the Hessian of F by :math:`\eta`. Crossed random effects all meet in the
    density, but each row of data has two of them and a linear predictor of its own: H is diagonal,
    and J has two entries in a row. What a *partially separable* function gives is used in the same
    way (Griewank & Toint, 1982, https://doi.org/10.1007/BF01399316).

    Parameters
    ----------
    density : GraphDensity
    inner : ndarray
        Places of the entries in the vector.
    factors : Factors
        Of their pattern.

    Raises
    ------
    NotLiftedError
        If a pattern can't be told, or what curves is not through predictors alone.
    """

    def __init__(self, density: GraphDensity, inner: Integers, factors: Factors) -> None:
        z, value = density.graph
        is_inner = np.zeros(density.dim, dtype=bool)
        is_inner[inner] = True
        ends = affine_ends(z, value, is_inner)
        fixed = [end for end in ends if is_affine(z, end)]
        ends = fixed + [end for end in ends if end not in fixed]
        jacobian = jacobian_pattern(z, ends) if ends else None
        if jacobian is None:
            raise NotLiftedError("which entries its predictors depend on is not known")
        by_locals, self._numbers = csr_array(jacobian[:, inner]), jacobian.shape[0]
        predictors = Predictors(z, ends, 1)
        lifted = predictors.outer(value)
        outer, self._outer = curvature_of(lifted, inner, jacobian.shape[0])
        pointers, indices = places_of(by_locals)
        self._products = (
            DiagonalProducts(pointers, indices, factors)
            if outer.is_diagonal
            else Products(outer, pointers, indices, factors)
        )
        self._parts: list[Fixed | Moving] = []
        number = sum(predictors.sizes[: len(fixed)])
        if fixed:
            self._parts.append(Fixed(z, fixed, inner, csr_array(jacobian[:number])))
        if len(ends) > len(fixed):
            moving = ends[len(fixed) :]
            self._parts.append(Moving(z, moving, inner, csr_array(by_locals[number:])))

    @property
    @override
    def gradients(self) -> int:
        return self._outer.gradients + 1

    @override
    def at(self, z: Floats, sds: Floats) -> Floats:
        """Minus the second derivatives, at points of shape (n, dim): shape (n, entries)."""
        evaluations = sum(part.evaluations for part in self._parts)
        numbers = self._numbers * evaluations
        rows = max(1, _NUMBERS_AT_ONCE // numbers)
        return np.concatenate([self._at(z[i : i + rows], sds) for i in range(0, len(z), rows)])

    def _at(self, z: Floats, sds: Floats) -> Floats:
        values = [part.at(z, sds) for part in self._parts]
        predictors = np.concatenate([z, *(value.predictors for value in values)], axis=1)
        units, jacobian = (
            np.concatenate([np.broadcast_to(x, (len(z), x.shape[1])) for x in some], axis=1)
            for some in (
                [value.units for value in values],
                [value.jacobian for value in values],
            )
        )
        curvatures = self._outer.at(predictors, units)
        return np.stack([self._products(h, j) for h, j in zip(curvatures, jacobian, strict=True)])
