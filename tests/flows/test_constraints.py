"""The maps between unconstrained and constrained parameters."""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmflow.evaluate import compile_once
from pmflow.flows.constraints import SOFTPLUS_ONE, log_softplus, norm

_x, _v = pt.dscalar("x"), pt.dvector("v")
_log_softplus = compile_once([_x], [log_softplus(_x), pt.grad(log_softplus(_x), _x)])
_norm = compile_once([_v], [norm(_v), pt.grad(norm(_v), _v)])


@given(st.floats(-1e300, 1e300))
def test_log_softplus_is_finite(x: float) -> None:
    assert np.isfinite(_log_softplus(x)).all()


@given(st.floats(-700, 700))
def test_log_softplus_is_the_log_of_softplus(x: float) -> None:
    # 1e-15 relative and absolute: the log of a number near 1 keeps absolute digits only
    np.testing.assert_allclose(
        _log_softplus(x)[0], np.log(np.logaddexp(0, x)), rtol=1e-15, atol=1e-15
    )


@pytest.mark.parametrize("x", [-20.0, np.nextafter(-20.0, -21)], ids=["above", "below"])
def test_the_two_branches_of_log_softplus_meet(x: float) -> None:
    # they differ by exp(-20) / 2 = 1e-9: 5e-11 of the value
    np.testing.assert_allclose(_log_softplus(x)[0], np.log(np.log1p(np.exp(x))), rtol=1e-10)


@given(st.floats(-700, 700))
def test_the_gradient_of_log_softplus_is_the_analytic_one(x: float) -> None:
    expected = np.exp(-np.logaddexp(0, -x)) / np.logaddexp(0, x)
    np.testing.assert_allclose(_log_softplus(x)[1], expected, rtol=2e-9)  # exp(-20), the branch


def test_softplus_is_1_where_a_scale_starts() -> None:
    np.testing.assert_allclose(np.logaddexp(0, SOFTPLUS_ONE), 1, rtol=2.3e-16)  # one ulp


def test_norm_is_the_euclidean_norm() -> None:
    np.testing.assert_allclose(_norm(np.array([3.0, 0.0, -4.0]))[0], 5, rtol=1e-15)


def test_the_gradient_of_norm_at_the_origin_is_0() -> None:
    np.testing.assert_array_equal(_norm(np.zeros(3))[1], np.zeros(3))
