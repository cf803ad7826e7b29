"""Constant indices as 64-bit integers.

PyMC writes the first step of a random walk as an entry with an index of eight bits. PyTensor 3.3.8
adds the position of a slice to such an index as it merges both, which overflows from 128 steps on:
it goes on without the merge, but prints "Rewrite failure due to: local_subtensor_merge_slice" and a
traceback for each.

This can go when `merge_two_slices` of PyTensor computes with Python's integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.rewriting.basic import node_rewriter
from pytensor.scalar.basic import ScalarConstant, int64
from pytensor.tensor.basic import ScalarFromTensor
from pytensor.tensor.subtensor import IncSubtensor, Subtensor

__all__ = ["widen_indices"]


@node_rewriter([Subtensor, IncSubtensor])
def widen_indices(fgraph: Any, node: Apply) -> list[Variable] | None:
    """Give indices that are constants of few bits as many as others have."""
    first = 1 if isinstance(node.op, Subtensor) else 2
    given = node.inputs[first:]
    wide = [_wide(x) for x in given]
    if all(new is x for new, x in zip(wide, given, strict=True)):
        return None
    return list(node.op.make_node(*node.inputs[:first], *wide).outputs)


def _wide(index: Any) -> Variable:
    source = index
    if index.owner is not None and isinstance(index.owner.op, ScalarFromTensor):
        (source,) = index.owner.inputs
    if not isinstance(source, Constant) or source.type.dtype == "int64":
        return index
    return ScalarConstant(int64, np.int64(source.data))
