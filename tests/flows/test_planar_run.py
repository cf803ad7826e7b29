"""Planar layers as one Op: each kernel against the layers one by one, and against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.typing import NDArray

from pmflow.flows import Planar
from pmflow.flows.base import AbstractLayer
from pmflow.flows.kernels.planar_run import PlanarRun, PlanarRunGrad
from pmflow.graphs.evaluate import compile_once

RNG = np.random.default_rng(3)
Arrays = list[NDArray[Any]]


def params_of(layers: int, dim: int, spread: float) -> list[dict[str, Any]]:
    return [
        {
            "b": pt.as_tensor(spread * RNG.normal()),
            "u": pt.as_tensor(spread * RNG.normal(size=dim)),
            "w": pt.as_tensor(spread * RNG.normal(size=dim)),
        }
        for _ in range(layers)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("layers", "dim"), [(1, 1), (2, 3), (9, 2)])
@pytest.mark.parametrize("shape", [(7,), (), (2, 3)], ids=["batch", "point", "batches"])
def test_a_run_is_its_layers_one_by_one(layers: int, dim: int, shape: tuple[int, ...]) -> None:
    z = pt.tensor("z", dtype="float64", shape=(*shape, dim))
    params = params_of(layers, dim, 1.5)
    flat = [p[name] for p in params for name in ("b", "u", "w")]
    weights = RNG.normal(size=(*shape, dim))
    outputs: list[Any] = []
    for forward_run in (Planar.forward_run, AbstractLayer.forward_run):
        z_new, log_det = forward_run(Planar(), z, params)
        loss = (z_new * weights).sum() + (log_det**2).sum()
        outputs += [z_new, log_det, *pt.grad(loss, [z, *flat])]
    results = compile_once([z], outputs)(RNG.normal(size=(*shape, dim)))
    half = len(results) // 2
    for found, expected in zip(results[:half], results[half:], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)


def compiled(op: Any, mode: str) -> Callable[..., Arrays]:
    if mode == "JAX":
        pytest.importorskip("jax", reason="jax is an optional extra")
    ndims = [2, 2, 2, 1, 1] if isinstance(op, PlanarRun) else [3, 2, 2, 2, 1, 2, 1]
    inputs = [pt.tensor(dtype="float64", shape=(None,) * ndim) for ndim in ndims]
    outputs: list[Any] = op.make_node(*inputs).outputs
    function = pytensor.function(inputs, outputs, mode=mode)
    return lambda *arrays: [np.asarray(x) for x in function(*arrays)]


@pytest.fixture(scope="module", params=["NUMBA", "JAX"])
def kernels(request: pytest.FixtureRequest) -> tuple[Callable[..., Arrays], Callable[..., Arrays]]:
    return compiled(PlanarRun(), request.param), compiled(PlanarRunGrad(), request.param)


def oracle(op: Any, *arrays: NDArray[Any]) -> Arrays:
    node = op.make_node(*arrays)
    storage: list[list[Any]] = [[None] for _ in node.outputs]
    op.perform(node, list(arrays), storage)
    return [cell[0] for cell in storage]


CASES: dict[str, tuple[int, int, int, Callable[[int], NDArray[Any]]]] = {
    "usual": (8, 2, 100, lambda k: np.exp(RNG.normal(size=k))),
    "one draw": (2, 3, 1, lambda k: np.exp(RNG.normal(size=k))),
    "many layers": (60, 4, 33, lambda k: np.exp(RNG.normal(size=k))),
    "many dimensions": (3, 500, 17, lambda k: np.exp(RNG.normal(size=k))),
    # the product of the determinants of all layers is far outside of what a float can hold
    "near the border": (40, 2, 50, lambda k: np.full(k, 1e-40)),
    "steep": (40, 2, 50, lambda k: np.full(k, 1e40)),
    "beyond": (3, 2, 50, lambda k: np.array([1e-320, 1e300, 1e305])),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_kernels_do_what_numpy_does(
    kernels: tuple[Callable[..., Arrays], Callable[..., Arrays]], case: str
) -> None:
    layers, dim, draws, margins = CASES[case]
    rng = np.random.default_rng(5)
    z0, u, w = (rng.normal(size=(n, dim)) / np.sqrt(dim) for n in (draws, layers, layers))
    u /= layers
    # a tanh within rounding of 1 has a slope that is rounding only, which a margin makes large
    b, margin = rng.normal(size=layers), margins(layers)
    run, run_grad = kernels
    found, expected = run(z0, u, w, b, margin), oracle(PlanarRun(), z0, u, w, b, margin)
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-11)
    given = (*expected[2:], u, w, margin, rng.normal(size=(draws, dim)), rng.normal(size=draws))
    with np.errstate(all="ignore"):
        expected = oracle(PlanarRunGrad(), *given)
    for x, y in zip(run_grad(*given), expected, strict=True):
        scale = np.abs(y[np.isfinite(y)]).max(initial=1.0)
        np.testing.assert_allclose(x / scale, y / scale, rtol=1e-9, atol=1e-12)


def test_the_tanh_is_that_of_numpy(
    kernels: tuple[Callable[..., Arrays], Callable[..., Arrays]],
) -> None:
    # one layer with w = 1, b = 0 and no margin: its tanh is the fourth output
    x = np.concatenate([np.linspace(-25, 25, 20_001), [1e-300, -1e-9, 400.0, -1e300, np.inf]])
    one = np.ones((1, 1))
    bend = kernels[0](x[:, None], one, one, np.zeros(1), np.ones(1))[3][0]
    np.testing.assert_allclose(bend, np.tanh(x), rtol=0, atol=1e-15)


def test_nan_stays_nan(kernels: tuple[Callable[..., Arrays], Callable[..., Arrays]]) -> None:
    one = np.ones((1, 1))
    outputs = kernels[0](np.array([[np.nan], [0.5]]), one, one, np.zeros(1), np.ones(1))
    for output in (outputs[0][:, 0], outputs[1], outputs[3][0]):
        np.testing.assert_array_equal(np.isnan(output), [True, False])
