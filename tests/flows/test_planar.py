"""The planar layer: invertible whatever its parameters are."""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numeric import Array, numeric, points, random_params, start

from pmflow.errors import RootError
from pmflow.flows import Planar
from pmflow.graphs.evaluate import compile_once

DIM = 3
EPS = np.finfo(np.float64).eps

_u, _w = pt.vector("u", shape=(DIM,)), pt.vector("w", shape=(DIM,))
_constrain = compile_once([_u, _w], Planar.constrain({"u": _u, "w": _w}))

size = st.floats(1e-3, 1e3)
wild = arrays(float, DIM, elements=st.just(0.0) | size | size.map(lambda x: -x))


def constrain(u: Array, w: Array) -> tuple[Array, float]:
    u_hat, margin = _constrain(u, w)
    return u_hat, float(margin)


def along_w(wu: float, b: float = 0.0) -> dict[str, Array]:
    """Parameters with the given w.u; w is the first unit vector."""
    w = np.eye(DIM)[0]
    return {"b": np.asarray(b), "u": wu * w, "w": w}


@given(u=wild, w=wild)
def test_the_margin_is_positive_until_it_underflows(u: Array, w: Array) -> None:
    margin = constrain(u, w)[1]
    assert margin > 0 or (margin == 0 and w @ u < -700)  # exp(-745) is the smallest float64


@given(u=wild, w=wild)
def test_the_margin_is_1_plus_w_u_hat(u: Array, w: Array) -> None:
    u_hat, margin = constrain(u, w)
    # what the dot products lose: a few ulps of their largest terms
    allowed = 20 * EPS * (1 + np.abs(w) @ (np.abs(u) + np.abs(u_hat)))
    if w.any():
        assert abs(1 + w @ u_hat - margin) <= allowed
    else:
        assert margin == 1


@given(u=wild, w=wild)
def test_u_is_bent_along_w_only(u: Array, w: Array) -> None:
    bend = constrain(u, w)[0] - u
    across = bend * (w @ w) - (bend @ w) * w
    size = np.abs(u).max() + np.abs(bend).max()
    assert np.all(np.abs(across) <= 50 * EPS * (w @ w) * size)  # ulps of the terms


@pytest.mark.parametrize("u", [0.0, 2.0], ids=["u = 0", "u = 2"])
def test_at_w_0_the_map_is_a_shift(u: float) -> None:
    params = {"b": np.asarray(0.5), "u": np.full(DIM, u), "w": np.zeros(DIM)}
    z = points(5, DIM)
    z_new, _ = numeric(Planar(), DIM).forward(z, params)
    np.testing.assert_allclose(z_new, z + u * np.tanh(0.5), rtol=1e-15)


def test_at_w_0_the_inverse_undoes_the_shift() -> None:
    params, z = {"b": np.asarray(0.5), "u": np.ones(DIM), "w": np.zeros(DIM)}, points(5, DIM)
    fn = numeric(Planar(), DIM)
    np.testing.assert_allclose(fn.inverse(fn.forward(z, params)[0], params), z, atol=1e-15)


def test_at_w_0_no_gradient_is_nan() -> None:
    params = {"b": np.asarray(0.5), "u": np.ones(DIM), "w": np.zeros(DIM)}
    grads = numeric(Planar(), DIM).gradient(points(5, DIM), params)
    assert all(np.isfinite(grad).all() for grad in grads.values())


@pytest.mark.parametrize("wu", [-800.0, -100.0, -40.0, 40.0, 800.0])
def test_extreme_parameters_have_a_finite_log_det(wu: float) -> None:
    log_det = numeric(Planar(), DIM).forward(points(20, DIM), along_w(wu))[1]
    assert np.isfinite(log_det).all()


@pytest.mark.parametrize("wu", [-800.0, -100.0, -40.0, 40.0, 800.0])
def test_extreme_parameters_have_a_finite_gradient(wu: float) -> None:
    grads = numeric(Planar(), DIM).gradient(points(20, DIM), along_w(wu))
    assert all(np.isfinite(grad).all() for grad in grads.values())


def test_log_det_keeps_its_digits_where_the_papers_form_cancels() -> None:
    # at the bend, with w.u = -40, det is the margin itself: 1 + (margin - 1) would be 0
    z = np.zeros((1, DIM))
    _, log_det = numeric(Planar(), DIM).forward(z, along_w(-40.0))
    np.testing.assert_allclose(log_det, -40.0, rtol=1e-15)  # softplus(-40) = exp(-40) (1 - 2e-18)


@pytest.mark.parametrize("wu", [-800.0, -40.0, -17.0, 40.0, 1e3])
def test_the_inverse_finds_a_point_that_is_mapped_here(wu: float) -> None:
    # the other way round can't be asked for: near the bend many points are mapped to one float
    fn, z, params = numeric(Planar(), DIM), points(20, DIM), along_w(wu, b=5.0)
    there, _ = fn.forward(fn.inverse(z, params), params)
    # s + b, up to 10, is rounded, then stretched by 1 + w.u on the way forth
    np.testing.assert_allclose(there, z, rtol=0, atol=10 * EPS * (1 + max(wu, 0)))


def steep(m: float) -> dict[str, Array]:
    """Parameters with ``w.u_hat = m``, along a w that is no axis."""
    w, across = np.array([0.6, -0.8, 0.5]), np.array([0.24, 0.18, 0.0])
    wu = m + 1 + np.log1p(-np.exp(-m - 1))  # softplus(w.u) = 1 + m
    return {"b": np.asarray(0.7), "u": wu / (w @ w) * w + across, "w": w}


@pytest.mark.parametrize("m", [1e3, 1e6], ids="m = {:g}".format)
def test_a_steep_bend_is_undone_without_losing_m_twice(m: float) -> None:
    fn, z, params = numeric(Planar(), DIM), points(200, DIM), steep(m)
    there, _ = fn.forward(fn.inverse(z, params), params)
    # a point on the base's side, up to 10, is rounded, then stretched by 1 + m on the way forth
    np.testing.assert_allclose(there, z, rtol=0, atol=10 * EPS * (1 + m))


@pytest.mark.parametrize("m", [1e3, 1e6], ids="m = {:g}".format)
def test_what_a_steep_bend_stretched_goes_back(m: float) -> None:
    fn, z, params = numeric(Planar(), DIM), points(200, DIM), steep(m)
    back = fn.inverse(fn.forward(z, params)[0], params)
    # the image, of size m, is rounded; nothing shrinks that where tanh is flat
    np.testing.assert_allclose(back, z, rtol=0, atol=10 * EPS * (1 + m))


@pytest.mark.parametrize("m", [-0.5, 0.9, 1.1, 1e3], ids="m = {:g}".format)
def test_there_and_back_has_the_gradient_of_the_identity(m: float) -> None:
    fn, z, params = numeric(Planar(), DIM), points(20, DIM), steep(m)
    there, _ = Planar().forward(Planar().inverse(fn.z, fn.params), fn.params)
    weights = np.cos(np.arange(z.size)).reshape(z.shape)
    inputs = [fn.z, *fn.params.values()]
    grads = compile_once(inputs, pt.grad((weights * there).sum(), inputs))
    found, *others = grads(z, *(params[name] for name in fn.params))
    # the terms that cancel are up to 10 (1 + m), of 20 points
    allowed = 1_000 * EPS * (1 + abs(m))
    np.testing.assert_allclose(found, weights, rtol=0, atol=allowed)
    for grad in others:  # whatever the parameters are
        np.testing.assert_allclose(grad, 0, atol=allowed)


def test_the_image_of_the_bend_goes_back_to_the_bend_where_the_slope_rounds_to_0() -> None:
    z = np.array([[-5.0, 1.0, 2.0]])
    np.testing.assert_array_equal(numeric(Planar(), DIM).inverse(z, along_w(-800.0, b=5.0)), z)


def test_a_point_that_is_not_finite_has_no_inverse() -> None:
    z = points(4, DIM)
    z[2, 1] = np.nan
    with pytest.raises(RootError, match="not found at 1 of 4 points"):
        numeric(Planar(), DIM).inverse(z, random_params(Planar(), DIM))


def test_at_jitter_0_the_offset_has_no_gradient_as_the_docstring_says() -> None:
    grads = numeric(Planar(), DIM).gradient(points(20, DIM), start(Planar(), DIM, 0.0))
    # 1e-13: u_hat is a few ulps, not 0
    assert {name for name in "buw" if np.abs(grads[name]).max() > 1e-13} == {"u", "w"}
