"""Linear predictors at points, with their derivatives by the local variables."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable
from scipy.sparse import csr_array

from pmflow.embedded.factor import loops
from pmflow.embedded.predictors import Predictors

__all__ = ["Fixed", "Moving", "Values", "counted", "one_of_each", "places_of"]

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]


class Values(NamedTuple):
    """Predictors at points.

    Attributes
    ----------
    predictors : ndarray, shape (n, rows)
    jacobian : ndarray, shape (n or 1, entries)
        Their derivatives by the local variables, in the order of the pattern.
    units : ndarray, shape (n or 1, rows)
        How far one step along all local variables moves each.
    """

    predictors: Floats
    jacobian: Floats
    units: Floats


class Moving:
    """Predictors whose derivatives by the local variables depend on the global ones.

    Parameters
    ----------
    z : TensorVariable
    ends : sequence of TensorVariable
    inner : ndarray
        Places of the local variables.
    pattern : csr_array, shape (rows, locals)

    Attributes
    ----------
    evaluations : int
        Of the predictors, at each point.
    """

    def __init__(
        self, z: TensorVariable, ends: Sequence[TensorVariable], inner: Integers, pattern: csr_array
    ) -> None:
        self._inner, self._pattern = inner, places_of(pattern)
        self._colours = _colours_of(pattern)
        self.evaluations = int(self._colours.max()) + 2
        self._predictors = Predictors(z, ends, self.evaluations)

    def at(self, z: Floats, sds: Floats) -> Values:
        """At points of shape (n, dim), by steps of one sd of the local variables."""
        steps = _steps(self._colours, self._inner, sds, z.shape[1])
        points = (z[:, None] + steps).reshape(-1, z.shape[1])
        predictors = self._predictors(points).reshape(len(z), len(steps), -1)
        jacobian = np.empty((len(z), len(self._pattern[1])))
        units = np.empty((len(z), predictors.shape[-1]))
        for values, j, unit in zip(predictors, jacobian, units, strict=True):
            loops().differences(*self._pattern, self._colours, values, sds, j, unit)
        return Values(predictors[:, 0], jacobian, units)


class Fixed:
    """Predictors that are affine in the whole vector: a matrix times it, and a constant.

    Parameters
    ----------
    z : TensorVariable
    ends : sequence of TensorVariable
    inner : ndarray
        Places of the local variables.
    pattern : csr_array, shape (rows, dim)
    """

    evaluations = 1
    """Products, at each point."""

    def __init__(
        self, z: TensorVariable, ends: Sequence[TensorVariable], inner: Integers, pattern: csr_array
    ) -> None:
        self._inner, self._variables, self._pattern = inner, (z, ends), pattern

    @cached_property
    def _affine(self) -> tuple[csr_array, Floats]:
        """The matrix and the constant."""
        colours, dim = _colours_of(self._pattern), self._pattern.shape[1]
        steps = _steps(colours, np.arange(dim), np.ones(dim), dim)
        values = Predictors(*self._variables, len(steps))(steps)
        pointers, indices = places_of(self._pattern)
        rows = np.repeat(np.arange(len(pointers) - 1), np.diff(pointers))
        entries = values[colours[indices] + 1, rows] - values[0, rows]
        return csr_array((entries, indices, pointers), shape=self._pattern.shape), values[0]

    @cached_property
    def _by_locals(self) -> csr_array:
        found = csr_array(self._affine[0][:, self._inner])
        found.sort_indices()
        return found

    def at(self, z: Floats, sds: Floats) -> Values:
        """At points of shape (n, dim)."""
        matrix, constant = self._affine
        jacobian = self._by_locals
        variance = (jacobian.power(2) @ sds**2)[None]
        units = np.where(variance > 0, np.sqrt(variance), 1.0)
        return Values((matrix @ z.T).T + constant, jacobian.data[None], units)


def one_of_each(pointers: Integers, indices: Integers) -> tuple[Integers, Integers]:
    """One row of each kind: rows with entries in the same columns are of one kind.

    Returns
    -------
    examples : ndarray, shape (kinds,)
    kinds : ndarray, shape (rows,)
        Of each row.
    """
    counts = np.diff(pointers)
    # rows are told apart by sums of random numbers that columns have
    of_columns = np.random.default_rng(0).integers(2**62, size=int(indices.max(initial=0)) + 1)
    sums = np.concatenate([[0], np.cumsum(of_columns[indices])])
    keys = sums[pointers[1:]] - sums[pointers[:-1]] + counts
    _, examples, kinds = np.unique(keys, return_index=True, return_inverse=True)
    # a collision is as good as impossible, and would be a wrong matrix
    at = np.repeat(pointers[examples[kinds]], counts) + counted(counts)[1]
    if (counts[examples[kinds]] != counts).any() or (indices[at] != indices).any():
        return np.arange(len(counts)), np.arange(len(counts))
    return examples, kinds


def counted(numbers: Integers) -> tuple[Integers, Integers]:
    """Of so many things of each owner one after the other: whose each is, and its place there."""
    owner = np.repeat(np.arange(len(numbers)), numbers)
    return owner, np.arange(len(owner)) - (np.cumsum(numbers) - numbers)[owner]


def places_of(pattern: csr_array) -> tuple[Integers, Integers]:
    """Pointers and indices, sorted, as the loops take them."""
    pattern.sort_indices()
    return pattern.indptr.astype(np.int64), pattern.indices.astype(np.int64)


def _colours_of(pattern: csr_array) -> Integers:
    """Of the columns, so that no row has two of one colour."""
    examples, _ = one_of_each(*places_of(pattern))
    kinds = csr_array(pattern[examples]).astype(np.int32)
    found: Integers = loops().apart(*places_of(csr_array(kinds.T @ kinds)))
    return found


def _steps(colours: Integers, places: Integers, lengths: Floats, dim: int) -> Floats:
    """No step, and one along all entries of each colour, shape (1 + colours, dim)."""
    steps = np.zeros((int(colours.max()) + 2, dim))
    steps[colours + 1, places] = lengths
    return steps
