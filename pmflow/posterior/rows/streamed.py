"""A log density at all rows of the data, a few thousand at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.posterior.graph_density import GraphDensity
from pmflow.posterior.rows.block import Block
from pmflow.posterior.rows.table import Table
from pmflow.watch import piece, tick

__all__ = ["Chosen", "RowSum"]

_AT_ONCE = 4_096
"""Rows of a block: memory stays bounded, and a call takes milliseconds."""

_ROUNDING = 1e-9
"""By which what a row adds may differ beside other rows."""

type Floats = NDArray[np.float64]


class Chosen:
    """Some rows of a table, each with its weight.

    Parameters
    ----------
    indices : ndarray of int, shape (n,)
    weights : ndarray, shape (n,)
        What each stands for: 1 over the probability by which it was chosen.
    """

    def __init__(self, indices: NDArray[np.int64], weights: Floats) -> None:
        self.indices, self.weights = indices, weights

    def __len__(self) -> int:
        return len(self.indices)


class RowSum:
    """The sum over rows of a table of what each adds to the log density.

    Of memory it takes that of one block, however many rows there are. Data are read at each call.

    Parameters
    ----------
    z : TensorVariable, shape (dim,)
    table : Table
        With terms that are graphs of `z`.
    """

    def __init__(self, z: TensorVariable, table: Table) -> None:
        self._z, self.table = z, table
        self._block = Block(table, min(_AT_ONCE, len(table)))
        self._density = GraphDensity(z, self._block.total, changes=True)
        self._terms: Callable[[Floats], Floats] | None = None

    @property
    def work(self) -> float:
        """About how many numbers a row goes through at one point."""
        return self._density.work / self._block.size

    def value(self, z: Floats, rows: Chosen | None = None) -> Floats:
        """The sum at points of shape (n, dim), shape (n,), over all rows or those chosen."""
        total = np.zeros(len(z))
        for _ in self._blocks(rows):
            total += self._density.value(z)
        return total

    def value_and_gradient(self, z: Floats, rows: Chosen | None = None) -> tuple[Floats, Floats]:
        """The sum and its gradient: shapes (n,), (n, dim); -inf and 0 where it is not finite."""
        total, slope = np.zeros(len(z)), np.zeros_like(z, dtype=float)
        for _ in self._blocks(rows):
            value, gradient = self._density.value_and_gradient(z)
            total += value
            slope += gradient
        return total, slope

    def are_apart(self, z: Floats) -> bool:
        """Whether what a row adds is the same beside other rows in its minibatch.

        Parameters
        ----------
        z : ndarray, shape (dim,)
        """
        batch, number = self.table.batch, len(self.table)
        if batch == 1 or number == 1:
            return True
        first = np.arange(self._block.size) % number
        stays = np.arange(self._block.size) % batch < batch // 2
        found = []
        for places in (first, np.where(stays, first, (first + number // 2) % number)):
            rows = Chosen(places, np.ones(len(places)))
            found.append(np.concatenate(list(self.terms(z[None], rows)), axis=1)[0, stays])
        one, other = found
        return bool(np.allclose(one, other, rtol=_ROUNDING, atol=_ROUNDING, equal_nan=True))

    def terms(self, z: Floats, rows: Chosen | None = None) -> Iterator[Floats]:
        """What each row adds at points of shape (n, dim), a block of shape (n, rows) at a time."""
        if self._terms is None:
            self._terms = self._block.each(self._z)
        for number in self._blocks(rows):
            yield self.table.share * self._terms(z)[:, :number]

    def _blocks(self, rows: Chosen | None) -> Iterator[int]:
        """Put block after block into place, and say how many rows each has."""
        share, done = self.table.share, 0
        for columns, weights in self._parts(rows):
            self._block.hold(columns, share * weights)
            with piece("going through the rows", can_be_cut=True):
                tick(done)
            yield len(weights)
            done += len(weights)

    def _parts(self, rows: Chosen | None) -> Iterator[tuple[list[NDArray[Any]], Floats]]:
        size = self._block.size
        if rows is None:
            for columns in self.table.blocks(size):
                yield columns, np.ones(len(columns[0]))
            return
        for begin in range(0, len(rows), size):
            part = slice(begin, begin + size)
            yield self.table.take(rows.indices[part]), rows.weights[part]
