"""Parts of a graph that do not depend on its inputs, evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor
from numpy.typing import NDArray
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.op import HasInnerGraph
from pytensor.graph.replace import clone_replace
from pytensor.graph.traversal import io_toposort
from pytensor.tensor.random.type import RandomGeneratorType
from pytensor.tensor.type import TensorType

from pmflow.graphs.evaluate import compile_once, static_input
from pmflow.graphs.work import numbers_of

__all__ = ["data_of", "held", "numbers_settled", "settled", "settling", "value_of"]

_FEW = 1_000
"""Numbers of an array that may be a constant: a backend may compile it into its code."""


def settled(outputs: Sequence[Variable], inputs: Sequence[Variable]) -> list[Variable]:
    """The same graphs with values for what is made of constants and data alone.

    Basis functions at the places of the data, say, or the eigenvalues of a map. The values are
    those of the data as they are now.

    Parameters
    ----------
    outputs, inputs : sequence of Variable
    """
    known = {x for node in settling(outputs, inputs) for x in node.outputs}
    others = (x for x in io_toposort([], list(outputs)) if x.outputs[0] not in known)
    read = (x for node in others for x in node.inputs)
    ends = dict.fromkeys(x for x in (*read, *outputs) if x in known)
    made = [x for x in ends if isinstance(x.type, TensorType)]
    if not made:
        return list(outputs)
    values = compile_once([], made, rewrites="values", random_seed=False)()
    known_now: dict[Any, Any] = dict(zip(made, map(held, made, values), strict=True))
    return list(clone_replace(list(outputs), known_now, rebuild_strict=False))


def settling(outputs: Sequence[Variable], inputs: Sequence[Variable]) -> list[Apply]:
    """The nodes that `settled` leaves out."""
    depends, found = set(inputs), []
    for node in io_toposort([], list(outputs)):
        if any(x in depends or _is_random(x) for x in node.inputs):
            depends.update(node.outputs)
        else:
            found.append(node)
    return found


def numbers_settled(nodes: Sequence[Apply]) -> int:
    """How many numbers they go through, see `pmflow.graphs.work`: by the shapes of the data."""
    new: dict[Variable, Variable] = {x: static_input(x) for x in data_of(nodes)}
    made = []
    for node in nodes:
        inputs = (new.get(x, x) for x in node.inputs)
        known = node if isinstance(node.op, HasInnerGraph) else node.op.make_node(*inputs)
        new.update(zip(node.outputs, known.outputs, strict=True))
        made.append(known)
    return numbers_of(made)


def data_of(nodes: Sequence[Apply]) -> list[SharedVariable]:
    """The data that these nodes read."""
    every = (x for node in nodes for x in node.inputs if isinstance(x, SharedVariable))
    return list(dict.fromkeys(every))


def _is_random(variable: Variable) -> bool:
    return isinstance(variable.type, RandomGeneratorType)


def value_of(data: Any) -> NDArray[Any]:
    """What a constant or shared data hold, not copied."""
    return np.asarray(data.data if isinstance(data, Constant) else data.get_value(borrow=True))


def held(variable: Any, value: Any) -> Variable:
    """A value in the place of a variable: a constant, or shared where a backend would copy it."""
    if np.size(value) <= _FEW:
        constant: Constant = variable.type.make_constant(value)
        return constant
    shared: SharedVariable = pytensor.shared(value, shape=np.shape(value))
    return shared
