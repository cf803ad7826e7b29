"""How each Op of PyTensor carries on what its inputs depend on.

A rule is given a node and what its inputs carry, and says what its outputs carry: more than there
is, where it must, but never less. Ops without a rule are taken to make each output of all inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytensor.compile.builders import OpFromGraph
from pytensor.compile.ops import DeepCopyOp, ViewOp
from pytensor.graph.basic import Apply
from pytensor.raise_op import CheckAndRaise
from pytensor.scan.op import Scan
from pytensor.sparse.math import Dot as SparseDot
from pytensor.sparse.math import StructuredDot, TrueDot
from pytensor.tensor.basic import (
    Alloc,
    ExtractDiag,
    Join,
    MakeVector,
    PermuteRowElements,
    ScalarFromTensor,
    Split,
    TensorFromScalar,
)
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import CAReduce, DimShuffle, Elemwise
from pytensor.tensor.extra_ops import CpuContiguous, CumOp, FillDiagonal, FillDiagonalOffset, Repeat
from pytensor.tensor.math import Dot
from pytensor.tensor.reshape import JoinDims, SplitDims
from pytensor.tensor.shape import Reshape, Shape, Shape_i, SpecifyShape
from pytensor.tensor.signal.conv import Convolve1d
from pytensor.tensor.sort import SortOp
from pytensor.tensor.subtensor import (
    AdvancedIncSubtensor,
    AdvancedSubtensor,
    IncSubtensor,
    Subtensor,
    unflatten_index_variables,
)
from scipy import sparse

from pmflow.graphs.evaluate import opened
from pmflow.graphs.sparsity_elementwise import elementwise
from pmflow.graphs.sparsity_products import convolves, multiplies, solves
from pmflow.graphs.sparsity_rows import (
    AbstractWalk,
    Carried,
    UntoldError,
    everything,
    is_discrete,
)
from pmflow.graphs.sparsity_scan import unrolls

try:
    from pytensor.conditional.op import IfElse
except ImportError:  # before PyTensor 3.3
    from pytensor.ifelse import IfElse

__all__ = ["Rule", "perform", "rule_for"]

type Rule = Callable[[AbstractWalk, Apply, Sequence[Carried]], list[Carried]]


def perform(node: Apply, values: Sequence[Any]) -> list[Any]:
    """What a node computes."""
    storage: list[list[Any]] = [[None] for _ in node.outputs]
    node.op.perform(node, list(values), storage)
    return [cell[0] for cell in storage]


@dataclass(frozen=True)
class Moves:
    """Entries of the outputs are entries of the inputs: the Op is run on their places.

    Attributes
    ----------
    moved : int, optional
        How many inputs, from the first on, are moved; the others say where to. Default all.
    """

    moved: int | None = None

    def __call__(self, walk: AbstractWalk, node: Apply, inputs: Sequence[Carried]) -> list[Carried]:
        """Give each output the rows of the places that are found in it."""
        moved = len(inputs) if self.moved is None else self.moved
        if all(is_discrete(x) for x in node.outputs):  # places may not fit into their type
            return [Carried(shape) for shape in walk.shapes(node, inputs)]
        if not all(x.is_fixed for x in inputs[moved:]):
            return everything(walk, node, inputs)
        places, blocks, first = [], [sparse.csr_array((1, walk.dim), dtype=bool)], 1
        for x in inputs[:moved]:
            place = np.zeros(x.shape)  # row 0: nothing
            if x.depends is not None:
                place = (x.positions + first).astype(float)
                blocks.append(x.depends)
                first += x.size
            if x.zeros is not None:
                place[x.zeros] = _ZERO
            places.append(place)
        found = perform(node, [*places, *(x.value for x in inputs[moved:])])
        outputs = [np.asarray(x).astype(np.int64) for x in found]
        if len(blocks) > 2:
            walk.budget.spend(sum(block.nnz for block in blocks))
            blocks = [sparse.vstack(blocks, format="csr")]
        return [_moved(walk, blocks, x) for x in outputs]


_ZERO = -1
"""The place of an entry that is 0 everywhere."""


def _moved(walk: AbstractWalk, blocks: Sequence[Any], places: NDArray[np.int64]) -> Carried:
    """What is at places that count from 1; nothing at 0."""
    is_zero = places == _ZERO
    rows = None
    if len(blocks) == 2:  # one variable alone is not copied where it stays as it is
        nothing = (places <= 0).ravel()
        rows = walk.without(walk.gather(blocks[1], np.maximum(places - 1, 0)), nothing)
    elif blocks[0].shape[0] > 1:
        rows = walk.gather(blocks[0], np.maximum(places, 0))
    return Carried(places.shape, rows, zero=is_zero if is_zero.any() else None)


def increments(walk: AbstractWalk, node: Apply, inputs: Sequence[Carried]) -> list[Carried]:
    """`x` with `y` added to some of its entries, or in the place of them."""
    x, y, *index = inputs
    if not all(i.is_fixed for i in index):
        return everything(walk, node, inputs)
    where = unflatten_index_variables([i.value for i in index], node.op.idx_list)
    target = x.positions[where]
    kept = x.depends
    replaced = np.zeros(x.size, dtype=bool)
    if node.op.set_instead_of_inc:
        replaced[target.ravel()] = True
        kept = walk.without(kept, replaced)
    added = walk.group(walk.broadcast(y, target.shape), target, x.size)
    zero = replaced | (False if x.zeros is None else x.zeros.ravel())
    gets = np.broadcast_to(True if y.zeros is None else ~y.zeros, target.shape)
    zero[target[gets]] = False
    zeros = zero.reshape(x.shape) if zero.any() else None
    return [Carried(x.shape, walk.union([kept, added]), zero=zeros)]


def fills_diagonal(walk: AbstractWalk, node: Apply, inputs: Sequence[Carried]) -> list[Carried]:
    """A matrix with another diagonal: what was there may be counted still."""
    x, y, *_ = inputs
    everywhere = np.zeros(x.shape, dtype=np.int64)
    return [Carried(x.shape, walk.union([x.depends, walk.gather(y.depends, everywhere)]))]


def reduces(walk: AbstractWalk, node: Apply, inputs: Sequence[Carried]) -> list[Carried]:
    """Sums, products, maxima along axes: unions along them."""
    (x,) = inputs
    axes = range(len(x.shape)) if node.op.axis is None else node.op.axis
    shape = tuple(length for k, length in enumerate(x.shape) if k not in axes)
    return [Carried(shape, walk.group(x.depends, _groups(x.shape, axes), prod(shape)))]


def _groups(shape: tuple[int, ...], axes: Any) -> NDArray[np.int64]:
    """For each entry the place that it has when some axes are gone."""
    kept = tuple(1 if k in axes else length for k, length in enumerate(shape))
    return np.broadcast_to(np.arange(prod(kept)).reshape(kept), shape)


def accumulates(walk: AbstractWalk, node: Apply, inputs: Sequence[Carried]) -> list[Carried]:
    """Cumulative sums and products: all entries so far."""
    (x,) = inputs
    return [Carried(x.shape, walk.cumulative(x, node.op.axis))]


def sorts(walk: AbstractWalk, node: Apply, inputs: Sequence[Carried]) -> list[Carried]:
    """In whatever order: each entry may be any of those that are sorted together."""
    x, *others = inputs
    axis = int(others[0].value) if others else node.op.axis  # an input before PyTensor 3.3
    groups = _groups(x.shape, (axis % len(x.shape),))
    together = walk.group(x.depends, groups, x.size // max(x.shape[axis], 1))
    return [Carried(x.shape, walk.gather(together, groups))]


def passes(walk: AbstractWalk, node: Apply, inputs: Sequence[Carried]) -> list[Carried]:
    """The first input as it is."""
    return [inputs[0]]


def chooses(walk: AbstractWalk, node: Apply, inputs: Sequence[Carried]) -> list[Carried]:
    """One of two branches."""
    condition, *branches = inputs
    yes, no = branches[: node.op.n_outs], branches[node.op.n_outs :]
    if condition.is_fixed:
        return yes if condition.value else no
    if any(a.shape != b.shape for a, b in zip(yes, no, strict=True)):
        raise UntoldError("a shape that depends on the latent vector")
    pairs = zip(yes, no, strict=True)
    return [Carried(a.shape, walk.union([a.depends, b.depends])) for a, b in pairs]


def shape_of(walk: AbstractWalk, node: Apply, inputs: Sequence[Carried]) -> list[Carried]:
    """A shape is the same whatever the latent vector is."""
    return [Carried.fixed(np.asarray(inputs[0].shape, dtype=np.int64))]


def length_of(walk: AbstractWalk, node: Apply, inputs: Sequence[Carried]) -> list[Carried]:
    """The length of one axis."""
    return [Carried.fixed(np.asarray(inputs[0].shape[node.op.i], dtype=np.int64))]


def opens(walk: AbstractWalk, node: Apply, inputs: Sequence[Carried]) -> list[Carried]:
    """Ops that are graphs: the rules of what is in them."""
    if isinstance(node.op, OpFromGraph):
        return walk.through(node.op.fgraph.inputs, node.op.fgraph.outputs, inputs)
    # alone: PyTensor would go through all of the graph before it for each shape
    alone = [v.type.clone(shape=x.shape)() for v, x in zip(node.inputs, inputs, strict=True)]
    return walk.through(alone, opened(node.op.make_node(*alone)) or [], inputs)


_RULES: dict[type, Rule] = {
    Elemwise: elementwise,
    CAReduce: reduces,
    CumOp: accumulates,
    SortOp: sorts,
    Dot: multiplies,
    SparseDot: multiplies,
    StructuredDot: multiplies,
    TrueDot: multiplies,
    Convolve1d: convolves,
    IncSubtensor: increments,
    AdvancedIncSubtensor: increments,
    FillDiagonal: fills_diagonal,
    FillDiagonalOffset: fills_diagonal,
    DimShuffle: Moves(),
    Join: Moves(),
    MakeVector: Moves(),
    TensorFromScalar: Moves(),
    ScalarFromTensor: Moves(),
    ExtractDiag: Moves(),
    JoinDims: Moves(),
    CpuContiguous: Moves(),
    Subtensor: Moves(1),
    AdvancedSubtensor: Moves(1),
    Reshape: Moves(1),
    SplitDims: Moves(1),
    Alloc: Moves(1),
    Split: Moves(1),
    Repeat: Moves(1),
    PermuteRowElements: Moves(1),
    SpecifyShape: passes,
    CheckAndRaise: passes,
    DeepCopyOp: passes,
    ViewOp: passes,
    IfElse: chooses,
    Shape: shape_of,
    Shape_i: length_of,
    OpFromGraph: opens,
    Scan: unrolls,
}

_BATCHED: tuple[Any, ...] = (multiplies, opens)
"""Rules that know what to do with a batch; Ops that move entries are run on batches too."""


def rule_for(node: Apply) -> Rule:
    """The rule of an Op, or of the Op that it runs on each member of a batch."""
    op = node.op
    core = op.core_op if isinstance(op, Blockwise) else op
    if getattr(core, "b_ndim", None) == 2 and len(node.inputs) == 2:
        return solves
    if core is not op and getattr(core, "set_instead_of_inc", False):
        return Moves(2)  # what is set in a batch comes from one of two places
    rule = next((_RULES[kind] for kind in type(core).__mro__ if kind in _RULES), everything)
    if core is op or rule in _BATCHED or isinstance(rule, Moves):
        return rule
    return everything if op.batch_ndim(node) else partial(_of_core, rule)


def _of_core(
    rule: Rule, walk: AbstractWalk, node: Apply, inputs: Sequence[Carried]
) -> list[Carried]:
    """An Op that would run on batches, where there is none."""
    return rule(walk, node.op.core_op.make_node(*node.inputs), inputs)
