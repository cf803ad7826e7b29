"""Which entries of a latent vector each entry of a variable depends on, as sparse boolean rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pytensor.graph.basic import Apply, Variable
from pytensor.tensor.blockwise import Blockwise
from scipy import sparse

__all__ = [
    "AbstractWalk",
    "Budget",
    "Carried",
    "UntoldError",
    "everything",
    "is_discrete",
    "scatter",
]

type Rows = Any
"""A boolean ``csr_array`` of shape (entries, dim): row i has what entry i depends on."""


class UntoldError(Exception):
    """The pattern can't be told, or not with less than the entries that may be processed."""


@dataclass(frozen=True)
class Carried:
    """What is known of a variable.

    Attributes
    ----------
    shape : tuple of int
    depends : csr_array of bool, optional
        What each entry's derivatives can be other than 0 by, of shape (entries, dim); None for
        nothing, as is so for a comparison.
    value : Any
        The value of a variable that is the same whatever the latent vector is.
    is_fixed : bool
        Whether it is one.
    zero : ndarray of bool, optional
        The entries of another variable that are 0 all the same, in its shape; None for none. What
        it is multiplied by does not matter there.
    """

    shape: tuple[int, ...]
    depends: Rows | None = None
    value: Any = None
    is_fixed: bool = False
    zero: NDArray[np.bool_] | None = None

    @classmethod
    def fixed(cls, value: Any) -> Carried:
        """A variable that depends on nothing."""
        # neither slices nor generators have a shape
        return cls(tuple(getattr(value, "shape", ())), value=value, is_fixed=True)

    @property
    def size(self) -> int:
        """The number of entries."""
        return prod(self.shape)

    @property
    def positions(self) -> NDArray[np.int64]:
        """The places of its entries, in its shape."""
        return np.arange(self.size).reshape(self.shape)

    @cached_property
    def zeros(self) -> NDArray[np.bool_] | None:
        """The entries that are 0 whatever the latent vector is, in its shape; None for none."""
        if not self.is_fixed:
            return self.zero
        found = np.asarray(np.asarray(self.value) == 0)
        return found if found.any() else None


@dataclass
class Budget:
    """How many entries may still be processed."""

    left: int

    def spend(self, entries: int) -> None:
        """Raise rather than process more than there is memory and time for."""
        self.left -= entries
        if self.left < 0:
            raise UntoldError("too many entries")


def scatter(index: ArrayLike, size: int) -> Rows:
    """The map that puts entry k at ``index[k]`` of `size` places."""
    index = np.ravel(index)
    columns = np.arange(len(index))
    return sparse.csr_array(
        (np.ones(len(index), dtype=bool), (index, columns)), shape=(size, len(index))
    )


class AbstractWalk(ABC):
    """A walk through a graph by which the rows of its variables are found.

    Parameters
    ----------
    dim : int
        Of the latent vector that rows are about.
    budget : Budget
    """

    def __init__(self, dim: int, budget: Budget) -> None:
        self.dim = dim
        self.budget = budget

    @abstractmethod
    def through(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], given: Sequence[Carried]
    ) -> list[Carried]:
        """What the outputs of a graph carry, given what its inputs do."""

    @abstractmethod
    def about(self, dim: int) -> AbstractWalk:
        """A walk about another vector, out of the same budget."""

    @abstractmethod
    def shapes(self, node: Apply, inputs: Sequence[Carried]) -> list[tuple[int, ...]]:
        """The shapes of the outputs of a node of an Op that nothing is known of."""

    def gather(self, rows: Rows | None, index: ArrayLike) -> Rows | None:
        """The rows at some places."""
        if rows is None:
            return None
        index = np.ravel(index)
        counts = np.diff(rows.indptr)[index]
        self.budget.spend(int(counts.sum()) + len(index))
        if len(index) == rows.shape[0] and np.array_equal(index, np.arange(len(index))):
            return rows
        return _or_none(rows[index])

    def broadcast(
        self, carried: Carried, shape: tuple[int, ...], axes: tuple[int, ...] | None = None
    ) -> Rows | None:
        """The rows of a variable in a larger shape; `axes` are those that it has itself."""
        if carried.depends is None or (axes is None and carried.shape == shape):
            return carried.depends
        places = carried.positions
        if axes is not None:
            places = np.expand_dims(places, tuple(set(range(len(shape))) - set(axes)))
        return self.gather(carried.depends, np.broadcast_to(places, shape))

    def group(self, rows: Rows | None, index: ArrayLike, size: int) -> Rows | None:
        """The unions of the rows that have the same place in `index`."""
        if rows is None:
            return None
        return self.combine(scatter(index, size), rows)

    def combine(self, incidence: Rows, rows: Rows | None) -> Rows | None:
        """The unions of those rows that each row of `incidence` names."""
        if rows is None:
            return None
        if incidence.shape[0] == 1 and incidence.nnz == rows.shape[0]:
            return self.united(rows)
        counts = np.diff(rows.indptr)
        self.budget.spend(int(counts[incidence.indices].sum()) + incidence.nnz)
        found = incidence @ rows
        found.sort_indices()
        return _or_none(found)

    def united(self, rows: Rows) -> Rows:
        """One row, of all that any row has."""
        self.budget.spend(rows.nnz)
        has = np.zeros(self.dim, dtype=bool)
        has[rows.indices] = True
        return sparse.csr_array(has[None, :])

    def union(self, parts: Iterable[Rows | None]) -> Rows | None:
        """What any of several variables of one shape depends on."""
        found = None
        for part in parts:
            if part is None or part is found:
                continue
            if found is None:
                found = part
                continue
            self.budget.spend(found.nnz + part.nnz)
            both = found + part
            if both.nnz != found.nnz:  # an equal pattern stays one object: less to do later
                found = part if both.nnz == part.nnz else both
        return found

    def without(self, rows: Rows | None, dropped: NDArray[np.bool_]) -> Rows | None:
        """The rows, with nothing in those that are dropped."""
        if rows is None or not dropped.any():
            return rows
        self.budget.spend(rows.nnz)
        counts = np.diff(rows.indptr)
        stays = ~np.repeat(dropped, counts)
        starts = np.concatenate([[0], np.cumsum(np.where(dropped, 0, counts))])
        kept = rows.data[stays], rows.indices[stays], starts.astype(rows.indptr.dtype)
        return _or_none(sparse.csr_array(kept, shape=rows.shape))

    def cumulative(self, carried: Carried, axis: int) -> Rows | None:
        """The union of each row with all before it along an axis."""
        rows, shape = carried.depends, carried.shape
        if rows is None:
            return None
        along = shape[axis]
        lanes = np.moveaxis(carried.positions, axis, -1).reshape(-1, along)
        lane, step = np.empty((2, carried.size), dtype=np.int64)
        lane[lanes], step[lanes] = np.arange(len(lanes))[:, None], np.arange(along)
        counts = np.diff(rows.indptr)
        pair = np.repeat(lane, counts) * self.dim + rows.indices  # a lane and what it depends on
        steps = np.repeat(step, counts)
        order = np.lexsort((steps, pair))
        pairs, first = np.unique(pair[order], return_index=True)
        starts = steps[order][first]
        lengths = along - starts  # from where it first comes in up to the end
        self.budget.spend(int(lengths.sum()))
        offsets = np.repeat(np.cumsum(lengths) - lengths - starts, lengths)
        to = lanes[np.repeat(pairs // self.dim, lengths), np.arange(len(offsets)) - offsets]
        columns = np.repeat(pairs % self.dim, lengths)
        ones = np.ones(len(columns), dtype=bool)
        return sparse.csr_array((ones, (to, columns)), shape=rows.shape)


def is_discrete(variable: Any) -> bool:
    """Whether a variable has no derivative: whole numbers, and what is no number."""
    dtype = getattr(variable.type, "dtype", None)
    return dtype is None or np.dtype(dtype).kind not in "fc"


def everything(walk: AbstractWalk, node: Apply, inputs: Sequence[Carried]) -> list[Carried]:
    """Each output depends on all inputs, within a member where there is a batch."""
    found = walk.shapes(node, inputs)
    batch_ndim = node.op.batch_ndim(node) if isinstance(node.op, Blockwise) else 0
    batch = found[0][:batch_ndim]
    parts = []
    for x in inputs:
        if x.depends is None:
            continue
        own = x.shape[:batch_ndim]
        member = np.repeat(np.arange(prod(own)), x.size // max(prod(own), 1))
        within = walk.group(x.depends, member, prod(own))
        parts.append(walk.broadcast(Carried(own, within), batch))
    rows = walk.union(parts)
    members = prod(batch)
    return [
        Carried(s, walk.gather(rows, np.repeat(np.arange(members), prod(s) // max(members, 1))))
        for s in found
    ]


def _or_none(rows: Rows) -> Rows | None:
    return rows if rows.nnz else None
