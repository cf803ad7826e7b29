"""The kernel of `Softplus` for numba."""

from __future__ import annotations

from typing import Any

import numpy as np
from pytensor.link.numba.dispatch import basic

from pmflow.flows.kernels.numba_math import exp_of_minus, log1p_of_unit, log_of_positive
from pmflow.flows.kernels.softplus import Softplus

__all__ = ["register"]


def register() -> None:
    """Tell PyTensor."""
    basic.register_funcify_default_op_cache_key(Softplus)(_funcify)


def _funcify(op: Softplus, node: Any, **kwargs: Any) -> Any:
    @basic.numba_njit(fastmath={"contract", "nsz"}, error_model="numpy")
    def softplus(x: Any) -> Any:
        n = len(x)
        s, log_s, slope = np.empty(n, x.dtype), np.empty(n, x.dtype), np.empty(n, x.dtype)
        for i in range(n):
            at = np.float64(x[i])
            e = exp_of_minus(abs(at))
            value = max(at, 0.0) + log1p_of_unit(e)
            s[i] = value
            log_s[i] = at if at < -40.0 else log_of_positive(value)
            slope[i] = (e if at < 0 else 1.0) / (1.0 + e)
        return s, log_s, slope

    return softplus, 1
