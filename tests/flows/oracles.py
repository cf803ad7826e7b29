"""Each layer once more, in NumPy, typed from its paper; nothing here comes from pmflow.

Every function takes one point `z` of shape (dim,) and the unconstrained parameters, and returns
the new point and the log of the absolute determinant.

- [RM] Rezende & Mohamed (2015), Variational inference with normalizing flows, 1505.05770.
- [TW] Tomczak & Welling (2016), Improving variational auto-encoders using Householder flow,
  1611.09630.
- [PM3] PyMC3's `variational/flows.py`, which adds 1e-10 to the squared lengths it divides by.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

type Vector = NDArray[np.float64]
type Mapped = tuple[Vector, float]

PYMC3_EPSILON = 1e-10


def softplus(x: Vector) -> Vector:
    """Return log(1 + exp(x))."""
    return np.logaddexp(0, x)


def loc(z: Vector, loc: Vector) -> Mapped:
    return z + loc, 0.0


def scale(z: Vector, rho: Vector) -> Mapped:
    sigma = softplus(rho)  # [PM3]
    return z * sigma, float(np.log(sigma).sum())


def planar(z: Vector, b: Vector, u: Vector, w: Vector) -> Mapped:
    # [RM] appendix A.1: w.u_hat > -1
    m = -1 + softplus(w @ u)
    u_hat = u + (m - w @ u) * w / (w @ w)
    f = z + u_hat * np.tanh(w @ z + b)  # [RM] eq. 10, with h = tanh
    psi = (1 - np.tanh(w @ z + b) ** 2) * w  # [RM] eq. 11
    return f, float(np.log(np.abs(1 + u_hat @ psi)))  # [RM] eq. 12; eq. 13 takes its log


def radial(z: Vector, a: Vector, b: Vector, z_ref: Vector) -> Mapped:
    alpha = np.exp(a)  # [PM3]
    beta = -alpha + softplus(b)  # [RM] appendix A.2: beta > -alpha
    r = np.sqrt(((z - z_ref) ** 2).sum())
    h = 1 / (alpha + r)
    h_prime = -1 / (alpha + r) ** 2
    f = z + beta * h * (z - z_ref)  # [RM] eq. 14
    det = (1 + beta * h) ** (len(z) - 1) * (1 + beta * h + beta * h_prime * r)
    return f, float(np.log(np.abs(det)))


def hh(z: Vector, v: Vector) -> Mapped:
    h = np.eye(len(z)) - 2 * np.outer(v, v) / (v @ v)  # [TW] eq. 7
    return h @ z, 0.0


def pymc3_planar(z: Vector, b: Vector, u: Vector, w: Vector) -> Mapped:
    m = -1 + softplus(w @ u)
    u_hat = u + (m - w @ u) * w / (w @ w + PYMC3_EPSILON)
    derivative = 1 - np.tanh(w @ z + b) ** 2
    log_det = float(np.log(np.abs(1 + derivative * (w @ u_hat))))
    return z + u_hat * np.tanh(w @ z + b), log_det


def pymc3_hh(z: Vector, v: Vector) -> Mapped:
    h = np.eye(len(z)) - 2 * np.outer(v, v) / (v @ v + PYMC3_EPSILON)
    return z @ h, 0.0


ORACLES: dict[str, Callable[..., Mapped]] = {
    "loc": loc,
    "scale": scale,
    "planar": planar,
    "radial": radial,
    "hh": hh,
}
"""By the word of the layer."""

PYMC3: dict[str, Callable[..., Mapped]] = {
    "loc": loc,
    "scale": scale,
    "planar": pymc3_planar,
    "radial": radial,
    "hh": pymc3_hh,
}
"""The same with PyMC3's constants, for the layers that PyMC3 had."""
