"""The radial layer: points keep their side of the centre, and the centre is harmless."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numeric import Array, numeric, points, start

from pmflow.flows import Radial

DIM = 3
CENTRE = np.zeros(DIM)
EXTREME = [
    (0.0, -100.0),
    (0.0, -800.0),
    (-300.0, 0.0),
    (300.0, 0.0),
    (0.0, 800.0),
    (-300.0, -800.0),
]

each_extreme = pytest.mark.parametrize(
    ("a", "b"), EXTREME, ids=[f"a={a}, b={b}" for a, b in EXTREME]
)


def at(a: float, b: float, z_ref: Array = CENTRE) -> dict[str, Array]:
    return {"a": np.asarray(a), "b": np.asarray(b), "z_ref": z_ref}


@given(a=st.floats(-50, 50), b=st.floats(-50, 50), log_r=st.floats(-20, 5))
def test_beta_is_above_minus_alpha(a: float, b: float, log_r: float) -> None:
    # z' = (1 + beta / (alpha + r)) z, and the factor is positive down to r = 0 only if it is
    z = np.exp(log_r) * np.array([[0.6, 0.0, -0.8]])
    z_new, _ = numeric(Radial(), DIM).forward(z, at(a, b))
    assert np.all(np.sign(z_new) * np.sign(z) >= 0)  # 0 where the contraction underflows


# a stronger contraction than 1e-11 ends on the same floats
@given(a=st.floats(-50, 5), b=st.floats(-20, 50))
def test_a_point_further_out_stays_further_out(a: float, b: float) -> None:
    z = np.geomspace(1e-6, 1e3, 30)[:, None] * np.array([0.6, 0.0, -0.8])
    r_new = np.linalg.norm(numeric(Radial(), DIM).forward(z, at(a, b))[0], axis=-1)
    assert np.all(np.diff(r_new) > 0)


def test_the_centre_stays_where_it_is() -> None:
    z_ref = np.array([1.0, 2.0, 3.0])
    z_new, _ = numeric(Radial(), DIM).forward(z_ref[None], at(0.5, -1.0, z_ref))
    np.testing.assert_array_equal(z_new[0], z_ref)


def test_the_inverse_keeps_the_centre() -> None:
    z_ref = np.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(
        numeric(Radial(), DIM).inverse(z_ref[None], at(0.5, -1.0, z_ref))[0], z_ref
    )


def test_the_log_det_at_the_centre_is_that_of_the_slope_there() -> None:
    # r = 0: the map is z (1 + beta / alpha) = z softplus(b) / exp(a)
    _, log_det = numeric(Radial(), DIM).forward(np.zeros((1, DIM)), at(0.5, -1.0))
    expected = DIM * (np.log(np.logaddexp(0, -1.0)) - 0.5)
    np.testing.assert_allclose(log_det, expected, rtol=1e-14)


def test_at_the_centre_no_gradient_is_nan() -> None:
    z_ref = np.array([1.0, 2.0, 3.0])
    grads = numeric(Radial(), DIM).gradient(z_ref[None], at(0.5, -1.0, z_ref))
    assert all(np.isfinite(grad).all() for grad in grads.values())


@each_extreme
def test_extreme_parameters_have_a_finite_log_det(a: float, b: float) -> None:
    _, log_det = numeric(Radial(), DIM).forward(points(20, DIM), at(a, b))
    assert np.isfinite(log_det).all()


@each_extreme
def test_extreme_parameters_have_a_finite_gradient(a: float, b: float) -> None:
    grads = numeric(Radial(), DIM).gradient(points(20, DIM), at(a, b))
    assert all(np.isfinite(grad).all() for grad in grads.values())


@pytest.mark.parametrize(
    ("a", "b"), [(0.0, -100.0), (0.0, -800.0), (-300.0, 0.0), (0.0, 800.0)], ids=str
)
def test_the_inverse_finds_a_point_that_is_mapped_here(a: float, b: float) -> None:
    # not for a = 300, which takes every float to the centre
    fn, z = numeric(Radial(), DIM), points(20, DIM)
    there, _ = fn.forward(fn.inverse(z, at(a, b)), at(a, b))
    np.testing.assert_allclose(there, z, rtol=1e-13)  # closed form: a few hundred ulps at most


def test_1000_dimensions_do_not_overflow_the_power() -> None:
    # (r + s) / (r + alpha) to the power 999 is 1e-500 and less: no float64
    _, log_det = numeric(Radial(), 1000).forward(
        points(3, 1000), at(8.0, -1.0, start(Radial(), 1000, 0.0)["z_ref"])
    )
    assert np.all(log_det < -1150)
