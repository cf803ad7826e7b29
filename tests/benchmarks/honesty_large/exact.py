"""Hierarchies and walks with one unknown scale, and the moments of their posteriors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pymc as pm
from numpy.typing import NDArray
from scipy.special import expit

__all__ = ["Exact", "hierarchy", "walk"]

type Floats = NDArray[np.float64]

_NODES = 41
"""Of a Gauss-Hermite rule around the mode of each local variable."""
_SCALES = np.linspace(-9.0, 3.0, 481)
"""Logs of the scale."""


@dataclass(frozen=True, eq=False)
class Exact:
    """A model over (log scale, local variables), and the mean and sd of each of these."""

    model: pm.Model = field(repr=False)
    mean: Floats
    sd: Floats


def hierarchy(kind: str, groups: int, size: int, scale: float) -> Exact:
    """Groups with a local variable u ~ N(0, tau) each, tau ~ HalfNormal(1), and data given u.

    Parameters
    ----------
    kind : {"normal", "poisson", "binomial"}
    groups : int
    size : int
        How much is seen of each group.
    scale : float
        The tau that data are drawn with.
    """
    rng = np.random.default_rng([groups, size, len(kind)])
    u = rng.normal(0.0, scale, groups)
    with pm.Model() as model:
        tau = pm.HalfNormal("tau", 1.0)
        x = pm.Normal("u", 0.0, tau, shape=groups)
        if kind == "normal":
            y: Floats = u + rng.normal(0.0, size**-0.5, groups)
            pm.Normal("y", x, size**-0.5, observed=y)
        elif kind == "poisson":
            y = rng.poisson(size * np.exp(u)).astype(float)
            pm.Poisson("y", size * pm.math.exp(x), observed=y.astype(int))
        else:
            y = rng.binomial(size, expit(u)).astype(float)
            pm.Binomial("y", n=size, logit_p=x, observed=y.astype(int))
    likelihood = _LIKELIHOODS[kind](y, size)
    logs, means, seconds = zip(*(_given(likelihood, groups, t) for t in _SCALES), strict=True)
    return _mixed(model, np.array(logs), np.stack(means), np.stack(seconds))


type Likelihood = Callable[[Any], tuple[Any, Any, Any]]


def _normal(y: Floats, size: int) -> Likelihood:
    """Log density of the data, but for a constant, and two derivatives: by u of shape (..., n)."""
    return lambda u: (-size * (y - u) ** 2 / 2, size * (y - u), -size + 0 * u)


def _poisson(y: Floats, size: int) -> Likelihood:
    def found(u: Any) -> Any:
        rate = size * np.exp(u)
        return y * u - rate, y - rate, -rate

    return found


def _binomial(y: Floats, size: int) -> Likelihood:
    def found(u: Any) -> Any:
        p = expit(u)
        return y * u - size * np.logaddexp(0.0, u), y - size * p, -size * p * (1 - p)

    return found


_LIKELIHOODS = {"normal": _normal, "poisson": _poisson, "binomial": _binomial}


def _given(likelihood: Likelihood, groups: int, t: float) -> tuple[float, Floats, Floats]:
    """Given the log scale: log of the integral over u, and its first two moments."""
    precision = np.exp(-2 * t)
    u = np.zeros(groups)
    for _ in range(60):
        _, slope, bend = likelihood(u)
        step = (slope - precision * u) / (precision - bend)
        u = u + np.clip(step, -1.0, 1.0)
    _, _, bend = likelihood(u)
    width = 1 / np.sqrt(precision - bend)
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    at = u + width * nodes[:, None]
    value, *_ = likelihood(at)
    logs = value - precision * at**2 / 2 - t - np.log(2 * np.pi) / 2
    logs += np.log(weights)[:, None] + nodes[:, None] ** 2 / 2 + np.log(width)
    largest = logs.max(0)
    shares = np.exp(logs - largest)
    total = shares.sum(0)
    mean, second = (shares * at).sum(0) / total, (shares * at**2).sum(0) / total
    return float((np.log(total) + largest).sum()), mean, second


def walk(steps: int, scale: float) -> Exact:
    """A walk from N(0, 1) with steps N(0, tau), tau ~ HalfNormal(1), seen with errors of sd 1."""
    rng = np.random.default_rng(steps)
    y = np.cumsum(rng.normal(0.0, scale, steps)) + rng.normal(size=steps)
    with pm.Model() as model:
        tau = pm.HalfNormal("tau", 1.0)
        x = pm.GaussianRandomWalk("u", 0.0, tau, init_dist=pm.Normal.dist(0.0, 1.0), shape=steps)
        pm.Normal("y", x, 1.0, observed=y)
    difference = np.eye(steps) - np.eye(steps, k=-1)
    logs, means, seconds = [], [], []
    for t in _SCALES[::4]:
        weights = np.r_[1.0, np.full(steps - 1, np.exp(-2 * t))]
        precision = (difference.T * weights) @ difference + np.eye(steps)
        covariance = np.linalg.inv(precision)
        mean = covariance @ y
        log_det = np.linalg.slogdet(precision)[1]
        logs.append(float(y @ mean - log_det + np.log(weights).sum()) / 2)
        means.append(mean)
        seconds.append(mean**2 + np.diag(covariance))
    return _mixed(model, np.array(logs), np.stack(means), np.stack(seconds), every=4)


def _mixed(model: pm.Model, logs: Floats, means: Floats, seconds: Floats, every: int = 1) -> Exact:
    at = _SCALES[::every]
    logs = logs - np.exp(2 * at) / 2 + at  # the prior of tau, over its log
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    mean = np.r_[weights @ at, weights @ means]
    second = np.r_[weights @ at**2, weights @ seconds]
    return Exact(model, mean, np.sqrt(second - mean**2))
