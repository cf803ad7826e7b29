"""Labelled arrays, as `pymc.dims` writes them, and the plain ones that they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytensor.tensor as pt
from pytensor.compile.mode import optdb
from pytensor.compile.ops import ViewOp
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.rewriting.db import RewriteDatabaseQuery
from pytensor.graph.traversal import ancestors
from pytensor.tensor.basic import Alloc
from pytensor.tensor.shape import Shape
from pytensor.tensor.subtensor import Subtensor, get_idx_list
from pytensor.xtensor.type import XTensorType, as_xtensor

__all__ = ["as_plain", "of_its_kind", "without_dims"]

_REWRITES = ("lower_xtensor", "inline_ofg_expansion_xtensor")
"""PyTensor's own, with which it begins to compile any function."""


def as_plain(graphs: Sequence[Any]) -> list[Variable]:
    """The same graphs of plain arrays: no Op with dims can be batched over draws.

    Parameters
    ----------
    graphs : sequence of Variable
        Their inputs stay what they are.
    """
    are_made = (x.owner is not None or x in graphs for x in ancestors(graphs) if _is_labelled(x))
    if not any(are_made):  # data may stay so
        return list(graphs)
    plain = [without_dims(x) if _is_labelled(x) else x for x in graphs]
    graph = FunctionGraph(outputs=plain, clone=True, copy_inputs=False)
    for node in graph.toposort():
        # a name in the middle of a graph, as a deterministic has it, is no Op that can be lowered
        if isinstance(node.op, ViewOp) and _is_labelled(node.outputs[0]):
            graph.replace(node.outputs[0], node.inputs[0])
    optdb.query(RewriteDatabaseQuery(include=_REWRITES)).rewrite(graph)
    for node in graph.toposort():
        if _has_the_shape_already(node):  # batched, it would be a loop over draws
            graph.replace(node.outputs[0], node.inputs[0])
    return list(graph.outputs)


def without_dims(variable: Any) -> Any:
    """An array as a plain one."""
    return pt.as_tensor(variable, allow_xtensor_conversion=True)


def of_its_kind(value: Any, variable: Any) -> Any:
    """A plain array with the dims of a variable, where this has dims."""
    if not _is_labelled(variable):
        return value
    return as_xtensor(value, dims=variable.type.dims)


def _is_labelled(variable: Any) -> bool:
    return isinstance(variable.type, XTensorType)


def _has_the_shape_already(node: Apply) -> bool:
    """Whether an array is broadcast to its own shape."""
    if not isinstance(node.op, Alloc):
        return False
    value, *lengths = node.inputs
    return value.type == node.outputs[0].type and all(
        _is_length(length, value, axis) for axis, length in enumerate(lengths)
    )


def _is_length(length: Variable, array: Variable, axis: int) -> bool:
    found = length.owner
    if found is None or not isinstance(found.op, Subtensor):
        return False
    shape = found.inputs[0].owner
    is_shape = shape is not None and isinstance(shape.op, Shape) and shape.inputs[0] is array
    (place,) = get_idx_list(found.inputs, found.op.idx_list)
    return is_shape and getattr(place, "data", place) == axis
