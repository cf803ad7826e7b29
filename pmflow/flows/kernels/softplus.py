"""Softplus, its logarithm and its derivative as one Op, from one exponential."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.kernels.imports import with_kernels

__all__ = ["Softplus", "softplus_and_log"]


@with_kernels("softplus")
class Softplus(Op):
    """Softplus of a vector, its logarithm and its slope: ``s = log(1 + e^x)``, ``log s``, ``s'``.

    Compilers compute each of them and of their gradients by a call of the C library for each
    number: two thirds of a step of a mean-field approximation. Here they are one loop.
    """

    __props__ = ()

    def make_node(self, x: Any) -> Apply:
        """One vector in, three out."""
        x = pt.as_tensor(x)
        if x.ndim != 1:
            raise TypeError(f"Softplus needs a vector, but x has {x.ndim} dimensions.")
        return Apply(self, [x], [x.type(), x.type(), x.type()])

    def infer_shape(self, node: Apply, shapes: list[Any]) -> list[Any]:
        """All have the shape of the input."""
        return [shapes[0]] * 3

    def perform(self, node: Apply, inputs: list[Any], output_storage: list[Any]) -> None:
        """Do it in NumPy."""
        for storage, value in zip(output_storage, _softplus(inputs[0]), strict=True):
            storage[0] = np.asarray(value, dtype=node.outputs[0].dtype)

    def pullback(self, inputs: list[Any], outputs: list[Any], cotangents: list[Any]) -> list[Any]:
        """Products with the third output: no exponential is computed again."""
        s, log_s, slope = outputs
        grad_s, grad_log_s, grad_slope = (
            x.zeros_like() if isinstance(g.type, DisconnectedType) else g
            for x, g in zip(outputs, cotangents, strict=True)
        )
        # d log(s) / dx = slope / s, which is 1 where s underflows
        log_slope = pt.switch(log_s < _LINEAR, 1, slope / s)
        return [grad_s * slope + grad_log_s * log_slope + grad_slope * slope * (1 - slope)]


_LINEAR = -40.0
"""Below this, log(s) is x to the last digit of float64."""


def softplus_and_log(x: TensorVariable) -> tuple[TensorVariable, TensorVariable]:
    """``log(1 + exp(x))`` and its logarithm, each of the shape of the vector `x`.

    The logarithm is finite, with a finite gradient, for every finite `x`.
    """
    s, log_s, _ = Softplus()(x)
    return s, log_s


def _softplus(x: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    with np.errstate(under="ignore", divide="ignore"):
        e = np.exp(-np.abs(x))
        s = np.maximum(x, 0) + np.log1p(e)
        log_s = np.where(x < _LINEAR, x, np.log(np.maximum(s, np.finfo(x.dtype).tiny)))
    return s, log_s, np.where(x < 0, e, 1) / (1 + e)
