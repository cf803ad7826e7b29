"""Hierarchies and walks with one unknown scale, and the moments of their posteriors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pymc as pm
from numpy.typing import NDArray
from scipy.special import expit

__all__ = ["Exact", "counted_walk", "hierarchy", "observed", "pairs", "walk"]

type Floats = NDArray[np.float64]

_NODES = 41
"""Of a Gauss-Hermite rule around the mode of each local variable."""
_NODES_OF_PAIRS = 21
"""The same, along each axis, of two that belong together."""
_COARSE, _FINE = np.linspace(-9.0, 3.0, 49), 161
"""Logs of the scale, and how many of them where its posterior is."""
_STEP = 0.04
"""Between the values that a walk can take."""
_BEYOND = 6.0
"""How far these go beyond where the walk went that data are drawn with."""
_NOWHERE = -1e6
"""The log of a posterior that is left out."""
_LEAST = -60.0
"""Of the log posterior, from the largest: where it is."""


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
    return _mixed(model, lambda t: _given(likelihood, groups, t))


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


_LIKELIHOODS = {
    "normal": _normal,
    "poisson": _poisson,
    "binomial": _binomial,
    "bernoulli": _binomial,
}


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
    return _integrated(logs, at)


def _integrated(logs: Floats, at: Floats) -> tuple[float, Floats, Floats]:
    """Log of the integral over all groups, and two moments of each.

    Parameters
    ----------
    logs : ndarray, shape (nodes, groups)
        Of the density at each node, times its weight.
    at : ndarray, shape (nodes, groups, ...)
    """
    largest = logs.max(0)
    shares = np.exp(logs - largest)
    total = shares.sum(0)
    first, second = (np.einsum("ng,ng...->g...", shares / total, at**k) for k in (1, 2))
    return float((np.log(total) + largest).sum()), first, second


def pairs(kind: str, groups: int, rows: int, scale: float) -> Exact:
    """Groups with an intercept ~ N(0, tau) and a slope ~ N(0, tau) each, tau ~ HalfNormal(1).

    Parameters
    ----------
    kind : {"poisson", "bernoulli"}
    groups : int
    rows : int
        How many are seen of each group, at places drawn from N(0, 1).
    scale : float
        The tau that data are drawn with.
    """
    rng = np.random.default_rng([groups, rows, len(kind)])
    x = rng.normal(size=(groups, rows))
    u = rng.normal(0.0, scale, (2, groups))
    at = u[0, :, None] + u[1, :, None] * x
    with pm.Model() as model:
        tau = pm.HalfNormal("tau", 1.0)
        intercept = pm.Normal("intercept", 0.0, tau, shape=groups)
        slope = pm.Normal("slope", 0.0, tau, shape=groups)
        y = observed(kind, intercept[:, None] + slope[:, None] * x, at, rng)
    likelihood = _LIKELIHOODS[kind](y, 1)
    return _mixed(model, lambda t: _pairs_given(likelihood, x, t))


def observed(kind: str, predictor: Any, at: Floats, rng: np.random.Generator) -> Floats:
    """Draw counts, or yes and no, and let the model of the context see them.

    Parameters
    ----------
    kind : {"poisson", "bernoulli"}
    predictor : TensorVariable
        Of the model: logs of rates, or logits.
    at : ndarray
        What it is where data are drawn.
    rng : Generator
    """
    if kind == "poisson":
        y = rng.poisson(np.exp(at))
        pm.Poisson("y", pm.math.exp(predictor), observed=y)
    else:
        y = rng.binomial(1, expit(at))
        pm.Bernoulli("y", logit_p=predictor, observed=y)
    return y.astype(float)


def _pairs_given(likelihood: Likelihood, x: Floats, t: float) -> tuple[float, Floats, Floats]:
    """Given the log scale: log of the integral over intercepts and slopes, and two moments."""
    design = np.stack([np.ones_like(x), x], -1)
    u = np.zeros((len(x), 2))
    for _ in range(80):
        _, slope, bend = likelihood(np.einsum("grk,gk->gr", design, u))
        precision = np.exp(-2 * t) * np.eye(2) - np.einsum("gr,grk,grl->gkl", bend, design, design)
        gradient = np.einsum("gr,grk->gk", slope, design) - np.exp(-2 * t) * u
        u = u + np.clip(np.linalg.solve(precision, gradient[..., None])[..., 0], -1.0, 1.0)
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES_OF_PAIRS)
    e = np.stack([axis.ravel() for axis in np.meshgrid(nodes, nodes, indexing="ij")], -1)
    root = np.linalg.cholesky(np.linalg.inv(precision))
    at = u + np.einsum("gkl,nl->ngk", root, e)
    value, *_ = likelihood(np.einsum("grk,ngk->ngr", design, at))
    logs = value.sum(-1) - np.exp(-2 * t) * (at**2).sum(-1) / 2 - 2 * t
    logs += np.log(np.outer(weights, weights).ravel())[:, None] + (e**2).sum(-1)[:, None] / 2
    logs += np.linalg.slogdet(root)[1]
    log, first, second = _integrated(logs, at)
    return log, first.T.ravel(), second.T.ravel()


def walk(steps: int, scale: float) -> Exact:
    """A walk from N(0, 1) with steps N(0, tau), tau ~ HalfNormal(1), seen with errors of sd 1."""
    rng = np.random.default_rng(steps)
    y = np.cumsum(rng.normal(0.0, scale, steps)) + rng.normal(size=steps)
    with pm.Model() as model:
        tau = pm.HalfNormal("tau", 1.0)
        x = pm.GaussianRandomWalk("u", 0.0, tau, init_dist=pm.Normal.dist(0.0, 1.0), shape=steps)
        pm.Normal("y", x, 1.0, observed=y)
    difference = np.eye(steps) - np.eye(steps, k=-1)

    def given(t: float) -> tuple[float, Floats, Floats]:
        weights = np.r_[1.0, np.full(steps - 1, np.exp(-2 * t))]
        precision = (difference.T * weights) @ difference + np.eye(steps)
        covariance = np.linalg.inv(precision)
        mean = covariance @ y
        log_det = np.linalg.slogdet(precision)[1]
        log = float(y @ mean - log_det + np.log(weights).sum()) / 2
        return log, mean, mean**2 + np.diag(covariance)

    return _mixed(model, given)


def counted_walk(kind: str, steps: int, scale: float) -> Exact:
    """A walk from N(0, tau) with steps N(0, tau), tau ~ HalfNormal(1), and data given it.

    Given tau it is a hidden Markov chain, summed forward and backward over a grid of values.

    Parameters
    ----------
    kind : {"poisson", "bernoulli"}
    steps : int
    scale : float
        The tau that data are drawn with.
    """
    rng = np.random.default_rng([steps, len(kind)])
    u = np.cumsum(rng.normal(0.0, scale, steps))
    with pm.Model() as model:
        tau = pm.HalfNormal("tau", 1.0)
        x = pm.GaussianRandomWalk("u", 0.0, tau, init_dist=pm.Normal.dist(0.0, tau), shape=steps)
        y = observed(kind, x, u, rng)
    at = np.arange(u.min() - _BEYOND, u.max() + _BEYOND, _STEP)
    log, *_ = _LIKELIHOODS[kind](y[:, None], 1)(at)
    seen = np.exp(log - log.max(1, keepdims=True))

    def given(t: float) -> tuple[float, Floats, Floats]:
        # steps shorter than those of the grid: nearly none of the posterior, as is seen below
        if np.exp(t) < _STEP:
            return _NOWHERE, 0 * u, 0 * u
        kernel = _STEP * np.exp(-np.exp(-2 * t) * (at[:, None] - at) ** 2 / 2 - t)
        before, after = np.empty((2, steps, len(at)))
        before[0] = _STEP * np.exp(-np.exp(-2 * t) * at**2 / 2 - t) * seen[0]
        total = 0.0
        for step in range(1, steps):
            size = before[step - 1].sum()
            before[step] = kernel @ (before[step - 1] / size) * seen[step]
            total += np.log(size)
        after[-1] = 1.0
        for step in range(steps - 2, -1, -1):
            after[step] = kernel @ (after[step + 1] * seen[step + 1])
            after[step] /= after[step].max()
        shares = before * after
        shares /= shares.sum(1, keepdims=True)
        return float(total + np.log(before[-1].sum())), shares @ at, shares @ at**2

    found = _mixed(model, given)
    if found.mean[0] - 5 * found.sd[0] < np.log(_STEP):
        raise AssertionError("the steps of the walk may be shorter than those of the grid")
    return found


def _mixed(model: pm.Model, given: Callable[[float], tuple[float, Floats, Floats]]) -> Exact:
    """Moments over all scales, from those given one: the grid is where the posterior is."""

    def prior(t: Any) -> Any:
        return t - np.exp(2 * t) / 2  # of the log of tau

    logs = np.array([given(t)[0] for t in _COARSE]) + prior(_COARSE)
    (near,) = np.nonzero(logs > logs.max() + _LEAST)
    low, high = _COARSE[max(near[0] - 1, 0)], _COARSE[min(near[-1] + 1, len(_COARSE) - 1)]
    at = np.linspace(low, high, _FINE)
    logs, means, seconds = map(np.stack, zip(*map(given, at), strict=True))
    logs = logs + prior(at)
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    mean = np.r_[weights @ at, weights @ means]
    second = np.r_[weights @ at**2, weights @ seconds]
    return Exact(model, mean, np.sqrt(second - mean**2))
