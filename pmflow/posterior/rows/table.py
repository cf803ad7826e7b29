"""Rows of data that belong together: those of one `pymc.Minibatch`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.traversal import graph_inputs
from pytensor.tensor.variable import TensorVariable

from pmflow.graphs.evaluate import compile_once

__all__ = ["ArrayRows", "Column", "Rows", "Table"]

type Array = NDArray[Any]


@runtime_checkable
class Rows(Protocol):
    """Rows of data, wherever they are kept."""

    def __len__(self) -> int:
        """How many there are."""

    def take(self, indices: NDArray[np.int64]) -> Array:
        """Rows at some places, shape (len(indices), ...)."""

    def between(self, begin: int, end: int) -> Array:
        """The rows from `begin` up to `end`, shape (end - begin, ...)."""


@dataclass(frozen=True, eq=False)
class ArrayRows:
    """The rows of an array, which may be a memory map.

    Parameters
    ----------
    array : ndarray, shape (rows, ...)
    """

    array: Array

    def __len__(self) -> int:
        return len(self.array)

    def take(self, indices: NDArray[np.int64]) -> Array:
        """Rows at some places."""
        return np.asarray(self.array[indices])

    def between(self, begin: int, end: int) -> Array:
        """The rows from `begin` up to `end`: no copy."""
        return np.asarray(self.array[begin:end])


class Column:
    """What a model knows of some rows by one variable.

    Parameters
    ----------
    variable : TensorVariable, shape (batch, ...)
        Which the density of the model depends on.
    source : TensorVariable or Rows
        Where its rows come from: data of the model, read anew where these were set anew.
    """

    def __init__(self, variable: TensorVariable, source: TensorVariable | Rows) -> None:
        self.variable, self._source = variable, source
        self._known: tuple[list[Any], Rows] | None = None

    @property
    def rows(self) -> Rows:
        """The rows as they are now."""
        source = self._source
        if not isinstance(source, Variable):
            return source
        if isinstance(source, Constant):
            return ArrayRows(np.asarray(source.data))
        shared = [x for x in graph_inputs([source]) if isinstance(x, SharedVariable)]
        data = [x.get_value(borrow=True) for x in shared]
        if self._known is not None and all(map(_is_same, self._known[0], data)):
            return self._known[1]
        array = data[0] if source.owner is None else compile_once([], [source])()[0]
        self._known = data, ArrayRows(np.asarray(array))
        return self._known[1]

    def taken(self, rows: Array) -> Array:
        """Rows in the type of the variable."""
        return np.asarray(rows, dtype=self.variable.type.dtype)


def _is_same(one: Any, other: Any) -> bool:
    return one is other


@dataclass(frozen=True, eq=False)
class Table:
    """Rows that are drawn together, and what each adds to the log density.

    Attributes
    ----------
    names : tuple of str
        The observed variables whose rows these are.
    columns : tuple of Column
    batch : int
        Rows of a minibatch.
    terms : TensorVariable, shape (batch,)
        What each row of a minibatch adds, as the model scales it up, a graph of the columns.
    is_scaled : bool
        Whether terms are scaled up to all rows by ``total_size``.
    """

    names: tuple[str, ...]
    columns: tuple[Column, ...]
    batch: int
    terms: TensorVariable
    is_scaled: bool = True

    def __len__(self) -> int:
        return len(self.columns[0].rows)

    @property
    def share(self) -> float:
        """What a term counts where all rows are added up: the terms of a batch are scaled up."""
        return self.batch / len(self) if self.is_scaled else 1.0

    @property
    def width(self) -> int:
        """How many numbers a row has."""
        return sum(math.prod(one.rows.between(0, 1).shape) for one in self.columns)

    def take(self, indices: NDArray[np.int64]) -> list[Array]:
        """Rows at some places, one array a column."""
        return [column.taken(column.rows.take(indices)) for column in self.columns]

    def blocks(self, size: int) -> Iterator[list[Array]]:
        """All rows in their order, up to `size` at a time, one array a column."""
        rows: Sequence[Rows] = [column.rows for column in self.columns]
        for begin in range(0, len(self), size):
            end = min(begin + size, len(self))
            yield [
                column.taken(one.between(begin, end))
                for column, one in zip(self.columns, rows, strict=True)
            ]
