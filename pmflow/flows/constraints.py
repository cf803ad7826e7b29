"""Maps from unconstrained parameters to constrained ones, shared by the layers."""

from __future__ import annotations

import math

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

__all__ = ["SOFTPLUS_ONE", "norm"]

SOFTPLUS_ONE = math.log(math.expm1(1.0))
"""The number whose softplus is 1: where a softplus-constrained scale starts at the identity."""


def norm(x: TensorVariable) -> TensorVariable:
    """Euclidean norm over the last axis, with the gradient 0 (not NaN) at the origin."""
    # tiny is lost in every sum above 1e-292 (float64), so the norm stays exact
    tiny = np.finfo(x.dtype).tiny
    return pt.sqrt((x**2).sum(-1) + tiny)
