"""Parts of a graph that do not depend on its inputs, evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytensor.graph.basic import Constant, Variable
from pytensor.graph.replace import clone_replace
from pytensor.graph.traversal import io_toposort

from pmflow.graphs.evaluate import compile_once

__all__ = ["settled"]


def settled(outputs: Sequence[Variable], inputs: Sequence[Variable]) -> list[Variable]:
    """The same graphs with constants for what is made of constants and data alone.

    Basis functions at the places of the data, say. PyTensor evaluates what is made of constants,
    but data of a model may be set anew: the graphs keep what they are now.

    Parameters
    ----------
    outputs, inputs : sequence of Variable
    """
    depends, ends = set(inputs), []
    for node in io_toposort([], outputs):
        if any(x in depends for x in node.inputs):
            depends.update(node.outputs)
            ends += [x for x in node.inputs if x.owner and x not in depends]
    ends += [x for x in outputs if x.owner and x not in depends]
    ends = list(dict.fromkeys(ends))
    if not ends:
        return list(outputs)
    values = compile_once([], ends, rewrites="values", random_seed=False)()
    known: dict[Any, Any] = {
        end: _constant(end, value) for end, value in zip(ends, values, strict=True)
    }
    return list(clone_replace(list(outputs), known, rebuild_strict=False))


def _constant(variable: Any, value: Any) -> Constant:
    made: Constant = variable.type.make_constant(value)
    return made
