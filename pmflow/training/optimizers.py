"""The optimiser of fits that choose their own step sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pymc.pytensorf import floatX
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.tensor.variable import TensorVariable

from pmflow.graphs.handles import HANDLE

__all__ = ["SteadyAdam"]

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

    Its handles are shared variables in what it returns and reads, by name (see `HANDLE`):
    ``learning_rate``, ``accumulate``, ``average`` and ``averaged``, the number of iterates in the
    average, which may be set to 0 to begin a new one.

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
        """Updates of one vector of parameters."""
        (gradient,), (vector,) = gradients, params
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
        return due


def _scalar(value: float, name: str) -> Any:
    return pytensor.shared(floatX(value), HANDLE.format(name))


def _vector(value: Any, name: str) -> Any:
    return pytensor.shared(value.copy(), HANDLE.format(name), shape=value.shape)
