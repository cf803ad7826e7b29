"""Planar layers one after the other as one Op, with kernels of its own for each backend.

Written layer by layer in PyTensor, eight planar layers are some fifty loops over small arrays,
each compiled apart. As one Op they are one loop forward and one backward, compiled once for every
number of layers, draws and dimensions.
"""

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

__all__ = ["PlanarRun", "PlanarRunGrad", "planar_run"]


@with_kernels("planar")
class PlanarRun(Op):
    r"""K planar layers in sequence.

    Inputs: ``z0`` (n, dim), ``u_hat`` (K, dim), ``w`` (K, dim), ``b`` (K,) and ``margin`` (K,),
    which is :math:`1 + w^\top \hat u`. Outputs: ``z`` (n, dim) and the sum of log-determinants
    (n,); and, for the gradient, the points before and after each layer (K + 1, dim, n) and each
    layer's tanh (K, n).
    """

    __props__ = ()

    def make_node(self, *inputs: Any) -> Apply:
        """Check dimensions and make the outputs."""
        z0, u, w, b, margin = map(pt.as_tensor, inputs)
        if [x.ndim for x in (z0, u, w, b, margin)] != [2, 2, 2, 1, 1]:
            raise TypeError("PlanarRun needs a matrix of points, two of parameters, two vectors.")
        (n, dim), layers = z0.type.shape, u.type.shape[0]
        outputs = [
            z0.type(),
            pt.tensor(dtype=z0.dtype, shape=(n,)),
            pt.tensor(dtype=z0.dtype, shape=(None if layers is None else layers + 1, dim, n)),
            pt.tensor(dtype=z0.dtype, shape=(layers, n)),
        ]
        return Apply(self, [z0, u, w, b, margin], outputs)

    def infer_shape(self, node: Apply, shapes: list[Any]) -> list[Any]:
        """Shapes of the outputs by those of the inputs."""
        (n, dim), (layers, _) = shapes[:2]
        return [(n, dim), (n,), (layers + 1, dim, n), (layers, n)]

    def perform(self, node: Apply, inputs: list[Any], output_storage: list[Any]) -> None:
        """Do it in NumPy, layer by layer."""
        for storage, value in zip(output_storage, _forward(*inputs), strict=True):
            storage[0] = np.asarray(value, dtype=node.outputs[0].dtype)

    def pullback(self, inputs: list[Any], outputs: list[Any], cotangents: list[Any]) -> list[Any]:
        """The gradient, by the backward kernel."""
        _, u, w, _, margin = inputs
        grad_z, grad_log_det = (
            x.zeros_like() if isinstance(g.type, DisconnectedType) else g
            for x, g in zip(outputs[:2], cotangents[:2], strict=True)
        )
        return PlanarRunGrad()(*outputs[2:], u, w, margin, grad_z, grad_log_det)


@with_kernels("planar")
class PlanarRunGrad(Op):
    """Gradients of `PlanarRun` with respect to its inputs, in their order."""

    __props__ = ()

    def make_node(self, *inputs: Any) -> Apply:
        """Inputs: points, tanh, ``u_hat``, ``w``, ``margin``, gradients of ``z`` and log-det."""
        points, bends, u, w, margin, grad_z, grad_log_det = map(pt.as_tensor, inputs)
        outputs = [grad_z.type(), u.type(), w.type(), margin.type(), margin.type()]
        return Apply(self, [points, bends, u, w, margin, grad_z, grad_log_det], outputs)

    def infer_shape(self, node: Apply, shapes: list[Any]) -> list[Any]:
        """Shapes of the outputs by those of the inputs."""
        return [shapes[5], shapes[2], shapes[3], shapes[4], shapes[4]]

    def perform(self, node: Apply, inputs: list[Any], output_storage: list[Any]) -> None:
        """Do it in NumPy, layer by layer from the last."""
        for storage, value in zip(output_storage, _backward(*inputs), strict=True):
            storage[0] = np.asarray(value, dtype=node.outputs[0].dtype)


def planar_run(
    z: TensorVariable,
    u_hat: TensorVariable,
    w: TensorVariable,
    b: TensorVariable,
    margin: TensorVariable,
) -> tuple[TensorVariable, TensorVariable]:
    """K planar layers in sequence.

    Parameters
    ----------
    z : TensorVariable, shape (*batch, dim)
    u_hat, w : TensorVariable, shape (K, dim)
    b, margin : TensorVariable, shape (K,)

    Returns
    -------
    z_new : TensorVariable, shape (*batch, dim)
    log_det : TensorVariable, shape (*batch,)
    """
    points = z if z.ndim == 2 else z.reshape((-1, z.shape[-1]))
    z_new, log_det = PlanarRun()(points, u_hat, w, b, margin)[:2]
    if z.ndim == 2:
        return z_new, log_det
    return z_new.reshape(z.shape), log_det.reshape(z.shape[:-1])


def _forward(
    z0: NDArray[Any], u: NDArray[Any], w: NDArray[Any], b: NDArray[Any], margin: NDArray[Any]
) -> tuple[NDArray[Any], ...]:
    points, bends, log_det = [z0.T], [], np.zeros(len(z0))
    for k in range(len(b)):
        bend = np.tanh(w[k] @ points[-1] + b[k])
        log_det = log_det + np.log(bend**2 + margin[k] * (1 - bend**2))
        points.append(points[-1] + u[k][:, None] * bend)
        bends.append(bend)
    return points[-1].T, log_det, np.stack(points), np.stack(bends)


def _backward(
    points: NDArray[Any],
    bends: NDArray[Any],
    u: NDArray[Any],
    w: NDArray[Any],
    margin: NDArray[Any],
    grad_z: NDArray[Any],
    grad_log_det: NDArray[Any],
) -> tuple[NDArray[Any], ...]:
    grad = grad_z.T
    grad_u, grad_w = np.empty_like(u), np.empty_like(w)
    grad_b, grad_margin = np.empty_like(margin), np.empty_like(margin)
    for k in reversed(range(len(margin))):
        bend, slope = bends[k], 1 - bends[k] ** 2
        share = grad_log_det / (bend**2 + margin[k] * slope)
        grad_s = (u[k] @ grad + 2 * bend * (1 - margin[k]) * share) * slope
        grad_u[k], grad_w[k] = grad @ bend, points[k] @ grad_s
        grad_b[k], grad_margin[k] = grad_s.sum(), (share * slope).sum()
        grad = grad + w[k][:, None] * grad_s
    return grad.T, grad_u, grad_w, grad_b, grad_margin
