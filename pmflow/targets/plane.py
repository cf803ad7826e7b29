"""Log densities on the plane, over functions of NumPy or PyTensor, and exact draws of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "at_points",
    "forked_sine",
    "ring",
    "sample_forked_sine",
    "sample_sine",
    "sample_split_sine",
    "sample_two_gaussians",
    "sine",
    "split_sine",
    "two_gaussians",
]

_TINY = 1e-30
"""Lost in every sum above 1e-14, in float64 and float32; it gives a norm the gradient 0 at the
origin, where the model starts, instead of NaN."""


def at_points(formula: Callable[[Any, Any, Any], Any], z: Any, xp: Any) -> Any:
    """A formula of two coordinates, at points of shape (*batch, 2)."""
    return formula(z[..., 0], z[..., 1], xp)


def _wave(z0: Any, xp: Any) -> Any:
    return xp.sin(2 * math.pi * z0 / 4)  # w1 of the paper


def _bump(z0: Any, xp: Any) -> Any:
    return 3 * xp.exp(-0.5 * ((z0 - 1) / 0.6) ** 2)  # w2


def _ramp(z0: Any, xp: Any) -> Any:
    # w3, 3 * sigmoid((z0 - 1) / 0.3), by tanh: no exponential overflows
    return 1.5 * (1 + xp.tanh((z0 - 1) / 0.6))


def ring(z0: Any, z1: Any, xp: Any) -> Any:
    """Two facing crescents on a ring of radius 2."""
    modes = xp.logaddexp(-0.5 * ((z0 - 2) / 0.6) ** 2, -0.5 * ((z0 + 2) / 0.6) ** 2)
    radius = xp.sqrt(z0**2 + z1**2 + _TINY)
    return modes - 0.5 * ((radius - 2) / 0.4) ** 2


def sine(z0: Any, z1: Any, xp: Any) -> Any:
    """A sine wave with Laplace tails, as the next two have."""
    return -0.5 * ((z1 - _wave(z0, xp)) / 0.4) ** 2 - 0.1 * xp.abs(z0)


def split_sine(z0: Any, z1: Any, xp: Any) -> Any:
    """A sine wave that splits in two around 1."""
    away = z1 - _wave(z0, xp)
    upper = -0.5 * (away / 0.35) ** 2
    lower = -0.5 * ((away + _bump(z0, xp)) / 0.35) ** 2
    return xp.logaddexp(upper, lower) - 0.1 * xp.abs(z0)


def forked_sine(z0: Any, z1: Any, xp: Any) -> Any:
    """A sine wave that forks at 1."""
    away = z1 - _wave(z0, xp)
    upper = -0.5 * (away / 0.4) ** 2
    lower = -0.5 * ((away + _ramp(z0, xp)) / 0.35) ** 2
    return xp.logaddexp(upper, lower) - 0.1 * xp.abs(z0)


def two_gaussians(z0: Any, z1: Any, xp: Any) -> Any:
    """An even mixture of N((1, 1), I) and N((-2, -2), I)."""
    first = -0.5 * ((z0 - 1) ** 2 + (z1 - 1) ** 2)
    second = -0.5 * ((z0 + 2) ** 2 + (z1 + 2) ** 2)
    return xp.logaddexp(first, second) - math.log(2 * 2 * math.pi)


# Exact draws: z0 is Laplace, and z1 given z0 is one normal or a mixture of two. The integral of
# each over z1 is in proportion to its sd, whatever z0 is, so the weights do not depend on z0.


def _sample_laplace(draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.laplace(scale=10.0, size=draws)


def sample_sine(draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draws of `sine`, shape (draws, 2)."""
    z0 = _sample_laplace(draws, rng)
    return np.stack([z0, _wave(z0, np) + 0.4 * rng.normal(size=draws)], axis=-1)


def sample_split_sine(draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draws of `split_sine`, shape (draws, 2)."""
    z0 = _sample_laplace(draws, rng)
    lower = rng.random(draws) < 0.5
    z1 = _wave(z0, np) - lower * _bump(z0, np) + 0.35 * rng.normal(size=draws)
    return np.stack([z0, z1], axis=-1)


def sample_forked_sine(draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draws of `forked_sine`, shape (draws, 2)."""
    z0 = _sample_laplace(draws, rng)
    lower = rng.random(draws) < 0.35 / (0.4 + 0.35)
    sd = np.where(lower, 0.35, 0.4)
    return np.stack([z0, _wave(z0, np) - lower * _ramp(z0, np) + sd * rng.normal(size=draws)], -1)


def sample_two_gaussians(draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draws of `two_gaussians`, shape (draws, 2)."""
    centre = np.where(rng.random((draws, 1)) < 0.5, 1.0, -2.0)
    return centre + rng.normal(size=(draws, 2))
