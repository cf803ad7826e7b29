"""The householder layer is a reflection, to the last digit that float64 has."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numeric import Array, numeric, points, start

from pmflow.flows import Householder

DIM = 4

size = st.floats(1e-3, 1e3)
directions = arrays(float, DIM, elements=st.just(0.0) | size | size.map(lambda x: -x))


def matrix(v: Array) -> Array:
    """The matrix of the layer: the images of the unit vectors, which are its rows and columns."""
    dim = len(v)
    return numeric(Householder(), dim).forward(np.eye(dim), {"v": v})[0]


@given(directions)
def test_it_is_orthogonal(v: Array) -> None:
    np.testing.assert_allclose(matrix(v) @ matrix(v).T, np.eye(DIM), rtol=0, atol=1e-12)


@given(directions)
def test_it_is_its_own_inverse(v: Array) -> None:
    np.testing.assert_allclose(matrix(v) @ matrix(v), np.eye(DIM), rtol=0, atol=1e-12)


@given(directions)
def test_it_is_symmetric(v: Array) -> None:
    np.testing.assert_allclose(matrix(v), matrix(v).T, rtol=0, atol=1e-12)


@given(directions)
def test_forward_and_inverse_are_the_same(v: Array) -> None:
    z, fn = points(3, DIM), numeric(Householder(), DIM)
    np.testing.assert_array_equal(fn.forward(z, {"v": v})[0], fn.inverse(z, {"v": v}))


@given(directions.filter(lambda v: bool(v.any())))
def test_v_itself_is_turned_around(v: Array) -> None:
    z_new, _ = numeric(Householder(), DIM).forward(v[None], {"v": v})
    np.testing.assert_allclose(z_new[0], -v, rtol=0, atol=1e-12 * np.abs(v).max())


@given(directions.filter(lambda v: bool(v.any())), st.floats(1e-6, 1e6))
def test_only_the_direction_of_v_matters(v: Array, factor: float) -> None:
    np.testing.assert_allclose(matrix(factor * v), matrix(v), rtol=0, atol=1e-12)


def test_at_v_0_it_is_the_identity() -> None:
    np.testing.assert_array_equal(matrix(np.zeros(DIM)), np.eye(DIM))


def test_at_v_0_no_gradient_is_nan() -> None:
    grads = numeric(Householder(), DIM).gradient(points(3, DIM), {"v": np.zeros(DIM)})
    assert all(np.isfinite(grad).all() for grad in grads.values())


def test_in_1000_dimensions_it_is_orthogonal() -> None:
    h = matrix(start(Householder(), 1000, 0.0)["v"])
    np.testing.assert_allclose(h @ h.T, np.eye(1000), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dim", [2, 1000], ids="dim {}".format)
def test_the_start_has_length_near_1(dim: int) -> None:
    lengths = [np.linalg.norm(start(Householder(), dim, 0.1, seed)["v"]) for seed in range(50)]
    # the mean squared length is 1 with standard error sqrt(2 / (50 dim)) <= 0.15; 4 of them
    assert abs(np.mean(np.square(lengths)) - 1) < 4 * np.sqrt(2 / (50 * dim))
