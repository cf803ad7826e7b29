"""`PlanarRun` for JAX: unrolled where layers are few, scanned where they are many."""

from __future__ import annotations

from typing import Any

from pmflow.flows.kernels.planar_run import PlanarRun, PlanarRunGrad

__all__ = ["register"]

_MOST_UNROLLED = 16
"""Up to this many layers are written out, which runs 8 % faster than a scan; with more of them one
would feel the time to compile."""


def register() -> None:
    """Tell PyTensor."""
    from pytensor.link.jax.dispatch import jax_funcify

    jax_funcify.register(PlanarRun)(lambda op, **kwargs: _forward)
    jax_funcify.register(PlanarRunGrad)(lambda op, **kwargs: _backward)


def _scan(body: Any, carry: Any, inputs: Any, *, reverse: bool = False) -> Any:
    from jax import lax

    layers = len(inputs[0])
    return lax.scan(body, carry, inputs, reverse=reverse, unroll=layers <= _MOST_UNROLLED)


def _forward(z0: Any, u: Any, w: Any, b: Any, margin: Any) -> Any:
    import jax.numpy as jnp

    def layer(carry: Any, params: Any) -> Any:
        z, log_det = carry  # (dim, n), (n,)
        u_k, w_k, b_k, margin_k = params
        bend = jnp.tanh((w_k[:, None] * z).sum(0) + b_k)
        square = bend**2
        log_det = log_det + jnp.log(square + margin_k * (1 - square))
        return (z + u_k[:, None] * bend, log_det), (z, bend)

    start = (z0.T, jnp.zeros(len(z0), z0.dtype))
    (z, log_det), (before, bends) = _scan(layer, start, (u, w, b, margin))
    return z.T, log_det, jnp.concatenate([before, z[None]]), bends


def _backward(
    points: Any, bends: Any, u: Any, w: Any, margin: Any, grad_z: Any, grad_log_det: Any
) -> Any:
    def layer(grad: Any, inputs: Any) -> Any:
        before, bend, u_k, w_k, margin_k = inputs
        slope = 1 - bend**2
        share = grad_log_det / (bend**2 + margin_k * slope)
        of_bend = (u_k[:, None] * grad).sum(0) + 2 * bend * (1 - margin_k) * share
        of_s = of_bend * slope
        of_params = ((grad * bend).sum(1), (before * of_s).sum(1), of_s.sum())
        return grad + w_k[:, None] * of_s, (*of_params, (share * slope).sum())

    inputs = (points[:-1], bends, u, w, margin)
    grad, grads = _scan(layer, grad_z.T, inputs, reverse=True)
    return grad.T, *grads
