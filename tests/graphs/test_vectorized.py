"""Graphs in the form that XLA makes fast loops of: what they compute stays what it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytensor.tensor as pt
import pytest
from numpy.typing import NDArray
from pytensor.graph.fg import FunctionGraph
from pytensor.scalar import basic as scalar
from pytensor.scalar.math import Sigmoid, Softplus
from pytensor.tensor.elemwise import Elemwise

from pmflow.graphs.workarounds.vectorized import for_xla

X = np.array([-800.0, -40.0, -3.0, -0.0, 0.1, 17.0, 35.0, 800.0])
SEEN = np.array([0, 1, 1, 0, 1, 0, 1, 0])

type Graph = Callable[[Any, Any], Any]


def logistic(x: Any, seen: Any) -> Any:
    """As PyMC writes it, with a check of data and one of probabilities."""
    p = pt.sigmoid(x)
    found = pt.switch(seen, -pt.softplus(-x), -pt.softplus(x))
    found = pt.switch(pt.or_(pt.lt(seen, 0), pt.gt(seen, 1)), -np.inf, found)
    found = pt.switch(pt.all(pt.ge(p, 0.0)) & pt.all(pt.le(p, 1.0)), found, -np.inf)
    return (3.0 * pt.abs(pt.arange(1, 9)) * found / 8.0).sum()


GRAPHS: dict[str, Graph] = {
    "logistic": logistic,
    "softplus": lambda x, _: pt.softplus(x).sum(),
    "below 0": lambda x, _: pt.switch(pt.lt(x, 0), -np.inf, pt.log(x + 1)).sum(),
    "two terms": lambda x, _: (
        pt.switch(pt.gt(x, -900), x, -np.inf) + pt.switch(pt.gt(x, 30), -np.inf, 2 * x)
    ).sum(),
    "negative": lambda x, _: (-pt.switch(pt.gt(x, 0), x, -np.inf)).sum(),
    "times what may be negative": lambda x, _: (x * pt.switch(pt.gt(x, 0), x, -np.inf)).sum(),
    "over what may be -inf": lambda x, _: (1.0 / pt.switch(pt.gt(x, 0), x, -np.inf)).sum(),
    "one axis": lambda x, _: pt.switch(pt.gt(x, 0), x, -np.inf).reshape((2, 4)).sum(1).max(),
    "choices of choices": lambda x, s: pt.switch(s, pt.exp(-x / 900), pt.exp(x / 900)).sum(),
    "of two functions": lambda x, s: pt.switch(s, pt.exp(-x / 900), pt.sqr(x)).sum(),
}


def rewritten(graph: Graph) -> tuple[FunctionGraph, FunctionGraph]:
    """The graph as it is given, and as JAX gets it."""
    inputs = [pt.vector("x", shape=(8,)), pt.lvector("seen", shape=(8,))]
    given = FunctionGraph(inputs, [graph(*inputs)], clone=True)
    new = given.clone()
    for_xla(new)
    return given, new


def at(graph: FunctionGraph, x: Any, seen: Any) -> tuple[Any, Any]:
    """Value and gradient by JAX."""
    jax = pytest.importorskip("jax")
    from pytensor.link.jax.dispatch import jax_funcify

    function = jax_funcify(graph)
    return jax.value_and_grad(lambda x: function(x, seen)[0])(x)


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS.keys())
@pytest.mark.parametrize(
    ("x", "seen"),
    [
        (X, SEEN),
        (np.abs(X) + 1e-9, SEEN),
        (np.where(X > 100, np.nan, X), SEEN),
        (X, SEEN + 1),
        (np.full(8, np.inf), SEEN),
    ],
    ids=["usual", "above 0", "not a number", "bad data", "infinite"],
)
def test_values_and_gradients_stay(
    graph: Graph, x: NDArray[np.float64], seen: NDArray[np.int64]
) -> None:
    (value, gradient), (found, slope) = (at(one, x, seen) for one in rewritten(graph))
    if not np.isfinite(value):  # a sum of -inf and what is no number
        assert found == value or (np.isnan(value) and not np.isfinite(found))
        return
    np.testing.assert_allclose(found, value, rtol=1e-13)
    known = np.isfinite(gradient)  # that of PyTensor's softplus is lost beyond 700
    assert np.isfinite(slope).all()
    np.testing.assert_allclose(slope[known], np.asarray(gradient)[known], rtol=1e-12, atol=1e-300)


def test_a_logistic_density_has_one_costly_function_and_no_branches() -> None:
    _, graph = rewritten(logistic)
    found = [n.op.scalar_op for n in graph.apply_nodes if isinstance(n.op, Elemwise)]
    assert not any(isinstance(op, Softplus | Sigmoid) for op in found)
    assert sum(isinstance(op, scalar.Log1p) for op in found) == 1
    switches = [
        n
        for n in graph.apply_nodes
        if isinstance(n.op, Elemwise) and isinstance(n.op.scalar_op, scalar.Switch)
    ]
    # of the row's sign, and of the sum
    assert sorted(n.outputs[0].type.ndim for n in switches) == [0, 1]
