"""How much a graph computes, as far as it can be told before it is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from pytensor.compile.ops import FromFunctionOp
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.op import HasInnerGraph
from pytensor.graph.traversal import ancestors, io_toposort
from pytensor.scalar.loop import ScalarLoop
from pytensor.scalar.math import Hyp2F1
from pytensor.scan.op import Scan
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.math import Dot

__all__ = ["calls_in", "data_size", "has_loops", "numbers_in", "numbers_of", "rows_at_once"]

_NUMBERS_AT_ONCE = 2**22
"""Points times the longest data array of one call: memory stays bounded, and a call short.

How points are divided is the same on a fast and on a slow machine, because a product of matrices
is rounded otherwise where it has other rows.
"""

_CALL = 5_000
"""Numbers that NumPy adds up in the time that a call from Python takes."""


_OPAQUE = 2_000_000
"""Numbers that count for an Op of somebody's own, such as a solver of differential equations: they
take some milliseconds, and sizes of arguments say nothing."""
_OF_PYTENSOR = ("pytensor", "pymc", "pymc_extras", "pmflow")
"""Packages whose Ops are not opaque."""

_TERMS = 500
"""Operations for a single number of a series: a hundred terms of five each."""


def numbers_in(graphs: Sequence[Variable]) -> int:
    """How many numbers a graph goes through: the sizes of what its Ops take and give, added up.

    A scan counts once a step, a product of matrices by its products. Where a shape is not known
    before it is run, a result is taken for as large as the largest of what it came from. What
    depends on constants alone counts nothing: it is computed as the graph is compiled.
    """
    return numbers_of(_computed(graphs))


def numbers_of(nodes: Sequence[Apply]) -> int:
    """The same of some nodes, in their order."""
    return _numbers(nodes, {})


def _computed(graphs: Sequence[Variable]) -> list[Apply]:
    """The nodes that depend on more than constants, in their order."""
    found: dict[Apply, None] = {}
    for node in io_toposort([], list(graphs)):
        if any(_varies(x, found) for x in node.inputs):
            found[node] = None
    return list(found)


def _varies(variable: Variable, computed: Mapping[Apply, None]) -> bool:
    if variable.owner is None:
        return not isinstance(variable, Constant)
    return variable.owner in computed


def calls_in(graphs: Sequence[Variable]) -> int:
    """How often an Op is called in the steps of a graph's scans, all together."""
    scans = [node for node in io_toposort([], list(graphs)) if isinstance(node.op, Scan)]
    return sum(_steps(node) * len(node.op.fgraph.apply_nodes) for node in scans)


def has_loops(graphs: Sequence[Variable]) -> bool:
    """Whether a function of single numbers, such as a hypergeometric one, is a loop."""
    return any(_is_loop(getattr(node.op, "core_op", node.op)) for node in _computed(graphs))


def _is_loop(op: Any) -> bool:
    return isinstance(getattr(op, "scalar_op", None), ScalarLoop | Hyp2F1)


def _is_opaque(op: Any) -> bool:
    """Whether an Op is Python that nobody can look into."""
    module = type(op).__module__
    is_known = module.split(".")[0] in _OF_PYTENSOR and not module.startswith("pymc.ode")
    return isinstance(op, FromFunctionOp) or not is_known


def _numbers(nodes: Sequence[Apply], sizes: dict[Variable, int]) -> int:
    total = 0
    for node in nodes:
        given = [_size(x, sizes) for x in node.inputs]
        largest = max(given, default=1)
        for out in node.outputs:
            sizes[out] = _static_size(out) or largest
        work = max([largest, *(sizes[out] for out in node.outputs)])
        op = getattr(node.op, "core_op", node.op)
        if isinstance(op, Scan):
            work = _steps(node) * _numbers(op.fgraph.toposort(), {})
        elif _is_loop(op):
            work *= _TERMS
        elif _is_opaque(op):
            work = max(work, _OPAQUE)
        elif isinstance(op, HasInnerGraph):
            inner = dict(zip(op.fgraph.inputs, given, strict=False))
            work = _numbers(op.fgraph.toposort(), inner)
        elif isinstance(op, Dot):
            work = max(work, _products(node, given))
        elif isinstance(node.op, Blockwise):  # linear algebra, a call for each matrix
            work = round(work**1.5) + _CALL
        total += work
    return total


def _steps(node: Apply) -> int:
    steps = node.inputs[0]
    if isinstance(steps, Constant):
        return max(1, int(steps.data))
    lengths = [x.type.shape[0] for x in node.inputs[1 : 1 + node.op.info.n_seqs]]
    return max((n for n in lengths if n), default=1)


def _products(node: Apply, given: Sequence[int]) -> int:
    """How many products of two numbers a product of matrices adds up."""
    left, right = (x.type.shape for x in node.inputs)
    length = next((n for n in (*left[-1:], *right[-2:-1], *right[:1]) if n), 1)  # summed over
    out = _static_size(node.outputs[0])
    return prod(sorted(given)[-2:]) // length if out is None else out * length


def data_size(variable: Variable) -> int | None:
    """How many numbers a shared variable or a constant holds, None for what is computed."""
    if isinstance(variable, SharedVariable):
        return int(np.size(variable.get_value(borrow=True)))
    return int(np.size(variable.data)) if isinstance(variable, Constant) else None


def _size(variable: Variable, sizes: dict[Variable, int]) -> int:
    held = data_size(variable)
    return (sizes.get(variable) or _static_size(variable) or 1) if held is None else held


def _static_size(variable: Variable) -> int | None:
    """None where it is not known."""
    shape = getattr(variable.type, "shape", ())
    return None if None in shape else prod(shape)


def rows_at_once(graphs: Sequence[Variable], dim: int) -> int:
    """How many points to evaluate a graph at in one call, given the longest data in it."""
    longest = max((data_size(v) or 1 for v in ancestors(list(graphs))), default=1)
    return max(1, _NUMBERS_AT_ONCE // max(longest, dim))
