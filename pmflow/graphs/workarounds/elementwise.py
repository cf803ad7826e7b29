"""Elementwise Ops as NumPy's loops.

Without a compiler PyTensor evaluates an elementwise Op by the NumPy function that its scalar Op
names. Some name none: what they do to one number is called for each entry, in Python, which takes a
hundred times as long. ``second`` alone, which repeats a value in the shape of another and stands in
the gradient of each sum, was 50 to 90 % of the time of a gradient.

All of this can go when PyTensor's Second, Clip, Softplus, Log1mexp, TriGamma and MulWithoutZeros
name a function of arrays (``nfunc_spec``), when sums of more than 31 terms run in Python, and when
those of three and more do not call Python for each entry. (PyTensor 3.3.8 folds them, but not where
the same Op has been asked for a constant before.)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.rewriting.basic import node_rewriter
from pytensor.scalar.basic import Add, Cast, Clip, Mul, ScalarOp, Second
from pytensor.scalar.basic import add as scalar_add
from pytensor.scalar.basic import mul as scalar_mul
from pytensor.scalar.loop import ScalarLoop
from pytensor.scalar.math import Log1mexp, Softplus, TriGamma
from pytensor.tensor.elemwise import CAReduce, Elemwise
from pytensor.tensor.math import MulWithoutZeros
from scipy.special import polygamma

from pmflow.graphs.workarounds.scalar_loops import loop_over_arrays

__all__ = ["products_without_zeros", "run_as_arrays", "split_long_sums"]

type Array = NDArray[Any]

_MOST_OPERANDS = 16
"""Of one sum or product: NumPy's ufuncs take 32 at most, outputs included."""

_LOG_HALF = np.log(0.5)


@node_rewriter([Elemwise])
def run_as_arrays(fgraph: Any, node: Apply) -> list[Variable] | None:
    """Give an elementwise Op a function of arrays where PyTensor knows one of numbers alone.

    The Op stays what it is, so that no other rewrite, gradient or compiler sees a difference.
    """
    if isinstance(node.op.ufunc, _ArrayFunction):
        return None
    scalar_op = node.op.scalar_op
    function = _OF_ANY_NUMBERS.get(type(scalar_op))
    if function is None and all(x.type.dtype in ("float32", "float64") for x in node.inputs):
        # of integers, PyTensor chooses the precision that is computed in
        function = _OF_FLOATS.get(type(scalar_op))
        if len(node.inputs) > 2:
            function = _OF_MANY_FLOATS.get(type(scalar_op), function)
    if isinstance(scalar_op, Cast):
        function = partial(
            _cast, node.outputs[0].type.dtype
        )  # one number at a time in PyTensor 3.2
    if isinstance(scalar_op, ScalarLoop):
        function = loop_over_arrays(scalar_op, _of_numbers_in_loops)
    if function is None:
        return None
    op = Elemwise(scalar_op, node.op.inplace_pattern, name=node.op.name)
    # where it is set, PyTensor makes none by `numpy.frompyfunc`
    op.ufunc = _ArrayFunction(function, len(node.outputs))
    return list(op.make_node(*node.inputs).outputs)


@node_rewriter([CAReduce])
def products_without_zeros(fgraph: Any, node: Apply) -> list[Variable] | None:
    """The product of the entries that are not 0, which the gradient of a product is made of.

    Of zeros alone it is 0.
    """
    if not isinstance(node.op.scalar_op, MulWithoutZeros):
        return None
    (x,) = node.inputs
    is_zero = pt.eq(x, 0)
    product = pt.prod(
        pt.switch(is_zero, np.ones((), x.dtype), x),
        axis=node.op.axis,
        dtype=node.op.dtype,
        acc_dtype=node.op.acc_dtype,
    )
    nothing = pt.all(is_zero, axis=node.op.axis)
    return [pt.switch(nothing, 0, product).astype(node.outputs[0].dtype)]


@node_rewriter([Elemwise])
def split_long_sums(fgraph: Any, node: Apply) -> list[Variable] | None:
    """Sums and products of many terms as sums of sums.

    PyTensor makes one addition of nested ones, and 40 layers have 40 log-determinants.
    """
    if node.op.scalar_op not in (scalar_add, scalar_mul) or len(node.inputs) <= _MOST_OPERANDS:
        return None
    parts = [
        node.op(*node.inputs[i : i + _MOST_OPERANDS])
        for i in range(0, len(node.inputs), _MOST_OPERANDS)
    ]
    return [node.op(*parts)]


class _ArrayFunction:
    """What PyTensor asks of a ufunc: to be called, and to know how many results it has."""

    def __init__(self, function: Callable[..., Any], results: int) -> None:
        self.function = function
        self.nout = results

    def __call__(self, *arrays: Array) -> Any:
        return self.function(*arrays)


def _second(shape_of: Array, value: Array) -> Array:
    return np.broadcast_to(value, np.broadcast_shapes(np.shape(shape_of), np.shape(value)))


def _cast(dtype: str, x: Array) -> Array:
    return np.asarray(x).astype(dtype)


def _clip(x: Array, low: Array, high: Array) -> Array:
    # other than numpy.clip where low > high, or one of them is NaN
    return np.where(x < low, low, np.where(x > high, high, x))


def _softplus(x: Array) -> Array:
    """In the four pieces of PyTensor's."""
    middle = np.log1p(np.exp(x))
    return np.where(
        x < -37.0, np.exp(x), np.where(x < 18.0, middle, np.where(x < 33.3, x + np.exp(-x), x))
    )


def _log1mexp(x: Array) -> Array:
    return np.where(x < _LOG_HALF, np.log1p(-np.exp(x)), np.log(-np.expm1(x)))


def _trigamma(x: Array) -> Array:
    return polygamma(1, x)


def _multiply_without_zeros(x: Array, y: Array) -> Array:
    return np.where(x == 0, y, np.where(y == 0, x, x * y))


def _folded(function: np.ufunc, *terms: Array) -> Array:
    return reduce(function, terms)


_OF_ANY_NUMBERS: dict[type[ScalarOp], Callable[..., Array]] = {
    Second: _second,
    Clip: _clip,
    MulWithoutZeros: _multiply_without_zeros,
}

_OF_FLOATS: dict[type[ScalarOp], Callable[..., Array]] = {
    Softplus: _softplus,
    Log1mexp: _log1mexp,
    TriGamma: _trigamma,
}

_OF_MANY_FLOATS: dict[type[ScalarOp], Callable[..., Array]] = {
    Add: partial(_folded, np.add),
    Mul: partial(_folded, np.multiply),
}


def _of_numbers_in_loops(op: ScalarOp) -> Callable[..., Array] | None:
    return _OF_ANY_NUMBERS.get(type(op)) or _OF_FLOATS.get(type(op))
