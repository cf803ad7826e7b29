"""One vectorised, bracketed root solver for the inverses that have no closed form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.gradient import disconnected_grad
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.tensor.variable import TensorVariable

from pmflow.errors import RootError

__all__ = ["RESIDUAL_TOLERANCE", "BracketedRoot", "solve_increasing"]

RESIDUAL_TOLERANCE = {"float64": 1e-10, "float32": 1e-4}
"""The largest accepted residual, relative to the size of the right-hand side (at least 1)."""

_MAX_ITERATIONS = 200
"""Bisection alone halves any bracket of float64 numbers below one ulp within 128 of them, and
every second iteration at the latest at least halves the bracket or the step."""

type Function = Callable[..., Any]


class BracketedRoot(Op):
    """The Op behind `solve_increasing`: the root only, without a gradient.

    It runs in NumPy, also inside a function compiled by numba (as a call back to Python). An Op
    rather than a scan: a chain of scans takes PyTensor a time that grows with the square of their
    number to build, minutes for 16 layers.
    """

    __props__ = ("f", "f_prime")

    def __init__(self, f: Function, f_prime: Function) -> None:
        self.f = f
        self.f_prime = f_prime

    def make_node(self, target: Any, lower: Any, upper: Any, *args: Any) -> Apply:
        """Inputs: right-hand side, bracket, arguments of the functions; output as the first."""
        inputs = [pt.as_tensor(x) for x in (target, lower, upper, *args)]
        return Apply(self, inputs, [inputs[0].type()])

    def infer_shape(self, node: Apply, shapes: list[Any]) -> list[Any]:
        """The root has the shape of the right-hand side."""
        return [shapes[0]]

    def perform(self, node: Apply, inputs: list[Any], output_storage: list[Any]) -> None:
        """Solve with NumPy."""
        with np.errstate(all="ignore"):  # what goes wrong is found at the end, in one check
            root = _solve(self.f, self.f_prime, *inputs)
        output_storage[0][0] = np.asarray(root, dtype=node.outputs[0].dtype)


def solve_increasing(
    f: Function,
    f_prime: Function,
    target: TensorVariable,
    *,
    lower: TensorVariable,
    upper: TensorVariable,
    args: Sequence[TensorVariable] = (),
) -> TensorVariable:
    """Solve ``f(s) == target`` for an increasing `f`, elementwise.

    Newton's method inside a bracket: where a Newton step would leave the bracket, or is not half
    as long as the one before, the bracket is halved (Press et al., Numerical Recipes, section
    9.4). A last Newton step, in the graph, carries the gradient by the implicit function theorem.

    Parameters
    ----------
    f, f_prime : callable
        The function and its derivative, elementwise, called as ``f(xp, s, *args)`` where `xp` is
        NumPy or `pytensor.tensor`.
    target, lower, upper : TensorVariable, shape (*batch,)
        Right-hand side, and a bracket: ``f(lower) <= target <= f(upper)``.
    args : sequence of TensorVariable
        Further arguments of the functions, which broadcast against `target`.

    Returns
    -------
    TensorVariable, shape (*batch,)

    Raises
    ------
    RootError
        When evaluated, if a residual exceeds `RESIDUAL_TOLERANCE` (a NaN does): a wrong root is
        never returned.
    """
    inputs = [disconnected_grad(x) for x in (target, lower, upper, *args)]
    s = disconnected_grad(BracketedRoot(f, f_prime)(*inputs))
    # a slope below eps is rounding, and 0 / 0 would be NaN
    eps = np.finfo(target.dtype).eps
    return s - (f(pt, s, *args) - target) / pt.maximum(f_prime(pt, s, *args), eps)


def _solve(
    f: Function,
    f_prime: Function,
    target: NDArray[Any],
    lower: NDArray[Any],
    upper: NDArray[Any],
    *args: NDArray[Any],
) -> NDArray[Any]:
    eps = np.finfo(target.dtype).eps
    low, high = np.broadcast_to(lower, target.shape), np.broadcast_to(upper, target.shape)
    s, last = (low + high) / 2, high - low
    for _ in range(_MAX_ITERATIONS):
        residual, slope = f(np, s, *args) - target, f_prime(np, s, *args)
        low = np.where(residual < 0, s, low)
        high = np.where(residual < 0, high, s)
        newton = s - residual / slope
        good = (newton > low) & (newton < high) & (2 * abs(residual) <= abs(last * slope))
        s_next = np.where(residual == 0, s, np.where(good, newton, (low + high) / 2))
        s, last = s_next, s_next - s
        if np.all(abs(last) <= eps * (1 + abs(s))):
            break
    residual = abs(f(np, s, *args) - target)
    # where f is steep, the float next to the root may be further off than the tolerance
    next_float = 4 * eps * (1 + abs(s)) * f_prime(np, s, *args)
    tolerance = RESIDUAL_TOLERANCE[target.dtype.name]
    accepted = residual <= tolerance * (1 + abs(target)) + next_float
    if not np.all(accepted):
        raise RootError(
            f"The inverse was not found at {np.sum(~accepted)} of {accepted.size} points. "
            "Expected finite points and parameters; look for NaN or infinity in them."
        )
    return s
