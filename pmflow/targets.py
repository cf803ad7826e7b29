r"""Targets with known log evidence: what a fit should find is known exactly.

The four potentials are those of Rezende & Mohamed (2015), table 1, as PyMC3's notebook on
normalizing flows has them: the last three times a Laplace density of scale 10 in the first
coordinate, which makes them integrable.

Each target is a `pymc.Model` with one free variable ``z``: a `pymc.Flat`, whose log density is
zero, with the target's log density as a `pymc.Potential`. Tried beside `pymc.CustomDist` in PyMC
6.4, both have the same finite initial point, the same NUTS draws and the same fit by a flow, both
draw further variables forward after a fit, and both refuse prior draws, which mean nothing here.
This is the form that needs no more words: `CustomDist` wants a parameter that nobody uses, since
without one it can't tell its shape, and a signature. Its price is PyMC's warning, when variables
are drawn forward, that potentials have no effect there.

References
----------
Rezende & Mohamed (2015), Variational inference with normalizing flows,
https://arxiv.org/abs/1505.05770
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "ALL",
    "Target",
    "gaussian_mixture",
    "potential_1",
    "potential_2",
    "potential_3",
    "potential_4",
]

type Bounds = tuple[tuple[float, float], tuple[float, float]]

_TINY = 1e-30
"""Lost in every sum above 1e-14, in float64 and float32; it gives a norm the gradient 0 at the
origin, where the model starts, instead of NaN."""

_ROOT_2_PI = math.sqrt(2 * math.pi)


@dataclass(frozen=True)
class Target:
    """A density on the plane, known up to the constant that is stated.

    Attributes
    ----------
    name : str
    log_evidence : float
        Log of the integral of ``exp(log_density)``: the ELBO of a perfect fit.
    bounds : pair of pairs of float
        A window to plot it in.
    formula : callable
        ``(z0, z1, xp) -> log density``, written over the functions that NumPy and PyTensor share.
    sampler : callable or None
        ``(draws, rng) -> independent draws of shape (draws, 2)``, exact; None where none is known.
    """

    name: str
    log_evidence: float
    bounds: Bounds
    formula: Callable[[Any, Any, Any], Any]
    sampler: Callable[[int, np.random.Generator], NDArray[np.float64]] | None = None

    def log_density(self, z: ArrayLike) -> NDArray[np.float64]:
        """Log density, not normalised, at points of shape ``(*batch, 2)``: shape ``(*batch,)``."""
        points = np.asarray(z, dtype=float)
        return np.asarray(self.formula(points[..., 0], points[..., 1], np))

    def model(self) -> pm.Model:
        """A new model with the free variable ``z``, shape ``(2,)``, that has this posterior."""
        with pm.Model() as model:
            z = pm.Flat("z", shape=2)
            pm.Potential(self.name, self.formula(z[0], z[1], pt))
        return model


def _wave(z0: Any, xp: Any) -> Any:
    return xp.sin(2 * math.pi * z0 / 4)  # w1 of the paper


def _bump(z0: Any, xp: Any) -> Any:
    return 3 * xp.exp(-0.5 * ((z0 - 1) / 0.6) ** 2)  # w2


def _ramp(z0: Any, xp: Any) -> Any:
    # w3, 3 * sigmoid((z0 - 1) / 0.3), by tanh: no exponential overflows
    return 1.5 * (1 + xp.tanh((z0 - 1) / 0.6))


def _ring(z0: Any, z1: Any, xp: Any) -> Any:
    modes = xp.logaddexp(-0.5 * ((z0 - 2) / 0.6) ** 2, -0.5 * ((z0 + 2) / 0.6) ** 2)
    radius = xp.sqrt(z0**2 + z1**2 + _TINY)
    return modes - 0.5 * ((radius - 2) / 0.4) ** 2


def _sine(z0: Any, z1: Any, xp: Any) -> Any:
    return -0.5 * ((z1 - _wave(z0, xp)) / 0.4) ** 2 - 0.1 * xp.abs(z0)


def _split_sine(z0: Any, z1: Any, xp: Any) -> Any:
    away = z1 - _wave(z0, xp)
    upper = -0.5 * (away / 0.35) ** 2
    lower = -0.5 * ((away + _bump(z0, xp)) / 0.35) ** 2
    return xp.logaddexp(upper, lower) - 0.1 * xp.abs(z0)


def _forked_sine(z0: Any, z1: Any, xp: Any) -> Any:
    away = z1 - _wave(z0, xp)
    upper = -0.5 * (away / 0.4) ** 2
    lower = -0.5 * ((away + _ramp(z0, xp)) / 0.35) ** 2
    return xp.logaddexp(upper, lower) - 0.1 * xp.abs(z0)


def _two_gaussians(z0: Any, z1: Any, xp: Any) -> Any:
    first = -0.5 * ((z0 - 1) ** 2 + (z1 - 1) ** 2)
    second = -0.5 * ((z0 + 2) ** 2 + (z1 + 2) ** 2)
    return xp.logaddexp(first, second) - math.log(2 * 2 * math.pi)


# Exact draws: z0 is Laplace, and z1 given z0 is one normal or a mixture of two. The integral of
# each over z1 is in proportion to its sd, whatever z0 is, so the weights do not depend on z0.


def _sample_laplace(draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.laplace(scale=10.0, size=draws)


def _sample_sine(draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    z0 = _sample_laplace(draws, rng)
    return np.stack([z0, _wave(z0, np) + 0.4 * rng.normal(size=draws)], axis=-1)


def _sample_split_sine(draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    z0 = _sample_laplace(draws, rng)
    lower = rng.random(draws) < 0.5
    z1 = _wave(z0, np) - lower * _bump(z0, np) + 0.35 * rng.normal(size=draws)
    return np.stack([z0, z1], axis=-1)


def _sample_forked_sine(draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    z0 = _sample_laplace(draws, rng)
    lower = rng.random(draws) < 0.35 / (0.4 + 0.35)
    sd = np.where(lower, 0.35, 0.4)
    return np.stack([z0, _wave(z0, np) - lower * _ramp(z0, np) + sd * rng.normal(size=draws)], -1)


def _sample_two_gaussians(draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    centre = np.where(rng.random((draws, 1)) < 0.5, 1.0, -2.0)
    return centre + rng.normal(size=(draws, 2))


_WAVE_BOUNDS: Bounds = ((-12.0, 12.0), (-6.0, 4.0))

potential_1 = Target("potential_1", 1.8775016261097, ((-4.0, 4.0), (-4.0, 4.0)), _ring)
"""Two facing crescents on a ring of radius 2; the evidence by quadrature."""

potential_2 = Target(
    "potential_2", math.log(0.4 * _ROOT_2_PI * 20), _WAVE_BOUNDS, _sine, _sample_sine
)
"""A sine wave with Laplace tails."""

potential_3 = Target(
    "potential_3",
    math.log(2 * 0.35 * _ROOT_2_PI * 20),
    _WAVE_BOUNDS,
    _split_sine,
    _sample_split_sine,
)
"""A sine wave that splits in two around 1."""

potential_4 = Target(
    "potential_4",
    math.log((0.4 + 0.35) * _ROOT_2_PI * 20),
    _WAVE_BOUNDS,
    _forked_sine,
    _sample_forked_sine,
)
"""A sine wave that forks at 1."""

gaussian_mixture = Target(
    "gaussian_mixture", 0.0, ((-5.5, 4.5), (-5.5, 4.5)), _two_gaussians, _sample_two_gaussians
)
"""``0.5 N((1, 1), I) + 0.5 N((-2, -2), I)``."""

ALL = {t.name: t for t in (potential_1, potential_2, potential_3, potential_4, gaussian_mixture)}
"""Every target by name."""
