"""One vectorised, bracketed root solver for the inverses that have no closed form."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.gradient import disconnected_grad
from pytensor.raise_op import Assert
from pytensor.scan.utils import until
from pytensor.tensor.variable import TensorVariable

__all__ = ["RESIDUAL_TOLERANCE", "solve_increasing"]

RESIDUAL_TOLERANCE = {"float64": 1e-10, "float32": 1e-4}
"""The largest accepted residual, relative to the size of the right-hand side (at least 1)."""

_MAX_ITERATIONS = 128
"""Bisection alone halves a float64 bracket of any width below 1 ulp within this many steps."""


def solve_increasing(
    f: Callable[..., TensorVariable],
    f_prime: Callable[..., TensorVariable],
    target: TensorVariable,
    *,
    lower: TensorVariable,
    upper: TensorVariable,
    args: Sequence[TensorVariable] = (),
) -> TensorVariable:
    """Solve ``f(s) == target`` for an increasing `f`, elementwise.

    Newton's method inside a bracket: where a Newton step would leave the bracket, or shrinks it
    too slowly, the bracket is halved (Press et al., Numerical Recipes, section 9.4). The last
    Newton step carries the gradient, by the implicit function theorem; the iterations themselves
    are not differentiated.

    Parameters
    ----------
    f, f_prime : callable
        The function and its derivative, elementwise, called with ``(s, *args)``.
    target, lower, upper : TensorVariable, shape (*batch,)
        Right-hand side, and a bracket: ``f(lower) <= target <= f(upper)``.
    args : sequence of TensorVariable
        Every variable that the functions use: one they closed over would be computed anew, with
        all that it depends on, in each iteration.

    Returns
    -------
    TensorVariable, shape (*batch,)

    Raises
    ------
    AssertionError
        When evaluated, if a residual exceeds `RESIDUAL_TOLERANCE` and what rounding of the root
        itself explains (a NaN does).
    """
    low, high = disconnected_grad(lower), disconnected_grad(upper)
    eps = np.finfo(target.dtype).eps

    def step(
        s: TensorVariable,
        last: TensorVariable,
        low: TensorVariable,
        high: TensorVariable,
        goal: TensorVariable,
        *args: TensorVariable,
    ) -> tuple[list[TensorVariable], until]:
        residual, slope = f(s, *args) - goal, f_prime(s, *args)
        low = pt.switch(residual < 0, s, low)
        high = pt.switch(residual < 0, high, s)
        newton = s - residual / slope
        # halve unless Newton stays inside and at least halves the step before
        good = (newton > low) & (newton < high) & (2 * abs(residual) <= abs(last * slope))
        s_next = pt.switch(pt.eq(residual, 0), s, pt.switch(good, newton, (low + high) / 2))
        taken = s_next - s
        return [s_next, taken, low, high], until(pt.all(abs(taken) <= eps * (1 + abs(s_next))))

    start, width = (low + high) / 2, high - low
    outputs = pytensor.scan(
        step,
        outputs_info=[start, width, low, high],
        non_sequences=[disconnected_grad(x) for x in (target, *args)],
        n_steps=_MAX_ITERATIONS,
        strict=True,
        return_updates=False,
    )
    s = disconnected_grad(outputs[0][-1])
    residual = f(s, *args) - target
    tolerance = RESIDUAL_TOLERANCE[target.dtype]
    # where f is steep, the float next to the root may be further off than the tolerance
    next_float = 4 * eps * (1 + pt.abs(s)) * f_prime(s, *args)
    converged = pt.all(pt.abs(residual) <= tolerance * (1 + pt.abs(target)) + next_float)
    s = Assert("the bracketed root solve did not converge: the point or a parameter is not finite")(
        s, converged
    )
    # a slope below eps is rounding, and 0 / 0 would be NaN
    return s - (f(s, *args) - target) / pt.maximum(f_prime(s, *args), eps)
