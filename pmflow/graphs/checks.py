"""Checks of parameters in a graph of a log density."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pymc.logprob.utils import CheckParameterValue
from pytensor.graph.basic import Variable
from pytensor.graph.traversal import io_toposort
from pytensor.scalar.basic import Switch
from pytensor.tensor.basic import get_underlying_scalar_constant_value
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.exceptions import NotScalarConstantError

from pmflow.graphs.labelled import as_plain

__all__ = ["checks_as_values", "without_checks"]


def checks_as_values(nodes: Sequence[Variable], *, check_bounds: bool = True) -> list[Variable]:
    """Graphs of one point in which a parameter out of range gives a log density of -inf.

    To be done before a graph is batched: a check of a batch fails, or is -inf, for all draws at
    once if one of them is out of range. Labelled arrays become plain ones before.

    Parameters
    ----------
    nodes : sequence of Variable
    check_bounds : bool
        False leaves the checks out, as `pymc.Model` with ``check_bounds=False`` asks for.
    """

    def as_value(node: Any, inputs: Sequence[Variable]) -> Variable | None:
        if not (isinstance(node.op, CheckParameterValue) and node.op.can_be_replaced_by_ninf):
            return None
        value, *conditions = inputs
        if check_bounds:
            value = pt.switch(pt.all([pt.all(c) for c in conditions]), value, -np.inf)
        return value.astype(node.outputs[0].dtype)

    return _changed(as_plain(nodes), as_value)


def without_checks(nodes: Sequence[Variable]) -> list[Variable]:
    """Graphs that go on smoothly where a check or the end of a support gives -inf.

    Where the log density is finite they are the same, with the same derivatives.
    """
    return _changed(nodes, lambda node, inputs: inputs[1] if _gives_up(node) else None)


def _changed(
    nodes: Sequence[Variable],
    change: Callable[[Any, Sequence[Variable]], Variable | None],
) -> list[Variable]:
    """Graphs with another variable for the output of some nodes, given their new inputs."""
    new: dict[Variable, Variable] = {}
    for node in io_toposort([], list(nodes)):
        inputs = [new.get(x, x) for x in node.inputs]
        found = change(node, inputs)
        if found is not None:
            new[node.outputs[0]] = found
        elif any(x is not old for x, old in zip(inputs, node.inputs, strict=True)):
            copy = node.clone_with_new_inputs(inputs)
            new.update(zip(node.outputs, copy.outputs, strict=True))
    return [new.get(x, x) for x in nodes]


def _gives_up(node: Any) -> bool:
    """Whether a node is a choice between a value and -inf, of the value's shape."""
    if not (isinstance(node.op, Elemwise) and isinstance(node.op.scalar_op, Switch)):
        return False
    _, value, other = node.inputs
    if value.type.broadcastable != node.outputs[0].type.broadcastable:
        return False
    try:
        return bool(get_underlying_scalar_constant_value(other) == -np.inf)
    except NotScalarConstantError:
        return False
