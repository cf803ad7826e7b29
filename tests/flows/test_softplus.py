"""Softplus, its logarithm and its slope as one Op: each backend against 400 digits."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.typing import NDArray

from pmflow.flows.kernels.softplus import Softplus, softplus_and_log
from pmflow.graphs.evaluate import compile_once

X = np.concatenate(
    [np.linspace(-45, 45, 181), [-700.0, -300.0, -39.99, -40.01, -1e-12, 0.0, 1e-300, 300.0, 800.0]]
)


def exact(x: float) -> tuple[float, float, float]:
    with localcontext(prec=400):
        e = Decimal(x).exp()
        s = (1 + e).ln()
        return float(s), float(s.ln()), float(e / (1 + e))


@pytest.fixture(scope="module", params=["python", "NUMBA", "JAX"])
def softplus(request: pytest.FixtureRequest) -> Callable[..., list[NDArray[Any]]]:
    x = pt.vector("x")
    outputs = list(Softplus().make_node(x).outputs)
    outputs += [pt.grad(out.sum(), x) for out in outputs]
    if request.param == "python":
        return compile_once([x], outputs)
    if request.param == "JAX":
        pytest.importorskip("jax", reason="jax is an optional extra")
    function = pytensor.function([x], outputs, mode=request.param)
    return lambda x: [np.asarray(out) for out in function(x)]


@pytest.mark.slow
@pytest.mark.parametrize("place", range(3), ids=["softplus", "log", "slope"])
def test_it_is_exact_to_a_few_ulps(softplus: Callable[..., list[NDArray[Any]]], place: int) -> None:
    found, expected = softplus(X)[place], np.array([exact(x)[place] for x in X])
    # near 0 the logarithm is a difference: there what counts is the absolute error
    np.testing.assert_allclose(found, expected, rtol=2e-15, atol=5e-16 if place == 1 else 0)


def test_gradients_are_exact_too(softplus: Callable[..., list[NDArray[Any]]]) -> None:
    *_, of_s, of_log, of_slope = softplus(X)
    s, _, slope = np.array([exact(x) for x in X]).T
    np.testing.assert_allclose(of_s, slope, rtol=3e-15)
    np.testing.assert_allclose(of_log, slope / s, rtol=1e-14)
    np.testing.assert_allclose(of_slope, slope * (1 - slope), rtol=1e-13, atol=3e-16)


def test_everything_is_finite_where_softplus_underflows(
    softplus: Callable[..., list[NDArray[Any]]],
) -> None:
    s, log_s, slope, of_s, of_log, _ = softplus(np.array([-800.0, -1e6]))
    np.testing.assert_allclose(s, 0, atol=1e-300)
    np.testing.assert_array_equal(log_s, [-800.0, -1e6])
    np.testing.assert_array_equal(of_log, 1.0)
    np.testing.assert_allclose([slope, of_s], 0, atol=1e-300)


def test_nan_stays_nan(softplus: Callable[..., list[NDArray[Any]]]) -> None:
    s, log_s, slope, *_ = softplus(np.array([np.nan, 1.0]))
    for array in (s, log_s, slope):
        np.testing.assert_array_equal(np.isnan(array), [True, False])


def test_no_output_needs_to_be_used_for_a_gradient() -> None:
    x = pt.vector("x")
    _, log_s = softplus_and_log(x)
    (found,) = compile_once([x], [pt.grad(log_s.sum(), x)])(np.array([0.5]))
    s, _, slope = exact(0.5)
    np.testing.assert_allclose(found, slope / s, rtol=1e-14)


def test_only_vectors_are_taken() -> None:
    with pytest.raises(TypeError, match="needs a vector, but x has 2 dimensions"):
        softplus_and_log(pt.matrix("x"))
