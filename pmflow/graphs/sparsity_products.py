"""How products of matrices and convolutions carry on what their factors depend on."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytensor.graph.basic import Apply
from scipy import sparse

from pmflow.graphs.sparsity_rows import AbstractWalk, Carried, everything

__all__ = ["convolves", "multiplies", "solves"]

type Indices = NDArray[np.int64]

_PRODUCT = 8
"""Entries that are processed in the time that one product of two numbers takes to write down."""


def multiplies(walk: AbstractWalk, node: Apply, inputs: Sequence[Carried]) -> list[Carried]:
    """Products of matrices, of batches of them too: entries meet those that are not always 0."""
    a, b = inputs
    if len(a.shape) == 1 or len(b.shape) == 1:
        return _product_of_vectors(walk, node, a, b)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    (n, k), m = a.shape[-2:], b.shape[-1]
    shape = (*batch, n, m)
    found = []
    if a.depends is not None:
        places = np.broadcast_to(a.positions, (*batch, n, k))
        member, row, column = _not_zero(b, batch)
        found.append(_through(walk, a.depends, places, (member, column, row), m))
    if b.depends is not None:
        places = np.broadcast_to(b.positions, (*batch, k, m)).swapaxes(-1, -2)
        rows = _through(walk, b.depends, places, _not_zero(a, batch), n)
        turned = np.arange(prod(shape)).reshape((*batch, m, n))
        found.append(walk.gather(rows, turned.swapaxes(-1, -2)))
    return [Carried(shape, walk.union(found))]


def _not_zero(x: Carried, batch: tuple[int, ...]) -> tuple[Indices | None, ...]:
    """Member of the batch, row and column of the entries of a factor; None for all of them."""
    if sparse.issparse(x.value):
        row, column = x.value.nonzero()
        return np.zeros_like(row), row, column
    if x.zeros is None:
        return None, None, None
    has = np.broadcast_to(~x.zeros, (*batch, *x.shape[-2:]))
    return np.nonzero(has.reshape(-1, *x.shape[-2:]))


def _through(
    walk: AbstractWalk,
    rows: Any,
    places: Indices,
    other: tuple[Indices | None, ...],
    m: int,
) -> Any:
    """What ``out[i, j] = sum_k x[i, k] other[j, k]``, j < m, depends on through `x`.

    `places` are those of ``x[i, k]`` among the rows, for each member of the batch; `other` says
    for which member, j and k there is something.
    """
    n, size = places.shape[-2:]
    places = places.reshape(-1, n, size)
    members = len(places)
    member, j, k = other
    if member is None or j is None or k is None:
        each = np.repeat(np.arange(members * n), size)
        summed = walk.group(walk.gather(rows, places), each, members * n)
        return walk.gather(summed, np.repeat(np.arange(members * n), m))
    walk.budget.spend(_PRODUCT * n * len(k))
    i = np.arange(n)[:, None]
    to = ((member * n + i) * m + j).ravel()
    source = places[member, i, k].ravel()
    ones = np.ones(len(to), dtype=bool)
    incidence = sparse.csr_array((ones, (to, source)), shape=(members * n * m, rows.shape[0]))
    return walk.combine(incidence, rows)


def _product_of_vectors(walk: AbstractWalk, node: Apply, a: Carried, b: Carried) -> list[Carried]:
    """A product in which a vector stands for a matrix of one row or column."""
    rows = _reshaped(a, (1, *a.shape)) if len(a.shape) == 1 else a
    columns = _reshaped(b, (*b.shape, 1)) if len(b.shape) == 1 else b
    (found,) = multiplies(walk, node, [rows, columns])
    shape = a.shape[:-1] + (b.shape[:-2] + b.shape[-1:] if len(b.shape) > 1 else ())
    return [Carried(shape, found.depends)]


def _reshaped(x: Carried, shape: tuple[int, ...]) -> Carried:
    value = np.reshape(x.value, shape) if x.is_fixed else None
    zero = None if x.zero is None else x.zero.reshape(shape)
    return Carried(shape, x.depends, value, x.is_fixed, zero)


def solves(walk: AbstractWalk, node: Apply, inputs: Sequence[Carried]) -> list[Carried]:
    """Linear equations for the columns of a matrix, of batches too: columns stay apart."""
    a, b = inputs
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    members, (n, m) = prod(batch), b.shape[-2:]
    shape = (*batch, n, m)
    columns = np.arange(members * m).reshape((*batch, 1, m))
    found = []
    if a.depends is not None:
        core = np.broadcast_to(np.arange(members).reshape((*batch, 1, 1)), (*batch, *a.shape[-2:]))
        rows = walk.gather(a.depends, np.broadcast_to(a.positions, core.shape))
        member = np.broadcast_to(np.arange(members).reshape((*batch, 1, 1)), shape)
        found.append(walk.gather(walk.group(rows, core, members), member))
    if b.depends is not None:
        which = np.broadcast_to(columns, shape)
        rows = walk.gather(b.depends, np.broadcast_to(b.positions, shape))
        found.append(walk.gather(walk.group(rows, which, members * m), which))
    return [Carried(shape, walk.union(found))]


def convolves(walk: AbstractWalk, node: Apply, inputs: Sequence[Carried]) -> list[Carried]:
    """A convolution: the entries whose distances match."""
    a, b, full = inputs
    if not full.is_fixed:
        return everything(walk, node, inputs)
    mode: Any = "full" if full.value else "valid"
    (n,), (m,) = a.shape, b.shape
    start = 0 if full.value else min(n, m) - 1
    size = len(np.convolve(np.ones(n), np.ones(m), mode))
    i, j = (x.ravel() for x in np.indices((n, m)))
    to = i + j - start
    inside = (to >= 0) & (to < size)
    found = []
    for x, at, other, there in ((a, i, b, j), (b, j, a, i)):
        counts = inside
        if other.zeros is not None:
            counts = inside & ~other.zeros[there]
        found.append(walk.group(walk.gather(x.depends, at[counts]), to[counts], size))
    return [Carried((size,), walk.union(found))]
