"""Every layer carries the score of its draws along, as the density through the inverse has it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytensor
import pytest
from numeric import numeric, points
from test_contract import CASES, STARTS_AND_WILD, dims, each_layer, layer_of, params_of

from pmflow.flows import AbstractLayer

EPS = np.finfo(np.float64).eps


def carried(layer: AbstractLayer, z: np.ndarray, params: dict[str, Any]) -> tuple[np.ndarray, ...]:
    """Images, log-determinants and scores of points from N(0, I), whose score is -z."""
    return numeric(layer, z.shape[-1], z.ndim - 1).with_score(z, params, -z)


def by_formula(layer: AbstractLayer, z: np.ndarray, params: dict[str, Any]) -> np.ndarray:
    """``J^-T (score - grad log|det J|)`` with central differences and NumPy's linear algebra."""
    fn, (n, dim), step = numeric(layer, z.shape[-1]), z.shape, 1e-5
    rows, slopes = np.empty((n, dim, dim)), np.empty((n, dim))
    for j, unit in enumerate(np.eye(dim)):
        (up, det_up), (down, det_down) = (fn.forward(z + s * unit, params) for s in (step, -step))
        rows[:, j] = (up - down) / (2 * step)  # dz' / dz_j: a row of the transposed Jacobian
        slopes[:, j] = (det_up - det_down) / (2 * step)
    return np.linalg.solve(rows, (-z - slopes)[..., None])[..., 0]


def dense(layer: AbstractLayer) -> AbstractLayer:
    """The layer with what it would inherit, as a user's layer does."""
    cls = type(f"Dense{type(layer).__name__}", (type(layer),), {})
    setattr(cls, "forward_with_score", AbstractLayer.forward_with_score)  # noqa: B010 - mypy
    return cls(**{field.name: getattr(layer, field.name) for field in fields(layer)})


@pytest.mark.slow
@each_layer
@dims(1, 2, 5)
def test_the_score_is_the_gradient_of_the_density_through_the_inverse(
    layer: AbstractLayer, dim: int
) -> None:
    fn, z = numeric(layer, dim), points(20, dim)
    for kind in STARTS_AND_WILD:
        params = params_of(layer, dim, kind)
        z_new, _, score = carried(layer, z, params)
        expected, _ = fn.score_and_logq_by_inverse(z_new, params)
        # the way back loses what the map's conditioning says, and its curvature about as much again
        condition = np.linalg.cond(fn.jacobian(z, params))
        atol = (1e-9 + 1e3 * EPS * condition.max() ** 2) * (1 + np.abs(score).max())
        np.testing.assert_allclose(score, expected, rtol=0, atol=atol, err_msg=kind)


@pytest.mark.slow
@each_layer
@dims(1, 2, 5)
def test_the_score_is_that_of_central_differences(layer: AbstractLayer, dim: int) -> None:
    z = points(20, dim)
    for kind in ("jitter 0.1", "jitter 1"):
        params = params_of(layer, dim, kind)
        score, expected = carried(layer, z, params)[2], by_formula(layer, z, params)
        # 1e-10 of second-order error and 1e-11 of rounding, times how far a layer shrinks and bends
        atol = 1e-5 * (1 + np.abs(score).max())
        np.testing.assert_allclose(score, expected, rtol=1e-5, atol=atol, err_msg=kind)


@each_layer
@dims(1, 2)
def test_points_and_log_det_are_those_of_forward(layer: AbstractLayer, dim: int) -> None:
    z, params = points(20, dim), params_of(layer, dim, "jitter 1")
    for got, expected in zip(
        carried(layer, z, params)[:2], numeric(layer, dim).forward(z, params), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.slow
@each_layer
def test_a_batch_of_scores_keeps_its_shape(layer: AbstractLayer) -> None:
    for batch in [(), (2, 5)]:
        z, params = points(*batch, 2), params_of(layer, 2, "jitter 1")
        score = carried(layer, z, params)[2]
        assert score.shape == z.shape
        flat = carried(layer, z.reshape(-1, 2), params)[2]
        np.testing.assert_allclose(score.reshape(-1, 2), flat, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
@each_layer
def test_the_closed_form_is_what_the_dense_jacobian_gives(layer: AbstractLayer) -> None:
    z, params = points(20, 5), params_of(layer, 5, "jitter 1")
    expected = carried(dense(layer), z, params)[2]
    # a spline's slopes go down to 1e-3
    np.testing.assert_allclose(carried(layer, z, params)[2], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["NUMBA", "CVM", "JAX"])
@pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS")
def test_every_backend_compiles_the_dense_jacobian(backend: str) -> None:
    if backend == "JAX":
        pytest.importorskip("jax", reason="jax is an optional extra")
    layer, z, params = (
        dense(layer_of("radial")),
        points(20, 3),
        params_of(layer_of("radial"), 3, "jitter 1"),
    )
    fn = numeric(layer, 3)
    outputs = layer.forward_with_score(fn.z, fn.params, -fn.z)
    compiled = pytensor.function([fn.z, *fn.params.values()], outputs, mode=backend)
    found = compiled(z, *(params[name] for name in fn.params))
    for got, expected in zip(found, carried(layer, z, params), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@each_layer
@dims(1, 2)
def test_float32_scores_stay_float32(layer: AbstractLayer, dim: int) -> None:
    z, params = points(5, dim), params_of(layer, dim, "jitter 0.1")
    single = numeric(layer, dim, dtype="float32").with_score(z, params, -z)
    assert {array.dtype.name for array in single} == {"float32"}
    np.testing.assert_allclose(single[2], carried(layer, z, params)[2], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("margin", [1e-3, 1e-8, 1e-14], ids="{:g}".format)
def test_nothing_cancels_where_planar_is_nearly_singular(margin: float) -> None:
    # w = (1, 0), u = (log(margin), 0.3): 1 + w.u_hat = softplus = margin, exactly enough; at the
    # bend itself the slope along w is the margin, and the exact score -(z + b bend ...) / slope
    layer, u1 = layer_of("planar"), np.log(np.expm1(margin))
    params = {"b": np.asarray(0.0), "u": np.array([u1, 0.3]), "w": np.array([1.0, 0.0])}
    z = np.array([[0.0, 0.7], [1e-9, 0.7]])
    score = carried(layer, z, params)[2]
    m = np.log1p(np.exp(u1))  # what the layer itself makes of u
    bend = np.tanh(z[:, 0])
    slope = 1 - bend**2
    det = bend**2 + m * slope
    # J^T = [[det, 0.3 slope], [0, 1]], solved by hand
    right = np.array([-z[:, 0] - 2 * bend * (1 - m) * slope / det, -z[:, 1]])
    expected = np.stack([(right[0] - 0.3 * slope * right[1]) / det, right[1]], axis=-1)
    np.testing.assert_allclose(score, expected, rtol=1e-6)


def test_every_layer_of_the_contract_is_here() -> None:
    # `each_layer` is the contract's own list
    assert len(CASES) == len(each_layer.args[1])
