"""Where a graph stops to be affine in some entries of a vector."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytensor.compile.ops import DeepCopyOp, ViewOp
from pytensor.graph.basic import Apply, Constant
from pytensor.graph.traversal import io_toposort
from pytensor.raise_op import CheckAndRaise
from pytensor.scalar import basic as scalars
from pytensor.tensor.basic import (
    Alloc,
    ExtractDiag,
    Join,
    MakeVector,
    ScalarFromTensor,
    Split,
    TensorFromScalar,
)
from pytensor.tensor.elemwise import CAReduce, DimShuffle, Elemwise
from pytensor.tensor.extra_ops import CumOp, Repeat
from pytensor.tensor.math import Dot
from pytensor.tensor.reshape import JoinDims, SplitDims
from pytensor.tensor.shape import Reshape, Shape, Shape_i, SpecifyShape
from pytensor.tensor.subtensor import (
    AdvancedIncSubtensor,
    AdvancedSubtensor,
    IncSubtensor,
    Subtensor,
    indices_from_subtensor,
)
from pytensor.tensor.variable import TensorVariable

from pmflow.graphs.sparsity_rows import is_discrete

__all__ = ["affine_ends", "affine_sums", "is_affine"]


class _By(IntEnum):
    """How a variable depends on the entries."""

    NOT = 0
    AFFINE = 1
    ANYHOW = 2


_NOT, _AFFINE, _ANYHOW = _By.NOT, _By.AFFINE, _By.ANYHOW

type Rule = Callable[[Any, Sequence[_By]], _By]


def affine_ends(
    z: TensorVariable, value: TensorVariable, is_free: NDArray[np.bool_]
) -> list[TensorVariable]:
    """The variables of a graph that are affine in some entries, used by what is not.

    Parameters
    ----------
    z : TensorVariable, shape (dim,)
    value : TensorVariable, shape ()
        A graph of `z`.
    is_free : ndarray of bool, shape (dim,)
        The entries that count; the others are held.

    Returns
    -------
    list of TensorVariable
        Given them and the entries that are held, `value` is affine in the free ones: whatever
        curves it comes after them. An Op that is not known to be affine counts as if it were not.
    """
    ends: dict[TensorVariable, None] = {}
    for node, given, found in _walk(z, value, is_free):
        if found is _ANYHOW:
            ends |= {x: None for x, how in zip(node.inputs, given, strict=True) if how is _AFFINE}
    return list(ends)


def is_affine(z: TensorVariable, variable: TensorVariable) -> bool:
    """Whether a graph of a vector is known to be affine in all of it."""
    is_free = np.ones(z.type.shape, dtype=bool)
    return all(found is not _ANYHOW for *_, found in _walk(z, variable, is_free))


def affine_sums(z: TensorVariable, value: TensorVariable) -> list[TensorVariable]:
    """The sums and products of matrices in a graph that are affine in a vector.

    Sums of what is summed up already are left out.

    Parameters
    ----------
    z : TensorVariable, shape (dim,)
    value : TensorVariable, shape ()
        A graph of `z`.
    """
    is_free = np.ones(z.type.shape, dtype=bool)
    summed: set[TensorVariable] = set()
    sums = []
    for node, _, found in _walk(z, value, is_free):
        is_summed = not summed.isdisjoint(node.inputs)
        is_sum = isinstance(getattr(node.op, "core_op", node.op), CAReduce | Dot)
        if is_sum and not is_summed and found is _AFFINE:
            sums.append(node.outputs[0])
        if is_sum or is_summed:
            summed.update(node.outputs)
    return sums


def _walk(
    z: TensorVariable, value: TensorVariable, is_free: NDArray[np.bool_]
) -> Iterator[tuple[Apply, list[_By], _By]]:
    """The nodes from `z` to `value`, how their inputs depend on it, and how their outputs do."""
    by: dict[Any, _By] = {z: _AFFINE}
    for node in io_toposort([z], [value]):
        given = [by.get(x, _NOT) for x in node.inputs]
        found = _of_outputs(node, given, z, is_free)
        by.update(dict.fromkeys(node.outputs, found))
        yield node, given, found


def _of_outputs(
    node: Apply, given: Sequence[_By], z: TensorVariable, is_free: NDArray[np.bool_]
) -> _By:
    largest = max(given, default=_NOT)
    if largest is not _AFFINE:
        return largest
    op = getattr(node.op, "core_op", node.op)
    if isinstance(op, Shape | Shape_i):
        return _NOT
    if isinstance(op, Subtensor) and node.inputs[0] is z:
        return _of_piece(node, is_free)
    rule = next((_RULES[kind] for kind in type(op).__mro__ if kind in _RULES), None)
    if rule is None or all(is_discrete(x) for x in node.outputs):
        return _ANYHOW
    return rule(op, given)


def _of_piece(node: Apply, is_free: NDArray[np.bool_]) -> _By:
    """That of some entries of the vector itself."""
    if not all(isinstance(x, Constant) for x in node.inputs[1:]):
        return _AFFINE
    values = [x.data for x in node.inputs[1:]]
    index = indices_from_subtensor(values, node.op.idx_list)
    return _AFFINE if np.any(is_free[tuple(index)]) else _NOT


def _moves(_: Any, given: Sequence[_By]) -> _By:
    """What the first input is, the others being places and lengths."""
    return _ANYHOW if any(given[1:]) else given[0]


def _joins(_: Any, given: Sequence[_By]) -> _By:
    return max(given)


def _multiplies(_: Any, given: Sequence[_By]) -> _By:
    return _AFFINE if sum(how is _AFFINE for how in given) == 1 else _ANYHOW


def _puts(_: Any, given: Sequence[_By]) -> _By:
    return _ANYHOW if any(given[2:]) else max(given[:2])


def _sums(op: Any, given: Sequence[_By]) -> _By:
    return given[0] if isinstance(op.scalar_op, scalars.Add) else _ANYHOW


def _accumulates(op: Any, given: Sequence[_By]) -> _By:
    return given[0] if op.mode == "add" else _ANYHOW


def _switches(_: Any, given: Sequence[_By]) -> _By:
    return _ANYHOW if given[0] else max(given)


def _fills(_: Any, given: Sequence[_By]) -> _By:
    return given[1]


def _elementwise(op: Any, given: Sequence[_By]) -> _By:
    rule = _OF_NUMBERS.get(type(op.scalar_op))
    return _ANYHOW if rule is None else rule(op, given)


_OF_NUMBERS: dict[type, Rule] = {
    scalars.Add: _joins,
    scalars.Sub: _joins,
    scalars.Neg: _joins,
    scalars.Identity: _joins,
    scalars.Cast: _joins,
    scalars.Mul: _multiplies,
    scalars.TrueDiv: _moves,
    scalars.Switch: _switches,
    scalars.Second: _fills,
}

_RULES: dict[type, Rule] = {
    Elemwise: _elementwise,
    CAReduce: _sums,
    CumOp: _accumulates,
    Dot: _multiplies,
    DimShuffle: _moves,
    Reshape: _moves,
    JoinDims: _moves,
    SplitDims: _moves,
    Subtensor: _moves,
    AdvancedSubtensor: _moves,
    Alloc: _moves,
    Repeat: _moves,
    Split: _moves,
    ExtractDiag: _moves,
    SpecifyShape: _moves,
    CheckAndRaise: _moves,
    DeepCopyOp: _moves,
    ViewOp: _moves,
    TensorFromScalar: _moves,
    ScalarFromTensor: _moves,
    MakeVector: _joins,
    Join: _joins,
    IncSubtensor: _puts,
    AdvancedIncSubtensor: _puts,
}
