"""Processes and fields seen through counts and yes or no: moments by long runs of chains."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import NDArray

from .exact import Exact, observed

__all__ = ["field", "process"]

type Floats = NDArray[np.float64]

_CHAINS, _STEPS, _WARM = 128, 15_000, 3_000
_MOST_R_HAT = 1.02
"""Of halves of chains: their mean is off by 0.013 sds then, as there are 256 of them."""
_LENGTH = 1.2
"""Of the kernel's scale, points being 0.1 apart."""
_SUM_SD = 0.001
"""Of the mean of a field: PyMC's default."""


def process(kind: str, points: int, amplitude: float) -> Exact:
    """A process f = amplitude L v with v ~ N(0, 1), amplitude ~ HalfNormal(1), and data given f.

    Parameters
    ----------
    kind : {"poisson", "bernoulli"}
    points : int
    amplitude : float
        What data are drawn with.
    """
    rng = np.random.default_rng([points, len(kind)])
    at = 0.1 * np.arange(points)
    kernel = np.exp(-((at[:, None] - at) ** 2) / (2 * _LENGTH**2)) + 1e-4 * np.eye(points)
    root = np.linalg.cholesky(kernel)
    f = amplitude * root @ rng.normal(size=points)
    with pm.Model() as model:
        scale = pm.HalfNormal("amplitude", 1.0)
        v = pm.Normal("v", 0.0, 1.0, shape=points)
        y = observed(kind, scale * pt.dot(root, v), f, rng)
    return _sampled(model, _likelihood(kind, y), root, lambda _, v: v, rng)


def field(kind: str, side: int, amplitude: float) -> Exact:
    """A square grid: f = amplitude phi, phi an ICAR field, amplitude ~ HalfNormal(1), data given f.

    Parameters
    ----------
    kind : {"poisson", "bernoulli"}
    side : int
        Of the grid, in areas.
    amplitude : float
        What data are drawn with.
    """
    rng = np.random.default_rng([side, len(kind), 2])
    path = np.eye(side, k=1) + np.eye(side, k=-1)
    meet = np.kron(path, np.eye(side)) + np.kron(np.eye(side), path)
    areas = side**2
    of_sum = 1 / (_SUM_SD * areas) ** 2
    precision = np.diag(meet.sum(0)) - meet + of_sum
    root = np.linalg.cholesky(np.linalg.inv(precision))
    f = amplitude * root @ rng.normal(size=areas)
    with pm.Model() as model:
        scale = pm.HalfNormal("amplitude", 1.0)
        phi = pm.ICAR("phi", W=meet, zero_sum_stdev=_SUM_SD)
        y = observed(kind, scale * phi, f, rng)
    return _sampled(model, _likelihood(kind, y), root, lambda _, v: v @ root.T, rng)


def _likelihood(kind: str, y: Floats) -> Callable[[Floats], Floats]:
    """Of f, shape (chains, values)."""
    if kind == "poisson":
        return lambda f: np.asarray((y * f - np.exp(f)).sum(-1))
    return lambda f: np.asarray((y * f - np.logaddexp(0.0, f)).sum(-1))


def _sampled(
    model: pm.Model,
    likelihood: Callable[[Floats], Floats],
    root: Floats,
    local: Callable[[Floats, Floats], Floats],
    rng: np.random.Generator,
) -> Exact:
    """Moments of the log amplitude and of the local variables, given data that see exp(t) root v.

    By 128 chains of elliptical slice sampling (Murray, Adams and MacKay 2010) of v, and random-walk
    Metropolis of the log amplitude t with v held and with f held in turn (Yu and Meng 2011).

    Parameters
    ----------
    model : Model
    likelihood : function of f, shape (chains, values)
    root : ndarray
    local : function of t and v
        The model's local variables, shape (chains, values).
    rng : Generator
    """
    size = len(root)
    t, v = rng.normal(-0.5, 0.5, _CHAINS), rng.normal(size=(_CHAINS, size))
    first, second = np.zeros((2, 2, _CHAINS, 1 + size))  # sums over each half of the steps
    for step in range(-_WARM, _STEPS):

        def given_v(t: Floats, v: Floats = v) -> Floats:
            return _prior(t) + likelihood(np.exp(t)[:, None] * (v @ root.T))

        t = _metropolis(given_v, t, rng)

        def given_t(v: Floats, t: Floats = t) -> Floats:
            return likelihood(np.exp(t)[:, None] * (v @ root.T))

        v = _elliptical(given_t, v, rng)
        held = np.exp(t)[:, None] * v  # f, but for the root

        def given_f(t: Floats, held: Floats = held) -> Floats:
            return _prior(t) - size * t - np.exp(-2 * t) * (held**2).sum(1) / 2

        t = _metropolis(given_f, t, rng)
        v = held * np.exp(-t)[:, None]
        if step >= 0:
            now = np.column_stack([t, local(t, v)])
            half = int(step >= _STEPS // 2)
            first[half] += now
            second[half] += now**2
    means, squares = (sums.reshape(-1, 1 + size) / (_STEPS // 2) for sums in (first, second))
    _check(means, squares - means**2)
    mean = means.mean(0)
    return Exact(model, mean, np.sqrt(squares.mean(0) - mean**2))


def _prior(t: Floats) -> Floats:
    return np.asarray(t - np.exp(2 * t) / 2)


def _elliptical(
    log_likelihood: Callable[[Floats], Floats], v: Floats, rng: np.random.Generator
) -> Floats:
    """One step of all chains."""
    other = rng.normal(size=v.shape)
    least = log_likelihood(v) + np.log(1 - rng.random(len(v)))
    angle = rng.uniform(0.0, 2 * np.pi, len(v))
    low, high = angle - 2 * np.pi, angle.copy()
    while True:
        new = v * np.cos(angle)[:, None] + other * np.sin(angle)[:, None]
        is_below = log_likelihood(new) < least
        if not is_below.any():
            return new
        low = np.where(is_below & (angle < 0), angle, low)
        high = np.where(is_below & (angle >= 0), angle, high)
        angle = np.where(is_below, rng.uniform(low, high), angle)


def _metropolis(
    log_density: Callable[[Floats], Floats], t: Floats, rng: np.random.Generator
) -> Floats:
    """One step of all chains, of one of several lengths."""
    new = t + rng.choice([0.03, 0.15, 0.6, 2.0], len(t)) * rng.normal(size=len(t))
    is_taken = np.log(1 - rng.random(len(t))) < log_density(new) - log_density(t)
    return np.where(is_taken, new, t)


def _check(means: Floats, variances: Floats) -> None:
    """R-hat of halves of chains, without ranks (Gelman et al. 2013)."""
    half = _STEPS // 2
    within, between = variances.mean(0) * half / (half - 1), means.var(0, ddof=1)
    r_hat = np.sqrt((half - 1) / half + between / within)
    if r_hat.max() > _MOST_R_HAT:
        raise AssertionError(f"the chains have not mixed: R-hat {r_hat.max():.3f}")
