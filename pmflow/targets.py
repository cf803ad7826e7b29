r"""Targets with known log evidence: what a fit should find is known exactly.

Two kinds: densities on the plane, to look at, and in more dimensions, where flows are known to
fail: a funnel, a banana, an ill-conditioned Gaussian. The four potentials are those of Rezende &
Mohamed (2015), table 1, as PyMC3's notebook on
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

Neal (2003), Slice sampling, https://doi.org/10.1214/aos/1056562461 (the funnel)

Haario, Saksman & Tamminen (1999), Adaptive proposal distribution for random walk Metropolis
algorithm, https://doi.org/10.1007/s001800050022 (the banana)

Midgley et al. (2023), Flow annealed importance sampling bootstrap,
https://arxiv.org/abs/2208.01893 (the mixture with 40 modes)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import ArrayLike, NDArray

from pmflow.checks import as_numbers, checked_count, checked_number
from pmflow.errors import ParameterError

__all__ = [
    "ALL",
    "Target",
    "banana",
    "funnel",
    "gaussian_mixture",
    "ill_conditioned",
    "many_modes",
    "potential_1",
    "potential_2",
    "potential_3",
    "potential_4",
    "student_t",
]

type Bounds = tuple[tuple[float, float], tuple[float, float]]
type Sampler = Callable[[int, np.random.Generator], NDArray[np.float64]]

_TINY = 1e-30
"""Lost in every sum above 1e-14, in float64 and float32; it gives a norm the gradient 0 at the
origin, where the model starts, instead of NaN."""

_ROOT_2_PI = math.sqrt(2 * math.pi)


@dataclass(frozen=True)
class Target:
    """A density known up to the constant that is stated.

    Attributes
    ----------
    name : str
    log_evidence : float
        Log of the integral of ``exp(log_density)``: the ELBO of a perfect fit.
    bounds : pair of pairs of float
        A window of the first two coordinates to plot it in.
    formula : callable
        ``(z, xp) -> log density`` of points of shape ``(*batch, dim)``, written over the functions
        that NumPy and PyTensor share.
    sampler : callable or None
        ``(draws, rng) -> independent draws of shape (draws, dim)``, exact; None where none is
        known.
    dim : int
        Number of coordinates.
    mean, sd : tuple of float or None
        Exact moments of each coordinate, None where they are not known in closed form. An infinite
        standard deviation is `inf`.
    """

    name: str
    log_evidence: float
    bounds: Bounds
    formula: Callable[[Any, Any], Any]
    sampler: Sampler | None = None
    dim: int = 2
    mean: tuple[float, ...] | None = None
    sd: tuple[float, ...] | None = None

    def log_density(self, z: ArrayLike) -> NDArray[np.float64]:
        """Log density, not normalised, at points of shape (*batch, dim): shape (*batch,)."""
        points = as_numbers("z", z, f"(*batch, {self.dim})")
        if points.shape[-1:] != (self.dim,):
            raise ParameterError(
                f"z must have shape (*batch, {self.dim}), but has shape {points.shape}."
            )
        return np.asarray(self.formula(points, np))

    def model(self) -> pm.Model:
        """A new model with the free variable ``z``, shape ``(dim,)``, that has this posterior."""
        with pm.Model() as model:
            z = pm.Flat("z", shape=self.dim)
            pm.Potential(self.name, self.formula(z, pt))
        return model


def _plane(formula: Callable[[Any, Any, Any], Any], z: Any, xp: Any) -> Any:
    """A formula of two coordinates, at points."""
    return formula(z[..., 0], z[..., 1], xp)


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

potential_1 = Target(
    "potential_1", 1.8775016261097, ((-4.0, 4.0), (-4.0, 4.0)), partial(_plane, _ring)
)
"""Two facing crescents on a ring of radius 2; the evidence by quadrature."""

potential_2 = Target(
    "potential_2",
    math.log(0.4 * _ROOT_2_PI * 20),
    _WAVE_BOUNDS,
    partial(_plane, _sine),
    _sample_sine,
)
"""A sine wave with Laplace tails."""

potential_3 = Target(
    "potential_3",
    math.log(2 * 0.35 * _ROOT_2_PI * 20),
    _WAVE_BOUNDS,
    partial(_plane, _split_sine),
    _sample_split_sine,
)
"""A sine wave that splits in two around 1."""

potential_4 = Target(
    "potential_4",
    math.log((0.4 + 0.35) * _ROOT_2_PI * 20),
    _WAVE_BOUNDS,
    partial(_plane, _forked_sine),
    _sample_forked_sine,
)
"""A sine wave that forks at 1."""

gaussian_mixture = Target(
    "gaussian_mixture",
    0.0,
    ((-5.5, 4.5), (-5.5, 4.5)),
    partial(_plane, _two_gaussians),
    _sample_two_gaussians,
)
"""``0.5 N((1, 1), I) + 0.5 N((-2, -2), I)``."""


def funnel(dim: int = 10) -> Target:
    r"""Neal's funnel: :math:`v \sim N(0, 3^2)`, then `dim` - 1 times :math:`x_i \sim N(0, e^v)`.

    `v` is the first coordinate. The scale of the others runs over five orders of magnitude.
    """
    dim = checked_count("dim", dim, 2)

    def formula(z: Any, xp: Any) -> Any:
        v, x = z[..., 0], z[..., 1:]
        squares = (x**2).sum(-1) * xp.exp(-v)
        constant = dim * math.log(_ROOT_2_PI) + math.log(3)
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
        return -0.5 * squares - dim * math.log(_ROOT_2_PI) - math.log(10)

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
        return -0.5 * (xp.dot(z, whiten) ** 2).sum(-1) - dim * math.log(_ROOT_2_PI)

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
        return total - math.log(modes) - 2 * math.log(_ROOT_2_PI * scale)

    def sampler(draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
        return means[rng.integers(modes, size=draws)] + scale * rng.standard_normal((draws, 2))

    mean = tuple(means.mean(0).tolist())
    sd = tuple(np.sqrt(means.var(0) + scale**2).tolist())
    window = ((-48.0, 48.0), (-48.0, 48.0))
    return Target("many_modes", 0.0, window, formula, sampler, 2, mean, sd)


ALL = {
    t.name: t
    for t in (
        *(potential_1, potential_2, potential_3, potential_4, gaussian_mixture),
        *(funnel(), banana(), ill_conditioned(), student_t(), many_modes()),
    )
}
"""Every target by name, with the default number of dimensions."""
