"""Log densities in a form that XLA makes loops over several numbers at once of.

XLA fuses what is done to each number into one loop. A choice between -inf and something costly
becomes a branch in it, and what has branches is done to one number at a time: with the checks of
its parameters and data the log density of a logistic regression takes two to four times as long as
in the form below (``python -m tests.benchmarks.vectorized``). So

- a sum of what may be -inf is -inf if any of its terms is, and else the sum of what they are else;
- a choice between two values of one function is the function of a choice;
- that a sigmoid is within 0 and 1 need not be computed to be known;
- softplus is one formula, where PyTensor's translation chooses among four pieces.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.rewriting.basic import in2out, node_rewriter
from pytensor.scalar import basic as scalar
from pytensor.scalar.math import Sigmoid, Softplus
from pytensor.tensor.basic import get_underlying_scalar_constant_value
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.exceptions import NotScalarConstantError
from pytensor.tensor.math import Sum

__all__ = ["for_xla"]

_CHOSEN_BEFORE = (scalar.Neg, scalar.Log, scalar.Log1p, scalar.Exp, Softplus, Sigmoid)
"""Functions of one number that a choice may come before."""

_POSITIVE = (scalar.Abs, scalar.Exp, scalar.Sqr, scalar.Sqrt)
"""Functions whose values are positive, or 0."""

_POSITIVE_OF_SUCH = (scalar.Mul, scalar.TrueDiv, scalar.Cast)
"""Those whose values are so where what they are of is."""

type Lifted = tuple[Variable, list[Variable]]


def for_xla(graph: FunctionGraph) -> None:
    """Rewrite a graph, in place, that JAX is about to compile: what comes out is the same.

    The last rewrite of all: PyTensor's own would turn some of it back.
    """
    rules = [_checks_of_sigmoids, _choices_before_functions, _checks_after_sums]
    in2out(*rules, name="checks_and_choices").rewrite(graph)
    in2out(_softplus_in_one_piece, name="softplus_in_one_piece").rewrite(graph)


def _scalar_op(variable: Variable) -> Any:
    """The function of numbers that an elementwise result is of, None for others."""
    op = None if variable.owner is None else variable.owner.op
    return op.scalar_op if isinstance(op, Elemwise) else None


@node_rewriter([Elemwise])
def _checks_of_sigmoids(_: Any, node: Apply) -> list[Variable] | None:
    """Whether a sigmoid is at least 0, or at most 1: wherever it is a number."""
    bound = {scalar.GE: 0.0, scalar.LE: 1.0}.get(type(node.op.scalar_op))
    if bound is None or not isinstance(_scalar_op(node.inputs[0]), Sigmoid):
        return None
    if _number(node.inputs[1]) != bound:
        return None
    (x,) = node.inputs[0].owner.inputs
    return _as_before(node, pt.eq(x, x))


@node_rewriter([Elemwise])
def _choices_before_functions(_: Any, node: Apply) -> list[Variable] | None:
    """``switch(c, f(a), f(b))`` as ``f(switch(c, a, b))``."""
    if not isinstance(node.op.scalar_op, scalar.Switch):
        return None
    choice, one, other = node.inputs
    function = _scalar_op(one)
    if not isinstance(function, _CHOSEN_BEFORE) or function != _scalar_op(other):
        return None
    (a,), (b,) = one.owner.inputs, other.owner.inputs
    if a.type.dtype != b.type.dtype:
        return None
    return _as_before(node, one.owner.op(pt.switch(choice, a, b)))


@node_rewriter([Sum])
def _checks_after_sums(_: Any, node: Apply) -> list[Variable] | None:
    """Of all entries: the sum of ``switch(c, x, -inf)`` as ``switch(all(c), sum(x), -inf)``."""
    (x,) = node.inputs
    if node.outputs[0].type.ndim or x.type.dtype not in ("float32", "float64"):
        return None
    value, bad = _lifted(x)
    if not bad or value.type.broadcastable != x.type.broadcastable:
        return None
    is_bad = reduce(pt.or_, [pt.any(c) for c in bad])
    return _as_before(node, pt.switch(is_bad, -np.inf, node.op(value)))


def _lifted(x: Variable) -> Lifted:
    """What an array is where it is not -inf by a choice, and where it is."""
    op = _scalar_op(x)
    if isinstance(op, scalar.Switch):
        choice, one, other = x.owner.inputs
        for value, lost, bad in ((other, one, choice), (one, other, pt.eq(choice, 0))):
            if _number(lost) == -np.inf:
                inner, more = _lifted(value)
                return inner, [bad, *more]
    elif isinstance(op, scalar.Mul | scalar.TrueDiv):
        first, *others = sorted(x.owner.inputs, key=_is_positive)
        if all(map(_is_positive, others)) and (first is x.owner.inputs[0] or op == scalar.mul):
            inner, bad = _lifted(first)
            if bad:
                return x.owner.op(*(inner if y is first else y for y in x.owner.inputs)), bad
    elif isinstance(op, scalar.Add):
        parts = [_lifted(y) for y in x.owner.inputs]
        bad = [c for _, more in parts for c in more]
        if bad:
            return x.owner.op(*(inner for inner, _ in parts)), bad
    elif _is_same_in_shape(x):
        inner, bad = _lifted(x.owner.inputs[0])
        if bad:
            return x.owner.op(inner), bad
    return x, []


def _is_positive(x: Variable) -> bool:
    """Whether all entries are known to be above 0, or 0 where one of another factor is not."""
    if isinstance(_scalar_op(x), _POSITIVE):
        return True
    if isinstance(_scalar_op(x), _POSITIVE_OF_SUCH) or _is_same_in_shape(x):
        return all(map(_is_positive, x.owner.inputs))
    if isinstance(x, Constant):
        return bool(np.all(np.asarray(x.data) > 0))
    number = _number(x)
    return number is not None and number > 0


def _is_same_in_shape(x: Variable) -> bool:
    return x.owner is not None and isinstance(x.owner.op, DimShuffle)


def _number(x: Variable) -> float | None:
    """The one number that a variable is known to be everywhere."""
    try:
        return float(get_underlying_scalar_constant_value(x))
    except NotScalarConstantError:
        return None


def _as_before(node: Apply, new: Variable) -> list[Variable] | None:
    """In the place of the node's output, where it is of the same type."""
    (old,) = node.outputs
    if new.type.dtype != old.type.dtype or new.type.broadcastable != old.type.broadcastable:
        return None
    return [new]


@node_rewriter([Elemwise])
def _softplus_in_one_piece(_: Any, node: Apply) -> list[Variable] | None:
    (x, *_others) = node.inputs
    if not isinstance(node.op.scalar_op, Softplus) or x.type.dtype not in ("float32", "float64"):
        return None
    # in a form whose derivative by JAX is one half at 0, where chains begin: that of abs is not
    return _as_before(node, pt.maximum(x, 0) + pt.log1p(pt.exp(pt.minimum(x, -x))))
