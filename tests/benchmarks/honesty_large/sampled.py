"""Gaussian processes seen through counts and yes or no: moments by a long run of many chains."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import NDArray

from .exact import Exact, observed

__all__ = ["process"]

type Floats = NDArray[np.float64]

_CHAINS, _STEPS, _WARM = 128, 15_000, 3_000
_MOST_R_HAT = 1.02
"""Of halves of chains: their mean is off by 0.013 sds then, as there are 256 of them."""
_LENGTH = 1.2
"""Of the kernel's scale, points being 0.1 apart."""


def process(kind: str, points: int, amplitude: float) -> Exact:
    """A process f = amplitude L v with v ~ N(0, 1), amplitude ~ HalfNormal(1), and data given f.

    Moments are those of 128 chains by elliptical slice sampling (Murray, Adams and MacKay 2010) of
    v, and random-walk Metropolis of the log amplitude with v held and with f held in turn (Yu and
    Meng 2011).

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

    def likelihood(f: Floats) -> Floats:
        if kind == "poisson":
            return np.asarray((y * f - np.exp(f)).sum(-1))
        return np.asarray((y * f - np.logaddexp(0.0, f)).sum(-1))

    chains = _sampled(likelihood, root, rng)
    _check(chains)
    flat = chains.reshape(-1, 1 + points)
    return Exact(model, flat.mean(0), flat.std(0))


def _sampled(
    likelihood: Callable[[Floats], Floats], root: Floats, rng: np.random.Generator
) -> Floats:
    """Draws of the log amplitude and v, shape (steps, chains, 1 + points)."""
    size = len(root)
    t, v = rng.normal(-0.5, 0.5, _CHAINS), rng.normal(size=(_CHAINS, size))
    found = np.empty((_STEPS, _CHAINS, 1 + size))
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
            found[step, :, 0], found[step, :, 1:] = t, v
    return found


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


def _check(chains: Floats) -> None:
    """R-hat of halves of chains, without ranks (Gelman et al. 2013)."""
    half = len(chains) // 2
    parts = np.concatenate([chains[:half], chains[half : 2 * half]], axis=1)
    within, between = parts.var(0, ddof=1).mean(0), parts.mean(0).var(0, ddof=1)
    r_hat = np.sqrt((half - 1) / half + between / within)
    if r_hat.max() > _MOST_R_HAT:
        raise AssertionError(f"the chains have not mixed: R-hat {r_hat.max():.3f}")
