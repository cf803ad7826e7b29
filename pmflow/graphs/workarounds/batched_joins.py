"""A batch of joins as one join of batches.

PyTensor 3.3.8 batches ``concatenate([[0.0], x])``, of which only one part has the axis of the
batch, by a loop in Python over its members, and the gradient of it too.

This can go when `vectorize_join` of PyTensor broadcasts the axes of the batch.
"""

from __future__ import annotations

from typing import Any

import pytensor.tensor as pt
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.rewriting.basic import node_rewriter
from pytensor.tensor.basic import Join
from pytensor.tensor.blockwise import Blockwise

__all__ = ["open_batched_joins"]


@node_rewriter([Blockwise])
def open_batched_joins(fgraph: Any, node: Apply) -> list[Variable] | None:
    """Join arrays that all have the axes of the batch, along the axis after these."""
    op, batch = node.op.core_op, node.op.batch_ndim(node)
    if not isinstance(op, Join):
        return None
    lengths = [_length(node.inputs, axis) for axis in range(batch)]
    return [Join(op.axis + batch)(*(_along(x, lengths) for x in node.inputs))]


def _length(arrays: list[Any], axis: int) -> Any:
    """How long an axis is, by the first array that is not broadcast along it."""
    known = [x for x in arrays if not x.type.broadcastable[axis]]
    return (known or arrays)[0].shape[axis]


def _along(array: Any, lengths: list[Any]) -> Any:
    """An array with axes of the batch of these lengths."""
    if not any(array.type.broadcastable[: len(lengths)]):
        return array
    inner = [array.shape[axis] for axis in range(len(lengths), array.type.ndim)]
    return pt.alloc(array, *lengths, *inner)
