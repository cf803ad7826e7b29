"""`SparseTriangle` for JAX: what does not wait for each other, all at once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmflow.flows.kernels.sparse_triangle import SparseTriangle

__all__ = ["register"]

type Integers = NDArray[np.int64]


def register() -> None:
    """Tell PyTensor."""
    from pytensor.link.jax.dispatch import jax_funcify

    jax_funcify.register(SparseTriangle)(_funcify)


def _funcify(op: SparseTriangle, node: Any = None, **kwargs: Any) -> Any:
    rows, columns = (np.asarray(v.data) for v in node.inputs[2:])
    out, into = (columns, rows) if op.transposed else (rows, columns)
    if not op.solves:
        return lambda entries, x, *_: x.at[out].add(entries[:, None] * x[into])
    pieces = solving_pieces(out, into, forwards=not op.transposed)

    def solve(entries: Any, x: Any, *_: Any) -> Any:
        import jax.numpy as jnp
        from jax import lax

        padded = jnp.append(entries, jnp.zeros(1, entries.dtype))
        outs, intos = (np.append(places, 0) for places in (out, into))

        def step(found: Any, piece: Any) -> Any:
            at, to, by = piece
            return found.at[to].add(-padded[at][:, None] * found[by]), None

        return lax.scan(step, x, (pieces, outs[pieces], intos[pieces]))[0]

    return solve


def solving_pieces(out: Integers, into: Integers, *, forwards: bool) -> Integers:
    """Entries in the order in which a system is solved, many at once: shape (pieces, length).

    What an entry adds to `out` waits until `into` is known. Entries that wait equally long are of
    one level; pieces of one length are cut from the levels, and the last of each is filled with
    the number of entries, which stands for none.

    Parameters
    ----------
    out, into : ndarray, shape (entries,)
    forwards : bool
        Whether the first entries are the first to be solved for.
    """
    if not len(out):
        return np.empty((0, 1), dtype=np.int64)
    levels = _levels(out, into, forwards=forwards)
    order = np.argsort(levels, kind="stable")
    ends = np.cumsum(np.bincount(levels))
    length = -(-len(out) // len(ends))  # so no more than half of the slots are empty
    pieces = [
        np.pad(part, (0, length - len(part)), constant_values=len(out))
        for begin, end in pairwise([0, *ends])
        for part in _parts(order[begin:end], length)
    ]
    return np.stack(pieces)


def _parts(places: Integers, length: int) -> Iterator[Integers]:
    return (places[at : at + length] for at in range(0, len(places), length))


def _levels(out: Integers, into: Integers, *, forwards: bool) -> Integers:
    """How many others each entry waits for, one after the other."""
    known: dict[int, int] = {}
    found = np.empty(len(out), dtype=np.int64)
    for at in range(len(out)) if forwards else reversed(range(len(out))):
        found[at] = known.get(int(into[at]), 0)
        known[int(out[at])] = max(known.get(int(out[at]), 0), int(found[at]) + 1)
    return found
