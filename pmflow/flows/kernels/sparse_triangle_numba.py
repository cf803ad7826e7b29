"""`SparseTriangle` for numba: loops over the entries, each along all points."""

from __future__ import annotations

from typing import Any

import numpy as np
from pytensor.link.numba.dispatch import basic

from pmflow.flows.kernels.sparse_triangle import SparseTriangle

__all__ = ["register"]


def register() -> None:
    """Tell PyTensor."""
    basic.register_funcify_default_op_cache_key(SparseTriangle)(_funcify)


def _funcify(op: SparseTriangle, node: Any, **kwargs: Any) -> Any:
    # from the last column on: T' is solved so, and T x reads each number before it is changed
    backwards = op.solves == op.transposed
    sign = -1 if op.solves else 1
    transposed = op.transposed

    @basic.numba_njit(error_model="numpy")
    def sparse_triangle(entries: Any, x: Any, rows: Any, columns: Any) -> Any:
        found = np.empty(x.shape, x.dtype)
        found[:] = x
        number = len(entries)
        for step in range(number):
            at = number - 1 - step if backwards else step
            out, into = rows[at], columns[at]
            if transposed:
                out, into = into, out
            by = sign * entries[at]
            for k in range(x.shape[1]):
                found[out, k] += by * found[into, k]
        return found

    return sparse_triangle, 1
