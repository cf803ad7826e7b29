"""A batch of lookups in one array as one lookup.

PyTensor batches ``effect[group]``, where ``group`` has one more axis, by looking up each row of it.
Its derivative then is an array of effects for each row, and which of them meet is not seen.
"""

from __future__ import annotations

from typing import Any

from pytensor.graph.basic import Apply, Variable
from pytensor.graph.rewriting.basic import node_rewriter
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.subtensor import AdvancedSubtensor

__all__ = ["open_batched_indices"]


@node_rewriter([Blockwise])
def open_batched_indices(fgraph: Any, node: Apply) -> list[Variable] | None:
    """Index an array that is the same for the whole batch by indices of more axes.

    Where the indices are of the first axes, so that the axes of the batch come first in either.
    """
    op = node.op.core_op
    if not isinstance(op, AdvancedSubtensor):
        return None
    if list(op.idx_list) != list(range(len(op.idx_list))):
        return None
    array, *indices = node.inputs
    batch = node.op.batch_ndim(node)
    if not all(array.type.broadcastable[:batch]) or array.type.ndim <= batch:
        return None
    (found,) = op.make_node(array.squeeze(axis=tuple(range(batch))), *indices).outputs
    if found.type.ndim != node.outputs[0].type.ndim:
        return None
    return [found]
