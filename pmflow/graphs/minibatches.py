"""Rows that `pm.Minibatch` draws: whether a graph has any, and where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pymc.data import MinibatchOp
from pymc.variational.minibatch_rv import MinibatchRandomVariable
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.traversal import ancestors
from pytensor.tensor.random.type import RandomType

from pmflow.graphs.taken_rows import TakenRows

__all__ = ["drawn_by", "generator_of", "has_minibatches", "in_minibatches", "minibatch_nodes"]


def minibatch_nodes(graphs: Sequence[Variable]) -> list[Apply]:
    """The nodes behind some graphs that draw rows, each once."""
    return _nodes(graphs, MinibatchOp)


def drawn_by(node: Apply) -> list[tuple[Any, Variable]]:
    """What a node draws rows from, data of a model or `Rows` kept elsewhere, and the rows."""
    parts = zip(node.inputs, node.op.inner_outputs, node.outputs, strict=True)
    return [
        (inner.owner.op.rows if isinstance(inner.owner.op, TakenRows) else given, drawn)
        for given, inner, drawn in parts
        if not isinstance(drawn.type, RandomType)
    ]


def generator_of(node: Apply) -> Variable:
    """The random generator that a node draws by."""
    (generator,) = [x for x in node.inputs if isinstance(x.type, RandomType)]
    return generator


def has_minibatches(graphs: Sequence[Variable]) -> bool:
    """Whether some graphs give another number for other rows."""
    return bool(minibatch_nodes(graphs))


def in_minibatches(model: Any) -> list[str]:
    """Names of a model's variables and potentials whose log density is that of some rows.

    ``total_size`` alone makes it one, whoever chose the rows.
    """
    return [
        variable.name
        for variable in (*model.basic_RVs, *model.potentials)
        if _nodes(_behind(model, variable), MinibatchOp, MinibatchRandomVariable)
    ]


def _behind(model: Any, variable: Variable) -> list[Variable]:
    value = model.rvs_to_values.get(variable)
    return [variable] if value is None else [variable, value]


def _nodes(graphs: Sequence[Variable], *kinds: type) -> list[Apply]:
    owners = dict.fromkeys(x.owner for x in ancestors(list(graphs)) if x.owner is not None)
    return [node for node in owners if isinstance(node.op, kinds)]
