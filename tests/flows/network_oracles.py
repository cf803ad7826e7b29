"""Oracles of the layers with networks, coordinate by coordinate, with the default options.

As in `oracles`: one point `z` of shape (dim,) and the unconstrained parameters, in NumPy, typed
from the papers. A network is followed unit by unit: which units a coordinate may hear is decided
by its degree in a loop, not by a mask.

- [G] Germain et al. (2015), MADE, 1502.03509.
- [K] Kingma et al. (2016), IAF, 1606.04934.  [P] Papamakarios et al. (2017), MAF, 1705.07057.
- [H] Huang et al. (2018), NAF, 1804.00779.  [DC] De Cao et al. (2019), BNAF, 1904.04676.
- [J] Jaini et al. (2019), sum of squares, 1905.02325.
- [D] Dinh et al. (2017), RealNVP, 1605.08803.  [DU] Durkan et al. (2019), splines, 1906.04032.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

type Vector = NDArray[np.float64]
type Mapped = tuple[Vector, float]
type Params = dict[str, Vector]

HIDDEN = 32
UNITS = 8
DEGREE, TERMS, LEAST_SLOPE = 1, 2, 1e-3
BINS, BOUND, LEAST_SHARE = 8, 4.0, 1e-3
CLAMP = 3.0


def softplus(x: Any) -> Any:
    return np.logaddexp(0, x)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def softmax(x: Vector) -> Vector:
    e = np.exp(x - x.max())
    return e / e.sum()


def made(i: int, seen: Vector, params: Params, per_coordinate: int) -> Vector:
    """Return the numbers of coordinate i (from 0) of one hidden tanh layer ([G] eqs. 8 to 13)."""
    bias = params["bias"]
    dim = bias.shape[1]
    numbers = bias[:, i].copy()
    if dim == 1:
        return numbers
    for unit in range(HIDDEN):
        degree = 1 + unit * (dim - 1) // HIDDEN  # hears coordinates 1 to degree
        if degree > i:  # [G]: an output d hears units of degree < d, counted from 1
            continue
        before = sum(seen[j] * params["w1"][j, unit] for j in range(degree))
        h = np.tanh(before + params["b1"][unit])
        for k in range(per_coordinate):
            numbers[k] += h * params["w_out"][unit, k * dim + i]
    return numbers


def affine_numbers(numbers: Vector) -> tuple[float, float]:
    return CLAMP * np.tanh(numbers[0] / CLAMP), numbers[1]


def iaf(z: Vector, **params: Vector) -> Mapped:
    sigma = softplus(params["rho"])
    f, log_det = np.empty_like(z), 0.0
    for i in range(len(z)):
        s, t = affine_numbers(made(i, z, params, 2))
        f[i] = sigma[i] * (np.exp(s) * z[i] + t)  # [K] eq. 10, the gate an exponential
        log_det += np.log(sigma[i]) + s
    return f, float(log_det)


def maf(z: Vector, **params: Vector) -> Mapped:
    sigma = softplus(params["rho"])
    x, log_det = np.zeros_like(z), 0.0
    for i in range(len(z)):  # [P] eq. 3: conditioned on what has come out
        s, t = affine_numbers(made(i, x, params, 2))
        x[i] = (z[i] / sigma[i] - t) / np.exp(s)
        log_det -= np.log(sigma[i]) + s
    return x, float(log_det)


def naf(z: Vector, **params: Vector) -> Mapped:
    f, log_det = np.empty_like(z), 0.0
    for i in range(len(z)):
        numbers = made(i, z, params, 3 * UNITS)
        w = softmax(numbers[:UNITS])
        a = LEAST_SLOPE + (1 - LEAST_SLOPE) * softplus(numbers[UNITS : 2 * UNITS])
        b = numbers[2 * UNITS :]
        # [H] eq. 8; 1 - S as the sum of the complements, or it would round to 0
        up, down = sigmoid(a * z[i] + b), sigmoid(-a * z[i] - b)
        f[i] = np.log(w @ up) - np.log(w @ down)
        log_det += np.log((w * a) @ (up * down) / ((w @ up) * (w @ down)))
    return f, float(log_det)


def poly(z: Vector, **params: Vector) -> Mapped:
    f, log_det = np.empty_like(z), 0.0
    for i in range(len(z)):
        numbers = made(i, z, params, 1 + TERMS * (DEGREE + 1))
        squares = Polynomial([0.0])
        for a in numbers[1:].reshape(TERMS, DEGREE + 1):
            squares = squares + Polynomial(a) ** 2  # [J] eq. 8
        slope = LEAST_SLOPE + (1 - LEAST_SLOPE) * squares
        f[i] = numbers[0] + slope.integ()(z[i])
        # Polynomial's own sum cancels where the squares nearly vanish
        values = [Polynomial(a)(z[i]) for a in numbers[1:].reshape(TERMS, DEGREE + 1)]
        log_det += np.log(LEAST_SLOPE + (1 - LEAST_SLOPE) * np.sum(np.square(values)))
    return f, float(log_det)


def bnaf(z: Vector, **params: Vector) -> Mapped:
    dim, width = len(z), params["b1"].shape[1]
    # [DC] eq. 6: the whole matrices, block by block
    first, last = np.zeros((dim * width, dim)), np.zeros((dim, dim * width))
    for i in range(dim):
        rows = slice(i * width, (i + 1) * width)
        first[rows, i] = np.exp(params["own1"][i, 0])
        last[i, rows] = np.exp(params["own_out"][i, :, 0])
        for j in range(i):
            earlier = slice(j * width, (j + 1) * width)
            first[rows, j] = params["w1"][j, rows]
            last[i, earlier] = params["w_out"][earlier, i]
    h = np.tanh(first @ z + params["b1"].ravel())
    own = np.diag(last @ np.diag(1 - h**2) @ first)
    largest = np.diag(last @ first)
    m = softplus(params["rho"])
    f = z + (m - 1) / largest * (last @ h) + params["bias"]
    return f, float(np.log(1 + (m - 1) * own / largest).sum())


def plain(prefix: str, seen: Vector, params: Params) -> Vector:
    """Return the numbers of all coordinates from a network without masks."""
    bias = params[prefix + "bias"]
    if len(seen) == 0:
        return bias
    h = np.tanh(params[prefix + "w1"].T @ seen + params[prefix + "b1"])
    return bias + (params[prefix + "w_out"].T @ h).reshape(bias.shape)


def affine_half(x: Vector, numbers: Vector) -> Mapped:
    s, t = affine_numbers(numbers)
    return np.exp(s) * x + t, float(np.sum(s))  # [D] eqs. 4 and 6


def spline_half(x: Vector, numbers: Vector) -> Mapped:
    values = [spline_1d(float(v), numbers[:, i]) for i, v in enumerate(x)]
    return np.array([v for v, _ in values]), float(sum(d for _, d in values))


def spline_1d(x: float, numbers: Vector) -> tuple[float, float]:
    if abs(x) >= BOUND:
        return x, 0.0
    shares = [
        LEAST_SHARE + (1 - LEAST_SHARE * BINS) * softmax(part)
        for part in (numbers[:BINS], numbers[BINS : 2 * BINS])
    ]
    knots_x, knots_y = (np.append(-BOUND, -BOUND + 2 * BOUND * np.cumsum(s)) for s in shares)
    inner = LEAST_SHARE + softplus(numbers[2 * BINS :] + np.log(np.expm1(1 - LEAST_SHARE)))
    d = np.concatenate([[1], inner, [1]])
    k = min(int(np.searchsorted(knots_x, x, side="right")) - 1, BINS - 1)
    w, h = knots_x[k + 1] - knots_x[k], knots_y[k + 1] - knots_y[k]
    s, xi = h / w, (x - knots_x[k]) / w
    below = s + (d[k + 1] + d[k] - 2 * s) * xi * (1 - xi)
    y = knots_y[k] + h * (s * xi**2 + d[k] * xi * (1 - xi)) / below  # [DU] eq. 4
    slope = s**2 * (d[k + 1] * xi**2 + 2 * s * xi * (1 - xi) + d[k] * (1 - xi) ** 2) / below**2
    return float(y), float(np.log(slope))  # [DU] eq. 5


def pair(half: Any, z: Vector, params: Params) -> Mapped:
    a, b = z[: len(z) // 2], z[len(z) // 2 :]
    b, log_det = half(b, plain("b_", a, params))
    if len(a):
        a, more = half(a, plain("a_", b, params))
        log_det += more
    return np.concatenate([a, b]), log_det


def coupling(z: Vector, **params: Vector) -> Mapped:
    f, log_det = pair(affine_half, z, params)
    sigma = softplus(params["rho"])
    return sigma * f, log_det + float(np.log(sigma).sum())


def spline(z: Vector, **params: Vector) -> Mapped:
    return pair(spline_half, z, params)


ORACLES = {
    "iaf": iaf,
    "maf": maf,
    "naf": naf,
    "bnaf": bnaf,
    "poly": poly,
    "coupling": coupling,
    "spline": spline,
}
"""By the word of the layer."""
