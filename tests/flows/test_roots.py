"""The root solver: exact on hard cases, loud on impossible ones, right in its gradient."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytensor.tensor as pt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numeric import Array
from pytensor.tensor.variable import TensorVariable

from pmflow.errors import RootError
from pmflow.flows.roots import solve_increasing
from pmflow.graphs.evaluate import compile_once

EPS = np.finfo(np.float64).eps

# m, b, target of s + m tanh(s + b) = target, and the root, where it has a closed form
HARD: dict[str, tuple[float, float, float]] = {
    "bend at the root, slope 1e-12": (-1 + 1e-12, 5.0, -5.0),
    "bend at the root, slope 0": (-1.0, 5.0, -5.0),
    "near the bend, slope 0": (-1.0, 5.0, -5.0 + 1e-9),
    "flat, far from the bend": (-1 + 1e-12, 3.0, 40.0),
    "identity": (0.0, 3.0, 0.7),
    "steep": (1e3, -5.0, 0.3),
    "very steep": (1e6, -5.0, 3.0),
    "very steep, bend at the root": (1e6, 5.0, -5.0),
    "very steep, saturated": (1e6, 1.0, 2e6),
    "far": (2.0, 0.0, 1e12),
}


def f(s: Any, m: Any, b: Any) -> Any:
    return s + m * np.tanh(s + b)


def f_prime(s: Any, m: Any, b: Any) -> Any:
    return 1 + m * (1 - np.tanh(s + b) ** 2)


@cache
def solver(dtype: str = "float64") -> Any:
    target, m, b = (pt.vector(name, dtype=dtype) for name in ("target", "m", "b"))
    root = planar_root(target, m, b)
    return compile_once([target, m, b], [root, *pt.grad(root.sum(), [target, m, b])])


def planar_root(target: TensorVariable, m: TensorVariable, b: TensorVariable) -> TensorVariable:
    return solve_increasing(
        lambda xp, s, m, b: s + m * xp.tanh(s + b),
        lambda xp, s, m, b: 1 + m * (1 - xp.tanh(s + b) ** 2),
        target,
        lower=target - abs(m),
        upper=target + abs(m),
        args=(m, b),
    )


def solve(m: float, b: float, target: float, dtype: str = "float64") -> list[Array]:
    """Root, and its derivatives with respect to target, m and b."""
    values = (np.array([value], dtype) for value in (target, m, b))
    return [out[0] for out in solver(dtype)(*values)]


each_hard_case = pytest.mark.parametrize(("m", "b", "target"), HARD.values(), ids=HARD)


@each_hard_case
def test_a_hard_root_is_exact(m: float, b: float, target: float) -> None:
    root = solve(m, b, target)[0]
    # no float is closer to the root than an ulp of it, which f stretches by its slope
    next_float = EPS * (abs(root) * f_prime(root, m, b) + abs(target))
    assert abs(f(root, m, b) - target) <= 1e-10 + next_float


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("m", [-1.0, -0.5, 0.0, 1e3, 1e6], ids="m = {}".format)
def test_the_root_at_the_bend_is_the_bend(m: float, dtype: str) -> None:
    assert solve(m, 5.0, -5.0, dtype)[0] == -5.0


@given(margin=st.floats(1e-2, 1e6), b=st.floats(-20, 20), s=st.floats(-20, 20))
def test_a_root_that_is_known_is_found(margin: float, b: float, s: float) -> None:
    m = margin - 1
    target = float(f(s, m, b))
    slope = f_prime(s, m, b)
    # what rounding in f(s) itself makes of s: ulps of its terms over the slope
    allowed = 1e-13 + 8 * EPS * (abs(s) + abs(b) + (abs(s) + abs(m)) / slope)
    assert abs(solve(m, b, target)[0] - s) <= allowed


def test_every_point_of_a_batch_gets_its_own_root() -> None:
    m, b, target = np.array(list(HARD.values())).T
    together = solver()(target, m, b)[0]
    np.testing.assert_array_equal(together, [solve(*case)[0] for case in HARD.values()])


@pytest.mark.parametrize(
    ("m", "b", "target"),
    [(np.nan, 0.0, 1.0), (1.0, np.nan, 1.0), (1.0, 0.0, np.nan), (1.0, 0.0, np.inf)],
    ids=["m is NaN", "b is NaN", "target is NaN", "target is infinite"],
)
def test_what_is_not_finite_raises(m: float, b: float, target: float) -> None:
    with pytest.raises(RootError, match="inverse was not found at 1 of 1 points"):
        solve(m, b, target)


def test_a_bracket_without_the_root_raises() -> None:
    target = pt.dvector("target")
    root = solve_increasing(
        lambda xp, s: s**3,
        lambda xp, s: 3 * s**2,
        target,
        lower=pt.zeros_like(target) + 5,
        upper=pt.zeros_like(target) + 6,
    )
    with pytest.raises(RootError, match="inverse was not found at 1 of 1 points"):
        compile_once([target], [root])(np.array([1.0]))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("target", [0.3, -7.0, 3e4])
def test_a_steep_root_is_not_refused_for_its_rounding(target: float, dtype: str) -> None:
    # one ulp of s = 5 moves f by 1e-9 in float64 and by 0.5 in float32
    assert np.isfinite(solve(1e6, -5.0, target, dtype)[0])


SMOOTH = {
    "mild": (0.5, 0.3, 0.7),
    "near the bend": (-0.99, 0.3, -0.25),
    "contraction": (-0.8, 1.0, 2.0),
    "steep": (50.0, -1.0, 3.0),
}
each_smooth_case = pytest.mark.parametrize(("m", "b", "target"), SMOOTH.values(), ids=SMOOTH)


@each_smooth_case
def test_the_gradient_is_that_of_the_implicit_function(m: float, b: float, target: float) -> None:
    root, *gradient = solve(m, b, target)
    bend = np.tanh(root + b)
    slope = 1 + m * (1 - bend**2)
    expected = np.array([1, -bend, -m * (1 - bend**2)]) / slope
    np.testing.assert_allclose(gradient, expected, rtol=1e-12)


@each_smooth_case
def test_the_gradient_is_that_of_finite_differences(m: float, b: float, target: float) -> None:
    at, gradient = np.array([m, b, target]), solve(m, b, target)[1:]
    step = 1e-6
    differences = [
        (solve(*(at + shift))[0] - solve(*(at - shift))[0]) / (2 * step)
        for shift in step * np.eye(3)
    ]
    by_name = dict(zip(["m", "b", "target"], differences, strict=True))
    expected = [by_name[name] for name in ("target", "m", "b")]
    # rounding 1e-16 / step = 1e-10, truncation step^2 times third derivatives up to 1e6 near a bend
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-9)


@each_hard_case
def test_the_gradient_at_a_hard_root_is_finite(m: float, b: float, target: float) -> None:
    assert np.isfinite(solve(m, b, target)).all()


def test_an_argument_computed_from_another_variable_passes_the_gradient_on() -> None:
    c = pt.dscalar("c")
    target = pt.as_tensor(np.array([0.7]))
    m = pt.exp(c) * pt.ones(1)
    root = planar_root(target, m, pt.zeros(1)).sum()
    gradient = compile_once([c], [pt.grad(root, c)])
    _, _, by_m, _ = solve(np.exp(0.2), 0.0, 0.7)
    np.testing.assert_allclose(gradient(0.2)[0], by_m * np.exp(0.2), rtol=1e-12)
