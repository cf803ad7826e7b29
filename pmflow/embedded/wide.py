"""Few sums of many variables, beside which the second derivatives of a model are sparse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import is_not
from typing import Any, override
from weakref import WeakKeyDictionary

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.traversal import graph_inputs
from pytensor.tensor.variable import TensorVariable
from scipy.sparse import csr_array

from pmflow.embedded.curvature import STEP, AbstractCurvature
from pmflow.embedded.factor import Factor
from pmflow.embedded.factors import Factors, is_dense
from pmflow.embedded.low_rank_factor import LowRankFactor
from pmflow.embedded.predictors import Predictors
from pmflow.graphs.affine import affine_sums
from pmflow.graphs.checks import without_checks
from pmflow.graphs.evaluate import compile_once
from pmflow.graphs.sparsity import hessian_pattern, jacobian_pattern, merged
from pmflow.posterior.graph_density import GraphDensity

__all__ = ["Wide", "WideCurvature", "WideFactors", "wide_of"]

_MOST = 8
"""Entries of all sums together: each of them takes two gradients at each curvature."""
_FEWEST = 64
"""Variables in a sum, below which it is as quick to have them all meet."""

_NOTHING = 1e-8
"""Of the largest precision: what is left of a second derivative that is 0."""

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Wide:
    r"""A log density :math:`F(z, s)` with few sums :math:`s = A z + c`.

    A sum makes all of its variables meet: the sum that holds the level of a spatial field at 0, or
    the one that is taken off each effect. Given it they may meet but few others.

    Attributes
    ----------
    lifted : GraphDensity
        F, of the latent vector with the sums after it.
    matrix : ndarray, shape (sums, dim)
        A.
    constant : ndarray, shape (sums,)
    pattern : csr_array, shape (dim, dim)
        Of the second derivatives by the latent vector, the sums held.
    """

    lifted: GraphDensity
    matrix: Floats
    constant: Floats
    pattern: csr_array

    def beyond(self, z: Floats) -> Floats:
        """Points of shape (n, dim) with their sums after them."""
        return np.concatenate([z, z @ self.matrix.T + self.constant], axis=1)


_found: WeakKeyDictionary[GraphDensity, tuple[list[Any], Wide | None]] = WeakKeyDictionary()
"""What was told of each density, and the graph and the data that it was told from."""


def wide_of(density: GraphDensity) -> Wide | None:
    """The sums of many variables of a density, None where it has none or is not sparse beside them.

    Told from the graph and its data alone, so that it is the same whenever it is asked for.
    """
    _, value = density.graph
    data = (x for x in graph_inputs([value]) if isinstance(x, SharedVariable))
    told_from = [value, *(x.get_value(borrow=True) for x in data)]
    known, found = _found.get(density, ([], None))
    if len(known) != len(told_from) or any(map(is_not, known, told_from)):
        found = _read(density)
        _found[density] = told_from, found
    return found


def _read(density: GraphDensity) -> Wide | None:
    z, value = density.graph
    (value,) = merged([value]).outputs
    sums = _sums_of_many(z, affine_sums(z, value))
    if not sums:
        return None
    # sums that are no longer those of the variables may fail a check
    lifted = Predictors(z, sums, 1).outer(*without_checks([value]))
    pattern = hessian_pattern(*lifted.graph)
    if pattern is None:
        return None
    pattern = csr_array(pattern[: density.dim][:, : density.dim])
    if is_dense(pattern):
        return None
    constant, matrix = _affine(z, sums)
    return Wide(lifted, matrix, constant, pattern)


def _sums_of_many(z: TensorVariable, sums: Sequence[TensorVariable]) -> list[TensorVariable]:
    found, number = [], 0
    for variable in sums:
        jacobian = jacobian_pattern(z, [variable])
        if jacobian is None or number + jacobian.shape[0] > _MOST:
            continue
        if np.diff(jacobian.indptr).min(initial=_FEWEST) >= _FEWEST and jacobian.shape[0]:
            found.append(variable)
            number += jacobian.shape[0]
    return found


def _affine(z: TensorVariable, sums: Sequence[TensorVariable]) -> tuple[Floats, Floats]:
    """Where z is 0, and the Jacobian, which is the same anywhere."""
    flat = pt.concatenate([variable.reshape((-1,)) for variable in sums])
    jacobian = pt.jacobian(flat, z, vectorize=True)
    run = compile_once([z], [flat, jacobian], rewrites="values", random_seed=False)
    constant, matrix = run(np.zeros(z.type.shape))
    return np.asarray(constant), np.asarray(matrix)


class WideFactors(Factors):
    """Factors of precisions P = S + A' H + H' A + A' C A, with S of a pattern and few rows A.

    `values` is flat: the entries of S, then H, shape (sums, dim), and C, shape (sums, sums).

    Parameters
    ----------
    pattern : csr_array, shape (dim, dim)
        Of S.
    rows : ndarray, shape (sums, dim)
        A.
    """

    def __init__(self, pattern: csr_array, rows: Floats) -> None:
        super().__init__(pattern)
        self._sums = rows

    @property
    @override
    def is_diagonal(self) -> bool:
        return False

    @property
    @override
    def is_apart(self) -> bool:
        return False

    @override
    def has_crossed(self, values: Floats) -> bool:
        _, crossed, _ = self._parts(values)
        size = np.abs(self.diagonal(values)).max()
        return bool(np.abs(crossed * self._sums).max() > _NOTHING * size)

    @override
    def diagonal(self, values: Floats) -> Floats:
        entries, crossed, middle = self._parts(values)
        of_middle = ((middle @ self._sums) * self._sums).sum(-2)
        return np.asarray(
            super().diagonal(entries) + 2 * (crossed * self._sums).sum(-2) + of_middle
        )

    @override
    def matrix(self, values: Floats) -> csr_array:
        entries, crossed, middle = self._parts(values)
        half = self._sums.T @ (crossed + middle @ self._sums / 2)
        return csr_array(super().matrix(entries).toarray() + half + half.T)

    @override
    def times(self, values: Floats, d: Floats) -> Floats:
        entries, crossed, middle = self._parts(values)
        along = self._sums @ d
        found = super().matrix(entries) @ d + crossed.T @ along
        return np.asarray(found + self._sums.T @ (crossed @ d + middle @ along))

    @override
    def _of_finite(self, values: Floats) -> Factor | None:
        entries, crossed, middle = self._parts(values)
        one = np.eye(len(middle))
        rows = np.concatenate([self._sums, crossed])
        return LowRankFactor.of(
            super()._of_finite(entries), rows, np.block([[middle, one], [one, 0 * one]])
        )

    def _parts(self, values: Floats) -> tuple[Floats, Floats, Floats]:
        number = len(self._sums)
        ends = np.cumsum([len(self.rows), number * self.dim])
        entries, crossed, middle = np.split(values, ends, axis=-1)
        shape = values.shape[:-1]
        return (
            entries,
            crossed.reshape(*shape, number, self.dim),
            middle.reshape(*shape, number, number),
        )


class WideCurvature(AbstractCurvature):
    """Minus the second derivatives of a density with sums, as `WideFactors` takes them.

    Parameters
    ----------
    wide : Wide
    inner : ndarray
        Places of the entries in the latent vector.
    beside : AbstractCurvature
        Of F by these entries.
    """

    def __init__(self, wide: Wide, inner: Integers, beside: AbstractCurvature) -> None:
        self._wide, self._inner, self._beside = wide, inner, beside

    @property
    @override
    def gradients(self) -> int:
        return self._beside.gradients + 2 * len(self._wide.constant)

    @override
    def at(self, z: Floats, sds: Floats) -> Floats:
        """Minus the second derivatives, at points of shape (n, dim): shape (n, values)."""
        wide = self._wide
        points = wide.beyond(z)
        number, dim = wide.matrix.shape
        # as far as the sum moves where its variables move by their sds independently
        steps = STEP * np.sqrt(wide.matrix[:, self._inner] ** 2 @ sds**2)
        steps = np.where(steps > 0, steps, STEP)
        ways = np.zeros((number, dim + number))
        ways[:, dim:] = np.diag(steps)
        around = np.concatenate([points[:, None] - ways, points[:, None] + ways], axis=1)
        _, gradient = wide.lifted.value_and_gradient(around.reshape(-1, dim + number))
        behind, ahead = np.moveaxis(gradient.reshape(len(z), 2, number, -1), 1, 0)
        change = (behind - ahead) / (2 * steps[:, None])
        crossed, middle = change[..., self._inner], change[..., dim:]
        middle = (middle + np.swapaxes(middle, -1, -2)) / 2
        parts = self._beside.at(points, sds), crossed, middle
        return np.concatenate([part.reshape(len(z), -1) for part in parts], axis=1)
