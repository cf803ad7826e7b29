"""Kernels of `PlanarRun` for numba: loops over draws that the compiler can vectorise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pytensor.link.numba.dispatch import basic

from pmflow.flows.kernels.numba_math import tanh
from pmflow.flows.kernels.planar_run import PlanarRun, PlanarRunGrad

__all__ = ["register"]

_FAST = {"reassoc", "contract", "arcp", "nsz"}
"""Sums in any order; NaN and infinity keep their meaning."""

_LARGEST_EXPONENT = 900.0


def register() -> None:
    """Tell PyTensor."""
    basic.register_funcify_default_op_cache_key(PlanarRun)(_funcify_run)
    basic.register_funcify_default_op_cache_key(PlanarRunGrad)(_funcify_run_grad)


def _funcify_run(op: PlanarRun, node: Any, **kwargs: Any) -> Any:
    @basic.numba_njit(fastmath=_FAST, error_model="numpy")
    def planar_run(z0: Any, u: Any, w: Any, b: Any, margin: Any) -> Any:
        n, dim = z0.shape
        layers = len(b)
        points = np.empty((layers + 1, dim, n), z0.dtype)
        bends = np.empty((layers, n), z0.dtype)
        log_det, product = np.zeros(n, z0.dtype), np.ones(n)
        exponent = 0.0  # the product of determinants is within 2**-exponent and 2**exponent
        for i in range(n):
            for j in range(dim):
                points[0, j, i] = z0[i, j]
        for k in range(layers):
            bend, m = bends[k], margin[k]
            for i in range(n):
                bend[i] = b[k]
            for j in range(dim):
                before, direction = points[k, j], w[k, j]
                for i in range(n):
                    bend[i] += direction * before[i]
            for i in range(n):
                bend[i] = tanh(bend[i])
            for j in range(dim):
                before, after, shift = points[k, j], points[k + 1, j], u[k, j]
                for i in range(n):
                    after[i] = before[i] + shift * bend[i]
            # one logarithm for as many layers as their product can't overflow: each factor is
            # between 1 and the margin
            room = abs(math.log2(m)) if m > 0 else _LARGEST_EXPONENT
            if not exponent + room < _LARGEST_EXPONENT:
                for i in range(n):
                    log_det[i] += math.log(product[i])
                    product[i] = 1.0
                exponent = 0.0
            exponent += room
            for i in range(n):
                square = bend[i] * bend[i]
                product[i] *= square + m * (1 - square)
        for i in range(n):
            log_det[i] += math.log(product[i])
        z = np.empty((n, dim), z0.dtype)
        for i in range(n):
            for j in range(dim):
                z[i, j] = points[layers, j, i]
        return z, log_det, points, bends

    return planar_run, 1


def _funcify_run_grad(op: PlanarRunGrad, node: Any, **kwargs: Any) -> Any:
    @basic.numba_njit(fastmath=_FAST, error_model="numpy")
    def planar_run_grad(
        points: Any, bends: Any, u: Any, w: Any, margin: Any, grad_z: Any, grad_log_det: Any
    ) -> Any:
        n, dim = grad_z.shape
        layers = len(margin)
        grad, grad_s = np.empty((dim, n), points.dtype), np.empty(n, points.dtype)
        grad_u, grad_w = np.empty((layers, dim), u.dtype), np.empty((layers, dim), u.dtype)
        grad_b, grad_margin = np.empty(layers, u.dtype), np.empty(layers, u.dtype)
        for i in range(n):
            for j in range(dim):
                grad[j, i] = grad_z[i, j]
        for k in range(layers - 1, -1, -1):
            bend, m = bends[k], margin[k]
            for i in range(n):
                grad_s[i] = 0.0
            for j in range(dim):
                row, shift, total = grad[j], u[k, j], 0.0
                for i in range(n):
                    grad_s[i] += shift * row[i]
                    total += bend[i] * row[i]
                grad_u[k, j] = total
            of_margin, of_b = 0.0, 0.0
            for i in range(n):
                t = bend[i]
                slope = 1 - t * t
                share = grad_log_det[i] / (t * t + m * slope)
                s = (grad_s[i] + 2 * t * (1 - m) * share) * slope
                grad_s[i] = s
                of_margin += share * slope
                of_b += s
            grad_margin[k], grad_b[k] = of_margin, of_b
            for j in range(dim):
                before, row, direction, total = points[k, j], grad[j], w[k, j], 0.0
                for i in range(n):
                    total += grad_s[i] * before[i]
                    row[i] += grad_s[i] * direction
                grad_w[k, j] = total
        grad_z0 = np.empty((n, dim), points.dtype)
        for i in range(n):
            for j in range(dim):
                grad_z0[i, j] = grad[j, i]
        return grad_z0, grad_u, grad_w, grad_b, grad_margin

    return planar_run_grad, 1
