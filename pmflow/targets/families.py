"""Targets with options: how many dimensions, how bent, how many modes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmflow.checks import checked_count, checked_number
from pmflow.targets.target import ROOT_2_PI, Target

__all__ = ["banana", "funnel", "ill_conditioned", "many_modes", "student_t"]


def funnel(dim: int = 10) -> Target:
    r"""Neal's funnel: :math:`v \sim N(0, 3^2)`, then `dim` - 1 times :math:`x_i \sim N(0, e^v)`.

    `v` is the first coordinate. The scale of the others runs over five orders of magnitude.
    """
    dim = checked_count("dim", dim, 2)

    def formula(z: Any, xp: Any) -> Any:
        v, x = z[..., 0], z[..., 1:]
        squares = (x**2).sum(-1) * xp.exp(-v)
        constant = dim * math.log(ROOT_2_PI) + math.log(3)
        return -0.5 * ((v / 3) ** 2 + (dim - 1) * v + squares) - constant

    def sampler(draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
        v = 3 * rng.standard_normal((draws, 1))
        return np.concatenate([v, np.exp(v / 2) * rng.standard_normal((draws, dim - 1))], axis=-1)

    sd = (3.0, *[math.exp(9 / 4)] * (dim - 1))  # E[exp(v)] = exp(9 / 2)
    window = ((-9.0, 9.0), (-20.0, 20.0))
    return Target("funnel", 0.0, window, formula, sampler, dim, (0.0,) * dim, sd)


def banana(dim: int = 2, bend: float = 0.03) -> Target:
    r"""A twisted Gaussian: the second coordinate is bent along the square of the first.

    .. math:: z_0 \sim N(0, 10^2), \qquad z_1 \sim N\bigl(b\,(100 - z_0^2),\ 1\bigr)

    and any others :math:`N(0, 1)`. `bend` is :math:`b`.
    """
    dim = checked_count("dim", dim, 2)
    bend = checked_number("bend", bend)

    def formula(z: Any, xp: Any) -> Any:
        first, second = z[..., 0], z[..., 1]
        squares = (first / 10) ** 2 + (second - bend * (100 - first**2)) ** 2
        squares = squares + (z[..., 2:] ** 2).sum(-1)
        return -0.5 * squares - dim * math.log(ROOT_2_PI) - math.log(10)

    def sampler(draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
        z = rng.standard_normal((draws, dim))
        z[:, 0] *= 10
        z[:, 1] += bend * (100 - z[:, 0] ** 2)
        return z

    sd = (10.0, math.sqrt(1 + 2 * (100 * bend) ** 2), *[1.0] * (dim - 2))
    window = ((-30.0, 30.0), (-25.0, 8.0))
    return Target("banana", 0.0, window, formula, sampler, dim, (0.0,) * dim, sd)


def ill_conditioned(dim: int = 50, condition: float = 1e6, seed: int = 0) -> Target:
    """A Gaussian with variances from ``condition**-0.5`` to ``condition**0.5``, turned at random.

    The mean is 0; `seed` draws the directions.
    """
    dim = checked_count("dim", dim, 2)
    seed = checked_count("seed", seed, 0)
    condition = checked_number("condition", condition, "a finite number >= 1", least=1)
    turn, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))
    half = math.log(condition) / 2
    scales = np.exp(np.linspace(-half, half, dim) / 2)
    whiten, colour = turn / scales, (turn * scales).T

    def formula(z: Any, xp: Any) -> Any:
        # scales are symmetric about 1: their logs sum to 0
        return -0.5 * (xp.dot(z, whiten) ** 2).sum(-1) - dim * math.log(ROOT_2_PI)

    def sampler(draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
        return rng.standard_normal((draws, dim)) @ colour

    sd = tuple(np.sqrt((colour**2).sum(0)).tolist())
    window = ((-3.5 * sd[0], 3.5 * sd[0]), (-3.5 * sd[1], 3.5 * sd[1]))
    return Target("ill_conditioned", 0.0, window, formula, sampler, dim, (0.0,) * dim, sd)


def student_t(dim: int = 2, df: float = 3.0) -> Target:
    """Independent Student t coordinates with `df` degrees of freedom; 1 is Cauchy."""
    dim = checked_count("dim", dim, 1)
    df = checked_number("df", df, "a positive finite number", least=math.ulp(0.0))
    log_norm = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)

    def formula(z: Any, xp: Any) -> Any:
        return (log_norm - (df + 1) / 2 * xp.log1p(z**2 / df)).sum(-1)

    def sampler(draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
        return rng.standard_t(df, size=(draws, dim))

    sd = math.sqrt(df / (df - 2)) if df > 2 else math.inf
    mean = (0.0,) * dim if df > 1 else None
    window = ((-8.0, 8.0), (-8.0, 8.0))
    return Target("student_t", 0.0, window, formula, sampler, dim, mean, (sd,) * dim)


def many_modes(modes: int = 40, seed: int = 0) -> Target:
    """A mixture of normal distributions on the plane: equal weights, means uniform in a square.

    The square has the side 80, each scale is ``log(1 + e)``; `seed` draws the means.
    """
    modes, seed = checked_count("modes", modes, 1), checked_count("seed", seed, 0)
    means = np.random.default_rng(seed).uniform(-40, 40, size=(modes, 2))
    scale = math.log1p(math.e)

    def formula(z: Any, xp: Any) -> Any:
        exponents = -0.5 * (((z[..., None, :] - means) / scale) ** 2).sum(-1)
        largest = xp.max(exponents, axis=-1, keepdims=True)
        total = xp.log(xp.exp(exponents - largest).sum(-1)) + largest[..., 0]
        return total - math.log(modes) - 2 * math.log(ROOT_2_PI * scale)

    def sampler(draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
        return means[rng.integers(modes, size=draws)] + scale * rng.standard_normal((draws, 2))

    mean = tuple(means.mean(0).tolist())
    sd = tuple(np.sqrt(means.var(0) + scale**2).tolist())
    window = ((-48.0, 48.0), (-48.0, 48.0))
    return Target("many_modes", 0.0, window, formula, sampler, 2, mean, sd)
