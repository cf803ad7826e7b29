"""Elementwise Ops that PyTensor would run entry by entry: the same entries, by NumPy's loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.compile.mode import FAST_COMPILE
from pytensor.scalar.basic import Add, Clip, Second
from pytensor.scalar.loop import ScalarLoop
from pytensor.scalar.math import Log1mexp, Softplus
from pytensor.tensor.basic import second
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.math import ProdWithoutZeros, mul_without_zeros

from pmflow.graphs.evaluate import changed_flags, compile_once

ODD = [-np.inf, -800.0, -40.0, -1.0, -0.5, -0.0, 0.0, 1e-300, 0.3, 5.0, 20.0, 40.0, np.inf, np.nan]


def by_entry(inputs: list[Any], outputs: list[Any], **kwargs: Any) -> Callable[..., list[Any]]:
    """Compile as PyTensor does it on its own: in Python, a number at a time."""
    with changed_flags(cxx=""):
        return pm.compile(inputs, outputs, mode=FAST_COMPILE, **kwargs)


def odd(dtype: str, *shape: int) -> Any:
    """Numbers of all kinds, in any order."""
    values = np.random.default_rng(1).permutation(np.resize(ODD, int(np.prod(shape))))
    if dtype.startswith(("int", "bool")):
        values = np.nan_to_num(values, posinf=3, neginf=-3).clip(-100, 100)
    return values.reshape(shape).astype(dtype)


def assert_same(inputs: list[Any], output: Any, values: list[Any], *, rtol: float = 0.0) -> None:
    (found,) = compile_once(inputs, [output])(*values)
    with np.errstate(all="ignore"):
        (expected,) = by_entry(inputs, [output])(*values)
    assert found.dtype == expected.dtype == output.dtype
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=0.0, equal_nan=True)
    known = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(found)[known], np.signbit(expected)[known])


SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "a number in a matrix": ((5, 14), (1, 1)),
    "a row in a matrix": ((5, 14), (1, 14)),
    "a column in a row": ((1, 14), (5, 1)),
    "the same shape": ((5, 14), (5, 14)),
    "more than what it is filled into": ((1, 1), (5, 14)),
    "nothing": ((0, 14), (1, 14)),
    "numbers": ((), ()),
}
DTYPES = ["float64", "float32", "int64", "int8", "bool"]


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("into", ["float64", "int64"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_fill_is_that_of_each_entry(
    shapes: tuple[tuple[int, ...], tuple[int, ...]], into: str, dtype: str
) -> None:
    x, y = (
        pt.tensor(dtype=d, shape=tuple(1 if n == 1 else None for n in shape))
        for d, shape in zip((into, dtype), shapes, strict=True)
    )
    # both: a fill alone of the same type is left out by PyTensor
    filled = second(x, y)
    assert_same(
        [x, y],
        pt.neq(filled, 3) if dtype == "bool" else filled + filled,
        [odd(into, *shapes[0]), odd(dtype, *shapes[1])],
    )


OPS: dict[str, Callable[..., Any]] = {
    "softplus": pt.softplus,
    "log1mexp": pt.log1mexp,
    "trigamma": lambda x: pt.grad(pt.psi(x).sum(), x),
}


@pytest.mark.parametrize("function", OPS.values(), ids=OPS.keys())
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "int8"])
@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
def test_a_function_is_that_of_each_entry(function: Callable[..., Any], dtype: str) -> None:
    if dtype.startswith("int") and function is OPS["trigamma"]:
        pytest.skip("integers have no gradient")
    x = pt.tensor(dtype=dtype, shape=(None, None))
    # NumPy's loops over arrays may differ from its functions of one number in the last digit
    rtol = 1e-6 if function(x).dtype == "float32" else 1e-15
    assert_same([x], function(x), [odd(dtype, 7, 14)], rtol=rtol)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
def test_clip_is_that_of_each_entry(dtype: str) -> None:
    # bounds in the wrong order, and NaN, among them
    x, low, high = (pt.tensor(dtype=dtype, shape=(None, None)) for _ in range(3))
    rng = np.random.default_rng(2)
    values = [rng.permuted(odd(dtype, 7, 14)) for _ in range(3)]
    assert_same([x, low, high], pt.clip(x, low, high), values)


@pytest.mark.parametrize("joined", [pt.add, pt.mul], ids=["sum", "product"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
def test_many_terms_are_joined_as_those_of_each_entry(
    joined: Callable[..., Any], dtype: str
) -> None:
    terms = [pt.tensor(dtype=dtype, shape=(None, None)) for _ in range(3)]
    rng = np.random.default_rng(3)
    values = [rng.permuted(odd(dtype, 7, 14)) for _ in range(3)]
    # PyTensor 3.2 multiplies single numbers in double precision
    assert_same(terms, joined(*terms), values, rtol=1e-6 if dtype == "float32" else 0.0)


def test_a_product_without_zeros_is_that_of_each_entry() -> None:
    x, y = pt.dmatrices("x", "y")
    assert_same(
        [x, y],
        Elemwise(mul_without_zeros)(x, y),
        [odd("float64", 9, 14), odd("float64", 9, 14).T.reshape(9, 14)],
    )


@pytest.mark.parametrize("axis", [None, 0, 1], ids=["all", "rows", "columns"])
@pytest.mark.parametrize("dtype", ["float64", "int64"])
def test_the_product_of_what_is_not_zero(axis: int | None, dtype: str) -> None:
    x = pt.tensor(dtype=dtype, shape=(None, None))
    values = np.array([[0, 2, 3], [0, 0, -4], [0, 0, 5]], dtype=dtype)
    assert_same([x], ProdWithoutZeros(axis=axis)(x), [values])


def test_the_gradient_of_a_product_is_exact() -> None:
    x = pt.dmatrix("x")
    gradient = pt.grad(pt.prod(x, axis=1).sum(), x)
    values = np.array([[1.0, 2.0, 3.0], [0.0, 2.0, 3.0], [0.0, 0.0, 3.0]])
    (found,) = compile_once([x], [gradient])(values)
    np.testing.assert_array_equal(found, [[6.0, 3.0, 2.0], [6.0, 0.0, 0.0], [0.0, 0.0, 0.0]])


LOOPS: dict[str, Callable[..., Any]] = {
    "incomplete gamma": lambda a, b, x: pt.gammainc(a, x),
    "its complement": lambda a, b, x: pt.gammaincc(a, x),
    "incomplete beta": lambda a, b, x: pt.betainc(a, b, x / 9.0),
    "2F1": lambda a, b, x: pt.hyp2f1(a, b, 2.5, x / 10.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("function", LOOPS.values(), ids=LOOPS.keys())
@pytest.mark.parametrize("wrt", ["a", "b"])
@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
def test_a_series_is_that_of_each_entry(function: Callable[..., Any], wrt: str) -> None:
    a, b, x = pt.dmatrices("a", "b", "x")
    gradient = pt.grad(function(a, b, x).sum(), {"a": a, "b": b}[wrt], disconnected_inputs="ignore")
    rng = np.random.default_rng(3)
    values = rng.uniform(0.2, 8.0, size=(3, 2, 3))
    values[2, 0, 0] = 0.0  # of 2F1, a series that is not summed at all
    graph = [a, b, x]
    found, expected = (
        make(graph, [gradient], on_unused_input="ignore")(*values)[0]
        for make in (compile_once, by_entry)
    )
    assert np.isfinite(expected).any()
    np.testing.assert_allclose(found, expected, rtol=1e-12, equal_nan=True)


@pytest.mark.parametrize("bound", [None, 20.0], ids=["by number", "by condition"])
def test_entries_of_a_loop_end_when_they_are_done(bound: float | None) -> None:
    x = pytensor.scalar.float64("x")
    until = None if bound is None else pytensor.scalar.basic.ge(x * 2.0, bound)
    loop = Elemwise(ScalarLoop(init=[x], update=[x * 2.0], until=until))
    steps, starts = pt.lvector("steps"), pt.dvector("starts")
    function = compile_once([steps, starts], loop.make_node(steps, starts).outputs)
    found = function(np.array([0, 1, 2, 9]), np.array([1.0, 1.0, 5.0, 1.0]))
    if bound is None:
        np.testing.assert_array_equal(found[0], [1.0, 2.0, 20.0, 512.0])
    else:
        np.testing.assert_array_equal(found[0], [1.0, 2.0, 20.0, 32.0])
        np.testing.assert_array_equal(found[1], [True, False, True, True])


def test_no_entry_is_met_in_python() -> None:
    x, row = pt.dmatrix("x"), pt.drow("row")
    terms = [pt.softplus(x), pt.log1mexp(-pt.exp(x)), pt.clip(x, 0, 1), pt.gammainc(pt.exp(x), 2.0)]
    loss = pt.add(*terms).sum()
    function: Any = compile_once([x, row], [loss, pt.grad(loss, x), second(x, row)])
    function(np.ones((2, 3)), np.ones((1, 3)))
    nodes = [n for n in function.maker.fgraph.apply_nodes if isinstance(n.op, Elemwise)]
    sums = [n.op for n in nodes if isinstance(n.op.scalar_op, Add) and len(n.inputs) > 2]
    assert [op.ufunc for op in sums if op.ufunc is not None]
    ops = [n.op for n in nodes]
    kinds = {type(op.scalar_op) for op in ops}
    assert {Second, Softplus, Log1mexp, Clip, ScalarLoop} <= kinds
    assert not [op for op in ops if isinstance(op.ufunc, np.ufunc)]
