"""Evaluating a graph a few times: vectorised over draws, without compiling machine code.

Training runs a graph a hundred thousand times and pays for a compiler. Drawing, scoring points and
moments run a graph once or twice on large arrays, where NumPy is as fast and starts at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import pymc as pm
import pytensor
import pytensor.tensor as pt
from pytensor.compile.builders import OpFromGraph
from pytensor.compile.mode import FAST_COMPILE, Mode
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.op import HasInnerGraph
from pytensor.graph.replace import vectorize_graph
from pytensor.graph.rewriting.basic import in2out, node_rewriter, out2in
from pytensor.graph.traversal import applys_between, io_toposort, truncated_graph_inputs
from pytensor.scan.op import Scan
from pytensor.tensor.basic import Join
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.type import TensorType
from pytensor.tensor.variable import TensorVariable

from pmflow.graphs.batched_scan import open_batched_scans
from pmflow.graphs.workarounds.batched_joins import open_batched_joins
from pmflow.graphs.workarounds.elementwise import (
    products_without_zeros,
    run_as_arrays,
    split_long_sums,
)
from pmflow.graphs.workarounds.failures import failures_as_details
from pmflow.graphs.workarounds.narrow_indices import widen_indices
from pmflow.graphs.workarounds.structure import without_search_for_structure

__all__ = [
    "GLOBAL_STATE",
    "NotVectorizedError",
    "changed_flags",
    "compile_once",
    "for_numpy",
    "made_anew",
    "opened",
    "ready_to_compile",
    "static_input",
    "vectorize_over_draws",
    "while_compiling",
    "with_static_shape",
    "without_notes",
]

GLOBAL_STATE = threading.RLock()
"""Held by the thread that changes, for a while, what all threads share."""

type Rewrites = Literal["all", "values", "none"]

_MODES: dict[Rewrites, Mode] = {
    "all": FAST_COMPILE,
    "values": FAST_COMPILE.excluding("inplace", "ShapeOpt"),
    "none": Mode("py", optimizer="minimum_compile").excluding("inplace"),
}


class NotVectorizedError(Exception):
    """Part of a graph can't be batched; the message names the Op."""


@node_rewriter([Blockwise])
def _open_batched_graphs(fgraph: Any, node: Apply) -> list[Variable] | None:
    """A batch of a graph as a graph of batches: NumPy's loops in place of one over draws.

    Ops such as PyTensor's LogAddExp are graphs of their own, and batched they would be called once
    a draw.
    """
    return opened(node)


def opened(node: Apply) -> list[Variable] | None:
    """The graph that an Op is, batched where the Op is; None for Ops that are no graphs."""
    op = getattr(node.op, "core_op", node.op)
    if not isinstance(op, OpFromGraph):
        return None
    inner = op.fgraph.unfreeze()  # its own nodes can't be part of another graph
    inputs = dict(zip(inner.inputs, node.inputs, strict=True))
    return list(vectorize_graph(inner.outputs, inputs))


def for_numpy(mode: Mode) -> Mode:
    """A mode that runs in Python, made of NumPy's loops, with sums short enough for them."""
    return without_search_for_structure(mode.excluding("fusion")).register(
        (in2out(_open_batched_graphs, name="open_batched_graphs"), 0),
        # before what is common is merged and constants are folded
        (out2in(products_without_zeros, name="products_without_zeros"), 0.2),
        # last, so that no other rewrite undoes it
        (out2in(split_long_sums, name="split_long_sums"), 1000),
        (out2in(run_as_arrays, name="run_as_arrays"), 1001),
    )


@contextmanager
def changed_flags(**flags: Any) -> Iterator[None]:
    """PyTensor's flags, changed for a while by one thread at a time.

    Flags belong to the process: of two threads that change one at once, the second would take the
    changed value for the one to go back to, and leave it behind.
    """
    with GLOBAL_STATE, pytensor.config.change_flags(**flags):
        yield


@contextmanager
def while_compiling(**flags: Any) -> Iterator[None]:
    """PyTensor's flags for compiling: it notes no places, and does not print what it can't do."""
    with changed_flags(traceback__limit=0, **flags), failures_as_details():
        yield


def with_static_shape(variable: Any) -> Any:
    """A shared variable in the shape of its value, others as they are."""
    if not isinstance(variable.type, TensorType) or None not in variable.type.shape:
        return variable
    return pt.specify_shape(variable, variable.get_value(borrow=True).shape)


def static_input(shared: Any) -> Any:
    """An input in the place of a shared variable, in the shape of its value."""
    if not isinstance(shared.type, TensorType):
        return shared.type()
    return shared.type.clone(shape=shared.get_value(borrow=True).shape)()


def made_anew(inputs: Sequence[Variable], outputs: Sequence[Variable]) -> list[Variable]:
    """The outputs, of nodes that have seen their inputs: what follows of shapes is known then.

    Where inputs of known shape take the place of others, PyTensor keeps the nodes behind them as
    they are, and its rewrites work each shape out for each node: half of their time.
    """
    new: dict[Variable, Variable] = {}
    for node in io_toposort(list(inputs), list(outputs)):
        made = node.op.make_node(*(new.get(x, x) for x in node.inputs))
        new.update(zip(node.outputs, made.outputs, strict=True))
    return [new.get(x, x) for x in outputs]


def without_notes(graphs: Sequence[Variable]) -> list[Variable]:
    """Copies that do not say where each node was made; inner graphs of Ops lose their notes too.

    Rewrites add these lists up, and one that meets its own result (a switch between a constant and
    the same constant) triples its list each time, until memory is full.
    """
    fgraph = FunctionGraph(outputs=list(graphs), clone=True, copy_inputs=False)
    _remove_notes(fgraph)
    return list(fgraph.outputs)


def ready_to_compile(graphs: Sequence[Variable]) -> list[Variable]:
    """Copies without what PyTensor's rewrites stumble over: notes, and indices of few bits."""
    fgraph = FunctionGraph(outputs=without_notes(graphs), clone=False)
    in2out(widen_indices, name="widen_indices").rewrite(fgraph)
    return list(fgraph.outputs)


def _remove_notes(fgraph: Any) -> None:
    for variable in fgraph.variables:
        variable.tag.trace = []
    for node in fgraph.apply_nodes:
        op = getattr(node.op, "core_op", node.op)
        if isinstance(op, HasInnerGraph):  # becomes part of the graph around it
            _remove_notes(op.fgraph)


def compile_once(
    inputs: Sequence[Variable],
    outputs: Sequence[Variable],
    *,
    rewrites: Rewrites = "all",
    **kwargs: object,
) -> Callable[..., Any]:
    """Compile for NumPy: starts in a fraction of a second, runs at NumPy's speed.

    Parameters
    ----------
    inputs, outputs : sequence of Variable
        As for `pymc.compile`.
    rewrites : {"all", "values", "none"}
        Which of PyTensor's are made. ``values`` leaves out those that tell a shape without
        computing what has it, a third of the time. ``none`` leaves out all for stability and
        speed, nine tenths of the time: for graphs of layers, which are stable as they are written.
    **kwargs
        Passed on to `pymc.compile`.
    """
    # without a C++ compiler set, the inner functions of scans stay in Python too
    with while_compiling(cxx=""):
        mode = for_numpy(_MODES[rewrites])
        return pm.compile(list(inputs), ready_to_compile(outputs), mode=mode, **kwargs)


def vectorize_over_draws(
    nodes: Sequence[TensorVariable], draws: Mapping[TensorVariable, TensorVariable]
) -> list[TensorVariable]:
    """Batch graphs of one point into graphs of many.

    Parameters
    ----------
    nodes : sequence of TensorVariable
        Graphs of the keys of `draws`.
    draws : mapping of TensorVariable to TensorVariable
        Each variable and what replaces it, with one more leading axis.

    Returns
    -------
    list of TensorVariable
        With a leading axis, also where a node depends on no key.

    Raises
    ------
    NotVectorizedError
        If an Op on the way can't be batched.
    """
    try:
        with changed_flags(traceback__limit=0):
            batched = vectorize_graph(list(nodes), dict(draws))
    except Exception as error:
        # PyTensor raises whatever an Op's make_node raises: there is no narrower class to catch
        raise NotVectorizedError(_culprit(nodes, draws)) from error
    ops = [getattr(node.op, "core_op", None) for node in applys_between([], batched)]
    if any(isinstance(op, Scan) and op.info.as_while for op in ops):
        # a batch of them fails where their lengths differ
        raise NotVectorizedError("a scan that ends on a condition")
    if any(isinstance(op, Scan | Join) for op in ops):
        # gradients taken from here on are those of what is done to whole batches
        graph = FunctionGraph(outputs=batched, clone=True, copy_inputs=False)
        for rewrite in (open_batched_scans, open_batched_joins):
            in2out(rewrite, name="open_batches").rewrite(graph)
        batched = list(graph.outputs)
    size = next(iter(draws.values())).shape[0]
    return [
        new if new.ndim > old.ndim else pt.broadcast_to(new, (size, *old.shape))
        for old, new in zip(nodes, batched, strict=True)
    ]


def _culprit(
    nodes: Sequence[TensorVariable], draws: Mapping[TensorVariable, TensorVariable]
) -> str:
    """Name the first Op that `vectorize_graph` refuses, trying them one by one."""
    order = io_toposort(truncated_graph_inputs(list(nodes), list(draws)), list(nodes))
    depends = set(draws)
    for node in order:
        inputs = [x for x in node.inputs if x in depends]
        if not inputs:
            continue
        depends.update(node.outputs)
        batched = {}
        for x in inputs:
            if not isinstance(x, TensorVariable):
                return str(node.op)
            batched[x] = pt.tensor(dtype=x.dtype, shape=(None, *x.type.shape))
        try:
            vectorize_graph(list(node.outputs), batched)
        except Exception:
            return str(node.op)
    return "in the graph"
