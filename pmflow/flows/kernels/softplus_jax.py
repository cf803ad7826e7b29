"""`Softplus` for JAX."""

from __future__ import annotations

from typing import Any

from pmflow.flows.kernels.softplus import Softplus

__all__ = ["register"]


def register() -> None:
    """Tell PyTensor."""
    from pytensor.link.jax.dispatch import jax_funcify

    jax_funcify.register(Softplus)(lambda op, **kwargs: _softplus)


def _softplus(x: Any) -> Any:
    import jax.numpy as jnp
    import numpy as np

    e = jnp.exp(-jnp.abs(x))
    s = jnp.maximum(x, 0) + jnp.log1p(e)
    log_s = jnp.where(x < -40, x, jnp.log(jnp.maximum(s, np.finfo(x.dtype).tiny)))
    return s, log_s, jnp.where(x < 0, e, 1) / (1 + e)
