"""A batch of scans gives what a loop over the batch gives, in value and gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from latent import Array, density_of
from pytensor.graph.traversal import applys_between
from pytensor.scan.op import Scan
from pytensor.scan.utils import until
from pytensor.tensor.blockwise import Blockwise
from scipy import stats

import pmflow as pmf
from pmflow.graphs.evaluate import NotVectorizedError, compile_once, vectorize_over_draws

RNG = np.random.default_rng(2)
SERIES = RNG.normal(size=6)
DRAWS = 5

# PyTensor looks for a BLAS that pip does not install; nothing here needs one
pytestmark = pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS")


def scan(*args: Any, **kwargs: Any) -> Any:
    return pytensor.scan(*args, return_updates=False, **kwargs)


# Each makes a number of a vector of length 4, and says in NumPy what it is.


def one_state(z: Any) -> Any:
    path = scan(
        lambda s, a: pt.tanh(a * s) + 0.1, outputs_info=[z[0]], non_sequences=[z[1]], n_steps=5
    )
    return (path * z[2]).sum()


def one_state_oracle(z: Array) -> float:
    state, total = z[0], 0.0
    for _ in range(5):
        state = np.tanh(z[1] * state) + 0.1
        total += state * z[2]
    return total


def two_taps(z: Any) -> Any:
    path = scan(
        lambda y, one, two, a, b: a * one + b * two + y * pt.sin(one),
        sequences=[pt.as_tensor(SERIES)],
        outputs_info=[{"initial": z[:2], "taps": [-1, -2]}],
        non_sequences=[z[2], z[3]],
    )
    return (path**2).sum() + path[-1]


def two_taps_oracle(z: Array) -> float:
    before, last = z[0], z[1]
    path = []
    for y in SERIES:
        before, last = last, z[2] * last + z[3] * before + y * np.sin(last)
        path.append(last)
    return float(np.square(path).sum() + path[-1])


def no_state(z: Any) -> Any:
    parts = scan(
        lambda x, y, a: pt.exp(a * x) * y,
        sequences=[z, pt.as_tensor(SERIES[:4])],
        non_sequences=[z[0]],
    )
    return parts.sum()


def no_state_oracle(z: Array) -> float:
    return float((np.exp(z[0] * z) * SERIES[:4]).sum())


def several_outputs(z: Any) -> Any:
    """A state, two taps and an output without a state; a sequence with taps of its own."""
    a, b, c = scan(
        lambda x, x1, y, s, t1, t2, w: [s + x * w, 0.5 * t1 - t2 * x1, s * t1 + y],
        sequences=[{"input": pt.concatenate([z, z]), "taps": [0, 1]}, pt.as_tensor(SERIES)],
        outputs_info=[z[0], {"initial": z[1:3], "taps": [-1, -2]}, None],
        non_sequences=[z[3]],
    )
    return a.sum() + (b**2).sum() + pt.sin(c).sum()


def several_outputs_oracle(z: Array) -> float:
    x = np.concatenate([z, z])
    s, t2, t1, total = z[0], z[1], z[2], 0.0
    for i in range(6):
        c = s * t1 + SERIES[i]
        s, t1, t2 = s + x[i] * z[3], 0.5 * t1 - t2 * x[i + 1], t1
        total += s + t1**2 + np.sin(c)
    return float(total)


def counting(z: Any) -> Any:
    """A whole number as a state, that depends on no draw, and one that does."""
    count, up, path = scan(
        lambda n, m, s, a: [n + 2, m + (s > 0), s * a - n],
        outputs_info=[pt.as_tensor(np.int64(1)), pt.as_tensor(np.int64(0)), z[0]],
        non_sequences=[z[1]],
        n_steps=4,
    )
    return path.sum() + (count * path).sum() + up[-1]


def counting_oracle(z: Array) -> float:
    n, m, s, total = 1, 0, z[0], 0.0
    for _ in range(4):
        n, m, s = n + 2, m + (s > 0), s * z[1] - n
        total += s + n * s
    return float(total + m)


def vector_state(z: Any) -> Any:
    """A vector as a state, a matrix of data, and products."""
    matrix = pt.as_tensor(np.arange(16.0).reshape(4, 4) / 30)
    path = scan(lambda s, m: pt.tanh(m @ s), outputs_info=[z], non_sequences=[matrix], n_steps=3)
    return path.sum() + path[-1, 0]


def vector_state_oracle(z: Array) -> float:
    matrix, s, total = np.arange(16.0).reshape(4, 4) / 30, z, 0.0
    for _ in range(3):
        s = np.tanh(matrix @ s)
        total += s.sum()
    return float(total + s[0])


def constant_output(z: Any) -> Any:
    """An output that depends on no draw beside one that does, and a start that depends on none."""
    still, path = scan(
        lambda y, k, s, a: [k * 0.5, s * a + y],
        sequences=[pt.as_tensor(SERIES)],
        outputs_info=[np.array(8.0), np.array(0.0)],
        non_sequences=[z[0]],
    )
    return (still * path).sum() * z[1]


def constant_output_oracle(z: Array) -> float:
    k, s, total = 8.0, 0.0, 0.0
    for y in SERIES:
        k, s = k * 0.5, s * z[0] + y
        total += k * s
    return float(total * z[1])


def score(z: Any) -> Any:
    """A gradient of a scan as a part of the graph: a scan whose states have several taps out."""
    return (pt.grad(two_taps(z), z) ** 2).sum()


CASES: dict[str, tuple[Callable[[Any], Any], Callable[[Array], float]]] = {
    "one state": (one_state, one_state_oracle),
    "two taps": (two_taps, two_taps_oracle),
    "no state": (no_state, no_state_oracle),
    "several outputs": (several_outputs, several_outputs_oracle),
    "whole numbers": (counting, counting_oracle),
    "a vector": (vector_state, vector_state_oracle),
    "a constant output": (constant_output, constant_output_oracle),
}
each_case = pytest.mark.parametrize(("make", "oracle"), CASES.values(), ids=CASES.keys())


def batched(make: Callable[[Any], Any]) -> tuple[Any, Any, Any]:
    """A graph of one point, the points, and the graph at all of them."""
    z, points = pt.vector("z", shape=(4,)), pt.matrix("points", shape=(None, 4))
    (many,) = vectorize_over_draws([make(z)], {z: points})
    return z, points, many


def scans_in(graph: Any) -> tuple[int, int]:
    """How many scans there are, and how many of them are run once for each draw."""
    ops = [node.op for node in applys_between([], [graph])]
    looped = [op for op in ops if isinstance(op, Blockwise) and isinstance(op.core_op, Scan)]
    return len(looped) + sum(isinstance(op, Scan) for op in ops), len(looped)


@each_case
def test_values_are_those_of_a_loop(
    make: Callable[[Any], Any], oracle: Callable[[Array], float]
) -> None:
    _, points, many = batched(make)
    assert scans_in(many) == (1, 0)
    at = RNG.normal(size=(DRAWS, 4))
    (found,) = compile_once([points], [many])(at)
    np.testing.assert_allclose(found, [oracle(row) for row in at], rtol=1e-12)


@each_case
def test_gradients_are_those_of_differences(
    make: Callable[[Any], Any], oracle: Callable[[Array], float]
) -> None:
    _, points, many = batched(make)
    gradient = compile_once([points], [pt.grad(many.sum(), points)])
    at = RNG.normal(size=(DRAWS, 4))
    step = 1e-6 * np.eye(4)
    expected = [[(oracle(z + s) - oracle(z - s)) / 2e-6 for s in step] for z in at]
    # 1e-6: differences of numbers of order 10 over the step
    np.testing.assert_allclose(gradient(at)[0], expected, rtol=1e-6, atol=1e-7)


def test_a_gradient_in_the_graph_is_batched_too() -> None:
    _, points, many = batched(score)
    total, looped = scans_in(many)
    assert total > 1
    assert looped == 0
    at = RNG.normal(size=(DRAWS, 4))
    step = 1e-6 * np.eye(4)
    expected = [
        sum(((two_taps_oracle(z + s) - two_taps_oracle(z - s)) / 2e-6) ** 2 for s in step)
        for z in at
    ]
    np.testing.assert_allclose(compile_once([points], [many])(at)[0], expected, rtol=1e-6)


@pytest.mark.parametrize("draws", [1, 2], ids=["one draw", "two draws"])
def test_any_number_of_draws_will_do(draws: int) -> None:
    _, points, many = batched(two_taps)
    at = RNG.normal(size=(draws, 4))
    (found,) = compile_once([points], [many])(at)
    assert found.shape == (draws,)
    np.testing.assert_allclose(found, [two_taps_oracle(z) for z in at], rtol=1e-12)


def test_a_loop_that_ends_on_a_condition_is_left_to_a_loop_over_draws() -> None:
    def doubling(z: Any) -> Any:
        path = scan(
            lambda s: (2 * s, until(pt.abs(s) > 4)), outputs_info=[1 + pt.abs(z[0])], n_steps=20
        )
        return path[-1]

    with pytest.raises(NotVectorizedError, match="ends on a condition"):
        batched(doubling)
    value, gradient = density_of(lambda z: -doubling(z), 2).value_and_gradient(
        np.array([[0.0, 0.0], [1.5, 0.0], [9.0, 0.0]])
    )
    # the first state beyond 4 is doubled once more: 1 2 4 8 16, 2.5 5 10, 10 20
    np.testing.assert_allclose(value, [-16.0, -10.0, -20.0])
    np.testing.assert_allclose(gradient[1:], [[-4.0, 0.0], [-2.0, 0.0]])


def test_two_batch_axes_are_left_alone() -> None:
    z, points = pt.vector("z", shape=(4,)), pt.tensor3("points", shape=(None, None, 4))
    (many,) = vectorize_over_draws([two_taps(z)], {z: points})
    assert scans_in(many) == (1, 1)
    at = RNG.normal(size=(2, 3, 4))
    expected = [[two_taps_oracle(row) for row in rows] for rows in at]
    np.testing.assert_allclose(compile_once([points], [many])(at)[0], expected, rtol=1e-12)


def test_a_scan_in_a_scan_is_right() -> None:
    def nested(z: Any) -> Any:
        def outer(s: Any, a: Any) -> Any:
            return scan(lambda t, a: t * a + 0.1, outputs_info=[s], non_sequences=[a], n_steps=2)[
                -1
            ]

        return scan(outer, outputs_info=[z[0]], non_sequences=[z[1]], n_steps=3)[-1]

    _, points, many = batched(nested)
    at = RNG.normal(size=(DRAWS, 4))
    expected = at[:, 0]
    for _ in range(6):
        expected = expected * at[:, 1] + 0.1
    np.testing.assert_allclose(compile_once([points], [many])(at)[0], expected, rtol=1e-12)


def recursion() -> pm.Model:
    with pm.Model() as model:
        rho = pm.Normal("rho", 0.0, 0.5)
        start = pm.Normal("start")
        path = scan(
            lambda y, s, rho: rho * s + 0.5 * y,
            sequences=[pt.as_tensor(SERIES)],
            outputs_info=[start],
            non_sequences=[rho],
        )
        pm.Normal("y", path, 1.0, observed=SERIES[::-1].copy())
    return model


@pytest.mark.parametrize("backend", ["numba", "jax"])
def test_the_loss_of_training_is_that_of_a_loop_over_draws(backend: str) -> None:
    if backend == "jax":
        pytest.importorskip("jax", reason="JAX is optional")
    model = recursion()
    # an approximation so narrow that all of its draws are one point: the loss has no noise
    frame = pmf.Frame(np.array([0.4, -0.7]), np.full(2, 1e-9))
    inference = pmf.NFVI("scale-loc", model=model, random_seed=3, jitter=0.0, frame=frame)
    inference.fit(1, obj_n_mc=7, backend=backend, progressbar=False)

    path, state = [], -0.7
    for y in SERIES:
        state = 0.4 * state + 0.5 * y
        path.append(state)
    norm = stats.norm.logpdf
    logp = norm(0.4, 0, 0.5) + norm(-0.7) + norm(SERIES[::-1], path).sum()
    # log q at a draw is that of its base draw, N(0, I), less the log of the scales; the mean of
    # half a chi-square of two degrees over seven draws is 1 +- 0.4
    low, high = (-2 * np.log(1e-9) - np.log(2 * np.pi) - r for r in (3.0, 0.0))
    assert low - logp < inference.hist[0] < high - logp
