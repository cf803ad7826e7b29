"""How elementwise Ops carry on what their inputs depend on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
import pytensor.scalar as ps
from numpy.typing import NDArray
from pytensor.graph.basic import Apply

from pmflow.graphs.sparsity_rows import AbstractWalk, Carried

__all__ = ["elementwise"]

_FLAT = (ps.Sign, ps.Floor, ps.Ceil, ps.RoundHalfToEven, ps.RoundHalfAwayFromZero, ps.Trunc)
"""Scalar Ops whose derivative is 0; integer division is one where its result is a float."""

_KEEP_ZEROS = (
    ps.Abs,
    ps.Add,
    ps.Cast,
    ps.Expm1,
    ps.Identity,
    ps.Log1p,
    ps.Neg,
    ps.Sin,
    ps.Sqr,
    ps.Sqrt,
    ps.Sub,
    ps.Tanh,
)
"""Scalar Ops that are 0 where all of their inputs are."""


def elementwise(walk: AbstractWalk, node: Apply, inputs: Sequence[Carried]) -> list[Carried]:
    """What any input depends on, entry by entry; nothing where a factor is 0 everywhere."""
    scalar_op = node.op.scalar_op
    shape = np.broadcast_shapes(*(x.shape for x in inputs))
    if isinstance(scalar_op, ps.Second):
        inputs = inputs[1:]
    if isinstance(scalar_op, ps.Switch) and inputs[0].is_fixed:
        return [_chosen(walk, shape, *inputs)]
    used = inputs[1:] if isinstance(scalar_op, ps.Switch) else inputs
    rows = None
    if not isinstance(scalar_op, _FLAT):
        rows = walk.union(walk.broadcast(x, shape) for x in used)
    if rows is not None and isinstance(scalar_op, ps.Pow) and inputs[1].zeros is not None:
        # to the power of 0 all is 1
        rows = walk.without(rows, np.broadcast_to(inputs[1].zeros, shape).ravel())
    zero = _zeros(scalar_op, used, shape)
    if zero is not None:
        rows = walk.without(rows, zero.ravel())
    return [Carried(shape, rows, zero=zero) for _ in node.outputs]


def _zeros(
    scalar_op: Any, inputs: Sequence[Carried], shape: tuple[int, ...]
) -> NDArray[np.bool_] | None:
    """Where the result is 0 because inputs are."""
    found = [None if x.zeros is None else np.broadcast_to(x.zeros, shape) for x in inputs]
    if isinstance(scalar_op, ps.Mul):
        return (
            reduce(np.logical_or, zeros) if (zeros := [x for x in found if x is not None]) else None
        )
    if isinstance(scalar_op, ps.TrueDiv):
        return found[0]
    if isinstance(scalar_op, (*_KEEP_ZEROS, ps.Second, ps.Switch)):
        zeros = [x for x in found if x is not None]
        return reduce(np.logical_and, zeros) if len(zeros) == len(found) else None
    return None


def _chosen(
    walk: AbstractWalk, shape: tuple[int, ...], condition: Carried, yes: Carried, no: Carried
) -> Carried:
    """One of two, by a condition that is the same everywhere."""
    is_true = np.broadcast_to(np.asarray(condition.value) != 0, shape)
    rows = [
        walk.without(walk.broadcast(yes, shape), ~is_true.ravel()),
        walk.without(walk.broadcast(no, shape), is_true.ravel()),
    ]
    zeros = [np.broadcast_to(False if x.zeros is None else x.zeros, shape) for x in (yes, no)]
    zero = np.where(is_true, *zeros)
    return Carried(shape, walk.union(rows), zero=zero if zero.any() else None)
