"""What the hidden units of a network do to their sum."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

__all__ = ["ACTIVATIONS"]


def _relu(x: TensorVariable) -> TensorVariable:
    return pt.maximum(x, 0)


def _elu(x: TensorVariable) -> TensorVariable:
    # the minimum keeps the branch that is not taken from overflowing, in the gradient too
    return pt.switch(x > 0, x, pt.expm1(pt.minimum(x, 0)))


def _gelu(x: TensorVariable) -> TensorVariable:
    # the tanh form of Hendrycks & Gimpel (2016), https://arxiv.org/abs/1606.08415
    return 0.5 * x * (1 + pt.tanh(np.sqrt(2 / np.pi).astype(x.dtype) * (x + 0.044715 * x**3)))


ACTIVATIONS: dict[str, Callable[[TensorVariable], TensorVariable]] = {
    "tanh": pt.tanh,
    "relu": _relu,
    "elu": _elu,
    "gelu": _gelu,
    "sin": pt.sin,
}
"""What `activation=` accepts. The sine is for targets that are periodic."""
