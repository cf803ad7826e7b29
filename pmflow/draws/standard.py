"""Normal draws that are the same at every step: evenly spread, with exact moments."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "means_of_pairs",
    "mirrored_draws",
    "normal_points",
    "standard_draws",
    "t_points",
    "uniform_points",
]

type Floats = NDArray[np.float64]


def standard_draws(size: int, dim: int, seed: int, *, whiten: bool) -> Floats:
    """A scrambled Sobol set of N(0, I), mirrored: mean exactly 0, covariance exactly I if asked."""
    half = 1 << max(1, (size // 2 - 1).bit_length())
    normal = normal_points(half, dim, seed)
    y = np.concatenate([normal, -normal])
    if not whiten:
        return y / y.std(0)
    factor = np.linalg.cholesky(y.T @ y / len(y))
    return np.linalg.solve(factor, y.T).T


def uniform_points(size: int, dim: int, seed: int) -> Floats:
    """Points inside of the unit cube that fill it evenly, shape (size, dim).

    Scrambled Sobol points, best if `size` is a power of 2; independent ones in more dimensions than
    there is a sequence for.
    """
    from scipy.stats import qmc  # slow to import

    rng = np.random.default_rng(seed)
    if dim > qmc.Sobol.MAXDIM:
        return rng.uniform(np.finfo(float).tiny, 1.0, (size, dim))
    number = 1 << max(0, (size - 1).bit_length())
    points = qmc.Sobol(dim, seed=rng).random(number)[:size]
    return np.clip(points, 1e-12, 1 - 1e-12)


def normal_points(size: int, dim: int, seed: int) -> Floats:
    """The same as points of N(0, I), shape (size, dim)."""
    from scipy.special import ndtri

    return np.asarray(ndtri(uniform_points(size, dim, seed)))


def t_points(size: int, dim: int, seed: int, df: float) -> Floats:
    """Points of independent t variables with so many degrees of freedom, shape (size, dim)."""
    from scipy.special import stdtrit

    if np.isinf(df):
        return normal_points(size, dim, seed)
    return np.asarray(stdtrit(df, uniform_points(size, dim, seed)))


def mirrored_draws(pairs: int, dim: int, rng: np.random.Generator) -> Floats:
    """Draws of N(0, I), shape (2 pairs, dim): the second half are the first with the sign changed.

    Each coordinate by itself is spread evenly over the half line, in random order and with random
    signs: Latin hypercube sampling (McKay, Beckman & Conover, 1979, https://doi.org/10.2307/1268522),
    by which means of sums of functions of single coordinates are nearly exact.
    """
    from scipy.special import ndtri

    slices = rng.permuted(np.tile(np.arange(pairs), (dim, 1)), axis=1).T
    shares = (slices + rng.uniform(np.finfo(float).tiny, 1.0, (pairs, dim))) / pairs
    half = ndtri(0.5 + shares / 2) * rng.choice([-1.0, 1.0], (pairs, dim))
    return np.concatenate([half, -half])


def means_of_pairs(values: Floats) -> Floats:
    """Means of each two mirrored draws: of shape (..., 2 pairs, size), (..., pairs, size).

    They are free of what is odd in the draws.
    """
    pairs = values.shape[-2] // 2
    return np.asarray((values[..., :pairs, :] + values[..., pairs:, :]) / 2)
