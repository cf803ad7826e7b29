"""Optimisers: that of fits that choose their own step sizes, and PyMC's by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pymc.pytensorf import floatX
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.tensor.variable import TensorVariable

from pmflow.records import State

__all__ = [
    "ELEMENTWISE",
    "OptimizerState",
    "SteadyAdam",
    "named_optimizer",
    "optimizer_key",
    "optimizer_name",
    "optimizer_rate",
]

ELEMENTWISE = (
    *(pm.adadelta, pm.adagrad, pm.adagrad_window, pm.adam, pm.adamax),
    *(pm.momentum, pm.nesterov_momentum, pm.rmsprop, pm.sgd),
)
"""Optimisers of PyMC: each does the same to every number, so that one vector does for all
parameters, and a file can name it."""

_NAMED: dict[str, Callable[..., Any]] = {f.__name__: f for f in ELEMENTWISE}
_STEADY = "steady_adam"

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8
_MEDIAN_STEP = 0.02


@dataclass(frozen=True)
class SteadyAdam:
    r"""Adam, with what a schedule needs to take hold of.

    - Gradients longer than `clip` times the running median of their lengths are shortened to that:
      one wild draw does not spoil the averages of Adam. The median of the logarithm is followed by
      steps of its sign.
    - `accumulate` steps make one: their mean gradient has the noise of as many more draws, and
      nothing has to be compiled anew.
    - The mean of the iterates is kept (Polyak & Juditsky, 1992,
      https://doi.org/10.1137/0330046).

    Parameters
    ----------
    clip : float
        In units of the running median.

    References
    ----------
    Kingma & Ba (2015), Adam, https://arxiv.org/abs/1412.6980
    """

    clip: float = 2.0

    def __call__(
        self, gradients: list[TensorVariable], params: list[SharedVariable]
    ) -> dict[SharedVariable, TensorVariable]:
        """Updates as those of PyMC's optimisers, for one vector of parameters."""
        return self.updates(*gradients, *params)[0]

    def updates(
        self, gradient: TensorVariable, vector: SharedVariable
    ) -> tuple[dict[SharedVariable, TensorVariable], dict[str, SharedVariable]]:
        """Updates of a vector of parameters, and the handles of a schedule on them.

        The handles are shared variables by name: ``learning_rate``, ``accumulate``, ``average`` and
        ``averaged``, the number of iterates in the average, which may be set to 0 to begin a new
        one.
        """
        zeros = np.zeros_like(vector.get_value())
        rate, accumulate = _scalar(0.01, "learning_rate"), _scalar(1.0, "accumulate")
        summed, count = _vector(zeros, "summed"), _scalar(0.0, "count")
        first, second = _vector(zeros, "first_moment"), _vector(zeros, "second_moment")
        steps, median = _scalar(0.0, "steps"), _scalar(0.0, "median_log_norm")
        average, averaged = _vector(zeros, "average"), _scalar(0.0, "averaged")

        new_sum = summed + gradient
        is_due = pt.ge(count + 1, accumulate)
        mean = new_sum / (count + 1)
        norm = pt.sqrt((mean**2).sum()) + np.finfo(zeros.dtype).tiny
        log_norm = pt.log(norm)
        new_median = pt.switch(
            pt.eq(steps, 0),
            log_norm,
            median + pt.maximum(_MEDIAN_STEP, 1 / (1 + steps)) * pt.sign(log_norm - median),
        )
        clipped = mean * pt.minimum(1.0, self.clip * pt.exp(new_median - log_norm))
        t = steps + 1
        new_first = _BETA1 * first + (1 - _BETA1) * clipped
        new_second = _BETA2 * second + (1 - _BETA2) * clipped**2
        unbiased = pt.sqrt(1 - _BETA2**t) / (1 - _BETA1**t)
        new_vector = vector - rate * unbiased * new_first / (pt.sqrt(new_second) + _EPSILON)
        new_averaged = averaged + 1
        updates = {
            vector: new_vector,
            first: new_first,
            second: new_second,
            steps: t,
            median: new_median,
            average: average + (new_vector - average) / new_averaged,
            averaged: new_averaged,
        }
        due = {old: pt.switch(is_due, new, old) for old, new in updates.items()}
        due[summed] = pt.switch(is_due, 0, new_sum)
        due[count] = pt.switch(is_due, 0, count + 1)
        handles = {
            "learning_rate": rate,
            "accumulate": accumulate,
            "average": average,
            "averaged": averaged,
        }
        return due, handles


def _scalar(value: float, name: str) -> Any:
    return pytensor.shared(floatX(value), f"pmflow_{name}")


def _vector(value: Any, name: str) -> Any:
    return pytensor.shared(value.copy(), f"pmflow_{name}", shape=value.shape)


def optimizer_rate(optimizer: Any) -> float | None:
    """The learning rate of one of PyMC's optimisers where it is a number."""
    if getattr(optimizer, "func", None) not in ELEMENTWISE:
        return None
    rate = optimizer.keywords.get("learning_rate")
    return float(rate) if isinstance(rate, int | float | np.number) else None


def optimizer_key(optimizer: Any) -> Any:
    """Equal for optimisers that differ in nothing but the learning rate."""
    if optimizer_rate(optimizer) is None:
        return optimizer
    return optimizer.func, {k: v for k, v in optimizer.keywords.items() if k != "learning_rate"}


@dataclass(frozen=True)
class OptimizerState(State):
    """The name of an optimiser, and the numbers that it was given."""

    name: str
    options: dict[str, float | int | bool | None]


def optimizer_name(optimizer: Any) -> OptimizerState | None:
    """An optimiser as a file can name it, None for one of the user's own."""
    if isinstance(optimizer, SteadyAdam):
        return OptimizerState(_STEADY, {"clip": optimizer.clip})
    function = getattr(optimizer, "func", optimizer)
    given = getattr(optimizer, "keywords", None) or {}
    name = getattr(function, "__name__", "")
    if _NAMED.get(name) is not function or len(getattr(optimizer, "args", "")):
        return None
    if not all(v is None or isinstance(v, bool | int | float | np.number) for v in given.values()):
        return None
    numbers = {k: v.item() if isinstance(v, np.number) else v for k, v in given.items()}
    return OptimizerState(name, numbers)


def named_optimizer(state: OptimizerState) -> Any:
    """What `optimizer_name` named: one of the list, with numbers as arguments.

    Raises
    ------
    KeyError, TypeError
        If there is no such optimiser, or the numbers are not its own.
    """
    if state.name == _STEADY:
        return SteadyAdam(**state.options)  # type: ignore[arg-type]
    function = _NAMED[state.name]
    _check_options(function, state.options)
    return partial(function, **state.options)


def _check_options(function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    known = {*inspect.signature(function).parameters} - {"loss_or_grads", "params"}
    if not set(options) <= known:
        raise TypeError("the options of the optimiser are not its own")
