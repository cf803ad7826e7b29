"""Second derivatives through the linear predictors of a model."""

from __future__ import annotations

from typing import override

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from pmflow.embedded.curvature import AbstractCurvature
from pmflow.embedded.factor import loops
from pmflow.embedded.factors import Factors
from pmflow.embedded.predictors import NotLiftedError, Predictors, curvature_of
from pmflow.graphs.affine import affine_ends
from pmflow.graphs.sparsity import jacobian_pattern
from pmflow.posterior.graph_density import GraphDensity

__all__ = ["Lifted"]

_MOST_PRODUCTS = 20_000_000
"""Products of three numbers that one curvature adds up."""
_TOO_MANY = "its predictors depend on too many entries each"
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
        jacobian = jacobian_pattern(z, ends) if ends else None
        if jacobian is None:
            raise NotLiftedError("which entries its predictors depend on is not known")
        jacobian = csr_array(jacobian[:, inner])
        self._inner = inner
        self._pointers, self._indices = _places(jacobian)
        if (np.diff(self._pointers) ** 2).sum() > _MOST_PRODUCTS:  # of the diagonal alone
            raise NotLiftedError(_TOO_MANY)
        self._column_colours: Integers = loops().apart(*_places(csr_array(jacobian.T @ jacobian)))
        self._predictors = Predictors(z, ends, int(self._column_colours.max()) + 2)
        lifted = self._predictors.outer(value)
        outer, self._outer = curvature_of(lifted, inner, jacobian.shape[0])
        self._products = _Products(outer, self._pointers, self._indices, factors)

    @property
    @override
    def gradients(self) -> int:
        return self._outer.gradients + 1

    @override
    def at(self, z: Floats, sds: Floats) -> Floats:
        """Minus the second derivatives, at points of shape (n, dim): shape (n, entries)."""
        steps = np.zeros((self._column_colours.max() + 2, z.shape[1]))  # the first is none
        steps[self._column_colours + 1, self._inner] = sds
        rows = max(1, _NUMBERS_AT_ONCE // (len(steps) * (len(self._pointers) - 1)))
        return np.concatenate(
            [self._at(z[i : i + rows], steps, sds) for i in range(0, len(z), rows)]
        )

    def _at(self, z: Floats, steps: Floats, sds: Floats) -> Floats:
        points = (z[:, None] + steps).reshape(-1, z.shape[1])
        predictors = self._predictors(points).reshape(len(z), len(steps), -1)
        jacobian = np.empty((len(z), len(self._indices)))
        units = np.empty((len(z), predictors.shape[-1]))
        for values, j, unit in zip(predictors, jacobian, units, strict=True):
            loops().differences(
                self._pointers, self._indices, self._column_colours, values, sds, j, unit
            )
        lifted = np.concatenate([z, predictors[:, 0]], axis=1)
        curvatures = self._outer.at(lifted, units)
        return np.stack([self._products(h, j) for h, j in zip(curvatures, jacobian, strict=True)])


class _Products:
    """The products that J' H J is the sum of."""

    def __init__(
        self, outer: Factors, pointers: Integers, indices: Integers, inner: Factors
    ) -> None:
        self._rows, self._columns = outer.rows, outer.columns
        self._pointers, self._indices = pointers, indices
        counts = np.diff(pointers)
        numbers = counts[outer.rows] * counts[outer.columns]
        if numbers.sum() > _MOST_PRODUCTS:
            raise NotLiftedError(_TOO_MANY)
        entry = np.repeat(np.arange(len(numbers)), numbers)
        nth = np.arange(len(entry)) - np.repeat(np.cumsum(numbers) - numbers, numbers)
        width = counts[outer.columns[entry]]
        i = indices[pointers[outer.rows[entry]] + nth // width]
        j = indices[pointers[outer.columns[entry]] + nth % width]
        wanted = np.maximum(i, j) * inner.dim + np.minimum(i, j)
        known = inner.columns * inner.dim + inner.rows
        target = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        # one of each two mirror images; what the pattern of the density does not have cancels out
        is_left_out = (outer.rows == outer.columns)[entry] & (i > j)
        is_left_out |= known[target] != wanted
        self._targets = np.where(is_left_out, -1, target).astype(np.int32)
        self._entries = len(known)

    def __call__(self, curvature: Floats, jacobian: Floats) -> Floats:
        found = np.zeros(self._entries)
        loops().add_products(
            self._rows,
            self._columns,
            self._pointers,
            self._indices,
            self._targets,
            np.ascontiguousarray(curvature),
            jacobian,
            found,
        )
        return found


def _places(pattern: csr_array) -> tuple[Integers, Integers]:
    """Pointers and indices, as the loops take them."""
    pattern.sort_indices()
    return pattern.indptr.astype(np.int64), pattern.indices.astype(np.int64)
