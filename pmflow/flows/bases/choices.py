"""Means over draws that chose among finitely many components."""

from __future__ import annotations

from collections.abc import Sequence

import pytensor.tensor as pt
from pytensor.gradient import disconnected_grad
from pytensor.tensor.variable import TensorVariable

__all__ = ["mean_with_choices"]


def mean_with_choices(
    values: TensorVariable, log_choices: Sequence[TensorVariable]
) -> TensorVariable:
    """Mean over draws, with a gradient that is right also where draws choose among components.

    The probability of a choice gets its gradient from a term that is zero: its log less its own
    value, times the distance of a draw's value from the mean of the others (Kool et al., 2019, Buy
    4 REINFORCE samples, get a baseline for free).

    Parameters
    ----------
    values : TensorVariable, shape (draws,)
    log_choices : sequence of TensorVariable, each of shape (draws,)
        Log probabilities of the choices behind each draw; without any it is the mean.

    Returns
    -------
    TensorVariable, shape ()
    """
    mean = values.mean(0)
    if not log_choices:
        return mean
    log_choice = sum(log_choices[1:], log_choices[0])
    draws = values.shape[0].astype(values.dtype)
    away = disconnected_grad((values - mean) * draws / pt.maximum(draws - 1, 1))
    return mean + ((log_choice - disconnected_grad(log_choice)) * away).mean(0)
