"""Each layer once more, in NumPy, typed from its paper; nothing here comes from pmflow.

Every function takes one point `z` of shape (dim,) and the unconstrained parameters, and returns
the new point and the log of the absolute determinant.

- [RM] Rezende & Mohamed (2015), Variational inference with normalizing flows, 1505.05770.
- [TW] Tomczak & Welling (2016), Improving variational auto-encoders using Householder flow,
  1611.09630.
- [KD] Kingma & Dhariwal (2018), Glow, 1807.03039.
- [JP] Jones & Pewsey (2009), Sinh-arcsinh distributions, doi 10.1093/biomet/asp053.
- [MM] Marzouk et al. (2016), Sampling via measure transport, 1602.05023, with the gate of [K].
- [VB] van den Berg et al. (2018), Sylvester normalizing flows, 1803.05649.
- [PM3] PyMC3's `variational/flows.py`, which adds 1e-10 to the squared lengths it divides by.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from network_oracles import ORACLES as NETWORK_ORACLES
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


def tril(z: Vector, rho: Vector, lower: Vector) -> Mapped:
    factor, root = np.eye(len(z)), np.sqrt(len(z))
    factor[np.tril_indices(len(z), -1)] = lower / root
    factor = factor @ np.diag(softplus(rho))
    return factor @ z, float(np.linalg.slogdet(factor)[1])


def sparse(z: Vector, rho: Vector, entries: Vector) -> Mapped:
    # [TN] section 2: the precision is T D^2 T', so draws are those of its transposed root
    root = np.eye(len(z))
    root.T[np.triu_indices(len(z), 1)] = entries / max(1, len(z) - 1) ** 0.5
    root = root @ np.diag(1 / softplus(rho))
    return np.linalg.inv(root.T) @ z, -float(np.linalg.slogdet(root)[1])


def lu(z: Vector, rho: Vector, lower: Vector, upper: Vector) -> Mapped:
    dim = len(z)
    p = np.eye(dim)[np.random.default_rng(0).permutation(dim)]
    left, right = np.eye(dim), np.eye(dim).T
    left[np.tril_indices(dim, -1)] = lower / np.sqrt(dim)
    right.T[np.tril_indices(dim, -1)] = upper / np.sqrt(dim)
    # [KD] eq. 10, with the permutation undone
    matrix = p.T @ left @ np.diag(softplus(rho)) @ right @ p
    return matrix @ z, float(np.linalg.slogdet(matrix)[1])


def lowrank(z: Vector, rho: Vector, u: Vector, w: Vector) -> Mapped:
    matrix = np.eye(len(z))
    # both in units of the square root of the dimension
    for u_k, w_k in zip(u / len(z) ** 0.5, w / len(z) ** 0.5, strict=True):
        m = -1 + softplus(w_k @ u_k)  # [RM] appendix A.1
        u_hat = u_k + (m - w_k @ u_k) * w_k / (w_k @ w_k)
        matrix = (np.eye(len(z)) + np.outer(u_hat, w_k)) @ matrix
    matrix = np.diag(softplus(rho)) @ matrix
    return matrix @ z, float(np.linalg.slogdet(matrix)[1])


def perm(z: Vector) -> Mapped:
    return z[np.random.default_rng(0).permutation(len(z))], 0.0


def reverse(z: Vector) -> Mapped:
    return np.flip(z), 0.0


def sinh(z: Vector, rho: Vector, skew: Vector) -> Mapped:
    tail = 0.1 + 0.9 * softplus(rho)
    f = np.sinh(tail * (np.arcsinh(z) + skew))  # [JP] section 2, solved for x; tail is 1 / delta
    slope = np.cosh(tail * (np.arcsinh(z) + skew)) * tail / np.sqrt(1 + z**2)
    return f, float(np.log(slope).sum())


def bend(z: Vector, bias: Vector, **weights: Vector) -> Mapped:
    linear, square = (weights.get(name, np.zeros((2, 0))) for name in ("linear", "square"))
    f, log_det, place = np.empty_like(z), 0.0, 0
    for i in range(len(z)):  # [MM] eq. 15, a triangular map of second degree
        s, t = bias[:, i]
        for k in range(i):
            u, v = linear[:, place] / len(z) ** 0.5, square[:, place] / len(z) ** 0.5
            h = z[k] / (1 + (z[k] / 6) ** 6) ** (1 / 6)  # bounded, which [MM] is not
            s = s + u[0] * h + v[0] * (h**2 - 1)
            t = t + u[1] * h + v[1] * (h**2 - 1)
            place += 1
        s = 3 * np.tanh(s / 3)
        f[i] = np.exp(s) * z[i] + t
        log_det += s
    return f, float(log_det)


def sylvester(
    z: Vector,
    v: Vector,
    rho: Vector,
    rho_tilde: Vector,
    upper: Vector,
    upper_tilde: Vector,
    b: Vector,
) -> Mapped:
    m = len(b)
    reflections = [np.eye(len(z)) - 2 * np.outer(x, x) / (x @ x) for x in v]
    # [VB] section 4.2: columns of a product of reflections
    q = np.linalg.multi_dot([*reflections, np.eye(len(z))[:, :m]])
    r_tilde, r = np.diag(softplus(rho_tilde)), np.diag((softplus(rho) - 1) / softplus(rho_tilde))
    r_tilde[np.triu_indices(m, 1)], r[np.triu_indices(m, 1)] = upper_tilde, upper
    y = np.tanh(r_tilde @ q.T @ z + b)
    f = z + q @ r @ y  # [VB] eq. 13
    jacobian = np.eye(m) + np.diag(1 - y**2) @ r_tilde @ r  # [VB] eq. 14
    return f, float(np.log(np.abs(np.linalg.det(jacobian))))


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
    "tril": tril,
    "sparse": sparse,
    "lu": lu,
    "lowrank": lowrank,
    "perm": perm,
    "reverse": reverse,
    "sinh": sinh,
    "sylvester": sylvester,
    "bend": bend,
    **NETWORK_ORACLES,
}
"""By the word of the layer, with its default options."""

PYMC3: dict[str, Callable[..., Mapped]] = {
    "loc": loc,
    "scale": scale,
    "planar": pymc3_planar,
    "radial": radial,
    "hh": pymc3_hh,
}
"""The same with PyMC3's constants, for the layers that PyMC3 had."""
