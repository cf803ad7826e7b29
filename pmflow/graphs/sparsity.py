"""Which entries of the Hessian of a log density can be other than 0, told from its graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, override

import numpy as np
import pytensor.tensor as pt
from pytensor.compile.builders import OpFromGraph
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.rewriting.basic import MergeOptimizer, out2in
from pytensor.graph.traversal import ancestors, io_toposort
from pytensor.scan.op import Scan
from pytensor.tensor.variable import TensorVariable
from scipy import sparse

from pmflow.graphs.evaluate import compile_once
from pmflow.graphs.sparsity_rows import AbstractWalk, Budget, Carried, UntoldError, is_discrete
from pmflow.graphs.sparsity_rules import perform, rule_for
from pmflow.graphs.workarounds.elementwise import run_as_arrays

__all__ = ["hessian_pattern", "jacobian_pattern"]

_MOST_ENTRIES = 200_000_000
"""About a gigabyte, and some seconds."""


def hessian_pattern(
    z: TensorVariable, value: TensorVariable, *, most: int = _MOST_ENTRIES
) -> sparse.csr_array | None:
    """The entries of a Hessian that can be other than 0 anywhere.

    What each entry of the gradient depends on is carried through its graph, Op by Op: never too
    little, at times too much. Data are taken as they are now: their zeros as factors and their
    values as indices count, so that the pattern is to be found anew after `pymc.set_data`.

    Parameters
    ----------
    z : TensorVariable, shape (dim,)
        Of static shape.
    value : TensorVariable, shape ()
        A graph of `z`, constants and shared variables.
    most : int
        How many entries may be processed, of all variables of the graph together.

    Returns
    -------
    csr_array of bool, shape (dim, dim), or None
        Symmetric, with its diagonal. None where it can't be told, or not within `most`: a scan
        that ends on a condition, a shape that depends on `z`, or too many entries.
    """
    gradient = pt.grad(value, z, disconnected_inputs="ignore")
    rows = jacobian_pattern(z, [gradient], most=most)
    if rows is None:
        return None
    one = sparse.eye_array(rows.shape[1], dtype=bool, format="csr")
    # both an entry and its mirror image may be too many, neither is too few
    both = (rows.multiply(rows.T) + one).tocsr()
    both.sort_indices()
    return both


def merged(variables: Sequence[TensorVariable]) -> FunctionGraph:
    """Graphs of the same inputs, in which what is computed twice is there once."""
    graph = FunctionGraph(outputs=list(variables), clone=True, copy_inputs=False)
    MergeOptimizer().rewrite(graph)
    return graph


def jacobian_pattern(
    z: TensorVariable, variables: Sequence[TensorVariable], *, most: int = _MOST_ENTRIES
) -> sparse.csr_array | None:
    """The entries of the Jacobian of some variables that can be other than 0 anywhere.

    Parameters
    ----------
    z : TensorVariable, shape (dim,)
        Of static shape.
    variables : sequence of TensorVariable
        Graphs of `z`, constants and shared variables.
    most : int
        As for `hessian_pattern`.

    Returns
    -------
    csr_array of bool, shape (entries of all variables, dim), or None
        The variables one after the other. None where it can't be told, or not within `most`.
    """
    (dim,) = z.type.shape
    graph = merged(variables)
    out2in(run_as_arrays, name="run_as_arrays").rewrite(graph)
    one = sparse.eye_array(dim, dtype=bool, format="csr")
    try:
        with np.errstate(all="ignore"):
            found = _Walk(dim, Budget(most), z).through([z], graph.outputs, [Carried((dim,), one)])
    except UntoldError:
        return None
    parts = [
        sparse.csr_array((x.size, dim), dtype=bool) if x.depends is None else x.depends
        for x in found
    ]
    return sparse.csr_array(sparse.vstack(parts))


class _Walk(AbstractWalk):
    """A walk through a graph, or through one within an Op, node by node."""

    def __init__(self, dim: int, budget: Budget, z: TensorVariable | None = None) -> None:
        super().__init__(dim, budget)
        self._z = z

    @override
    def about(self, dim: int) -> _Walk:
        return _Walk(dim, self.budget)

    @override
    def through(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], given: Sequence[Carried]
    ) -> list[Carried]:
        carried = dict(zip(inputs, given, strict=True))
        nodes = io_toposort(list(inputs), list(outputs))
        last = {x: i for i, node in enumerate(nodes) for x in node.inputs}
        last |= dict.fromkeys(outputs, len(nodes))
        for i, node in enumerate(nodes):
            arguments = [carried[x] if x in carried else _leaf(x) for x in node.inputs]
            found = self._outputs(node, arguments)
            carried.update(zip(node.outputs, found, strict=True))
            for x in node.inputs:  # memory is for what is needed still
                if last[x] == i:
                    carried.pop(x, None)
        return [carried[x] if x in carried else _leaf(x) for x in outputs]

    def _outputs(self, node: Apply, inputs: list[Carried]) -> list[Carried]:
        if all(x.is_fixed for x in inputs) and not isinstance(node.op, OpFromGraph):
            return [Carried.fixed(x) for x in _computed(node, inputs)]
        if all(is_discrete(x) for x in node.outputs):
            inputs = [Carried(x.shape, None, x.value, x.is_fixed) for x in inputs]
        found = rule_for(node)(self, node, inputs)
        return [
            Carried(x.shape) if is_discrete(out) and not x.is_fixed else x
            for out, x in zip(node.outputs, found, strict=True)
        ]

    @override
    def shapes(self, node: Apply, inputs: Sequence[Carried]) -> list[tuple[int, ...]]:
        known = [_static_shape(x) for x in node.outputs]
        if None in known:
            known = self._inferred(node, inputs) or []
        if not known:
            known = self._at_zero(node)
        return [shape for shape in known if shape is not None]

    def _inferred(self, node: Apply, inputs: Sequence[Carried]) -> list[Any] | None:
        """Shapes that an Op tells from those of its inputs, if it does."""
        made = []
        for variable, x in zip(node.inputs, inputs, strict=True):
            if x.is_fixed:
                made.append(variable.type.make_constant(x.value))
            else:
                made.append(variable.type.clone(shape=x.shape)())
        copy = node.op.make_node(*made)
        known = [_static_shape(x) for x in copy.outputs]
        if None not in known or not hasattr(node.op, "infer_shape"):
            return None if None in known else known
        lengths = [[pt.constant(n, dtype="int64") for n in x.shape] for x in inputs]
        try:
            found = node.op.infer_shape(None, copy, lengths)
            symbols = [[pt.as_tensor(n) for n in shape] for shape in found]
            graphs = [self.through([], shape, []) for shape in symbols]
        except Exception:
            # an Op's own code, which may ask for what is not there
            return None
        if not all(n.is_fixed for shape in graphs for n in shape):
            return None
        return [tuple(int(n.value) for n in shape) for shape in graphs]

    def _at_zero(self, node: Apply) -> list[Any]:
        """Shapes that are found by running the graph, once."""
        z = self._z
        if z is None:
            raise UntoldError(f"the shape of {node.op} within another Op")
        free = [x for x in ancestors(list(node.outputs), blockers=[z]) if x.owner is None]
        if any(x is not z and not isinstance(x, Constant | SharedVariable) for x in free):
            raise UntoldError(f"the shape of {node.op} within another Op")
        try:
            outputs = compile_once([z], node.outputs, on_unused_input="ignore")
            return [np.shape(x) for x in outputs(np.zeros(self.dim, dtype=z.type.dtype))]
        except Exception as error:
            # whatever an Op raises where the latent vector is 0
            raise UntoldError(f"the shape of {node.op}") from error


def _leaf(variable: Any) -> Carried:
    """What is known of data."""
    if isinstance(variable, Constant):
        return Carried.fixed(variable.data)
    if isinstance(variable, SharedVariable):
        return Carried.fixed(variable.get_value(borrow=True))
    raise UntoldError(f"{variable} has no value")


def _static_shape(variable: Any) -> tuple[int, ...] | None:
    """The shape that a variable's type tells; scalars have none."""
    shape = getattr(variable.type, "shape", ())
    return None if None in shape else tuple(shape)


def _computed(node: Apply, inputs: Sequence[Carried]) -> list[Any]:
    """The values of a node that depends on data alone."""
    values = [x.value for x in inputs]
    if not isinstance(node.op, Scan):
        return perform(node, values)
    made = [x.type.make_constant(v) for x, v in zip(node.inputs, values, strict=True)]
    return list(compile_once([], node.op(*made, return_list=True))())
