"""Rows of data that belong together: those of one `pymc.Minibatch`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from operator import is_
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable
from pytensor.graph.traversal import graph_inputs
from pytensor.tensor.variable import TensorVariable

from pmflow.graphs.evaluate import compile_once
from pmflow.graphs.settled import value_of
from pmflow.posterior.rows.sources.ahead import ahead
from pmflow.posterior.rows.sources.arrays import ArrayRows
from pmflow.posterior.rows.sources.rows import Rows

__all__ = ["Column", "Table"]

type Array = NDArray[Any]


class Column:
    """What a model knows of some rows by one variable.

    Parameters
    ----------
    variable : TensorVariable, shape (batch, ...)
        Which the density of the model depends on.
    source : TensorVariable or Rows
        Where its rows come from: data of the model, read anew where these were set anew, or rows
        that are kept elsewhere.
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
        shared = [x for x in graph_inputs([source]) if isinstance(x, SharedVariable)]
        data = [x.get_value(borrow=True) for x in shared]
        if self._known is None or not all(map(is_, self._known[0], data)):
            self._known = data, ArrayRows(self._array(source))
        return self._known[1]

    @staticmethod
    def _array(source: TensorVariable) -> Array:
        if source.owner is None:
            return value_of(source)
        return np.asarray(compile_once([], [source])()[0])

    def taken(self, rows: Array) -> Array:
        """Rows in the type of the variable."""
        return np.asarray(rows, dtype=self.variable.type.dtype)


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
    """

    names: tuple[str, ...]
    columns: tuple[Column, ...]
    batch: int
    terms: TensorVariable

    def __len__(self) -> int:
        return self.columns[0].rows.shape[0]

    @property
    def share(self) -> float:
        """What a term counts where all rows are added up: the terms of a batch are scaled up."""
        return self.batch / len(self)

    @property
    def width(self) -> int:
        """How many numbers a row has."""
        return sum(math.prod(one.rows.shape[1:]) for one in self.columns)

    def take(self, indices: NDArray[np.int64]) -> list[Array]:
        """Rows at some places, one array a column."""
        return [column.taken(column.rows.take(indices)) for column in self.columns]

    def blocks(self, size: int) -> Iterator[list[Array]]:
        """All rows in their order, `size` at a time, one array a column.

        Rows that are kept elsewhere are read while those before them are gone through.
        """
        columns = [self._blocks_of(column, size) for column in self.columns]
        for parts in zip(*columns, strict=True):
            yield list(parts)

    @staticmethod
    def _blocks_of(column: Column, size: int) -> Iterator[Array]:
        rows = column.rows
        blocks = map(column.taken, rows.blocks(size))
        return blocks if isinstance(rows, ArrayRows) and rows.are_at_hand else ahead(blocks)
