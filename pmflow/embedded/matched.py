"""A distribution of global variables whose log density has the gradients that were seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pmflow.embedded.bent import KNOTS, Bends, Bent
from pmflow.embedded.bent_lines import bent_lines
from pmflow.embedded.nearest import climbed, foretelling

__all__ = ["matched", "moved"]

_STEEPEST = 4.0
"""Precisions relative to those before, or one over that: as much as one round may change."""
_FARTHEST = 0.8
"""Sds that one round may move the middle, or a tenth of that for each variable where it is more."""
_OUT = 4.0
"""Where a place counts as far out, in sds of the squared distances of draws."""
_FOR_BENDS = 96
"""Places, from which on the variables are bent."""
_BENDS = (-2.0, -1.0, 0.0, 1.0, 2.0)
"""Where the score of a variable may bend, in sds."""
_GRID = np.linspace(-8.0, 8.0, 1_601)

type Floats = NDArray[np.float64]


def matched(near: Bent, theta: Floats, scores: Floats) -> Bent:
    """The distribution whose scores are nearest to those seen at some places.

    Score matching, by regression: the gradient of a Gaussian's log density is linear. A gradient
    says as many numbers about the distribution as there are variables, where a value says one.

    Parameters
    ----------
    near : Bent
        That which the places are draws of, about.
    theta, scores : ndarray, shape (n, globals)
        Places, and gradients of the log density there. Those that earlier rounds have looked at
        and that lie far out by now are left out: gradients bend on the way.

    References
    ----------
    Cai, Modi, Pillaud-Vivien, Margossian, Gower, Blei & Saul (2024), Batch and match: black-box
    variational inference with a score-based divergence, https://arxiv.org/abs/2402.14758
    """
    is_near = _are_near(near.standardised(theta))
    if is_near.sum() > theta.shape[1] + 2:
        theta, scores = theta[is_near], scores[is_near]
    if len(theta) >= _FOR_BENDS:
        near = _bent_anew(near, theta, scores)
    y, rest = near.standardised(theta), near.excess(theta, scores)
    constant, slope = _lines(y, rest)
    farthest = _FARTHEST * max(1.0, y.shape[1] / 10)
    step, turned = climbed(constant, np.eye(y.shape[1]) - slope, _STEEPEST, farthest)
    root = near.root @ turned
    return replace(near, mean=near.mean + near.root @ step, root=np.linalg.cholesky(root @ root.T))


def moved(before: Bent, after: Bent) -> float:
    """The most that a mean has moved, in sds, or twice the most that an sd has changed."""
    earlier, later = before.by_moments, after.by_moments
    sds, new = (np.sqrt((each.factor**2).sum(1)) for each in (earlier, later))
    of_means, of_sds = np.abs(later.mean - earlier.mean) / sds, np.abs(new / sds - 1)
    return float(max(of_means.max(), 2 * of_sds.max()))


def _are_near(y: Floats) -> NDArray[np.bool_]:
    """Which places, standardised, of shape (n, globals), are where draws are."""
    size = y.shape[1]
    return np.asarray((y**2).sum(1) < size + _OUT * np.sqrt(2 * size))


def _lines(y: Floats, rest: Floats) -> tuple[Floats, Floats]:
    """Constants and symmetric slopes of scores by their places.

    That of each variable by itself is free, those by the others are drawn to 0 by as much as
    foretells best.
    """
    size = y.shape[1]
    constant, slope = np.empty(size), np.empty((size, size))
    ones = np.ones(len(y))
    for k in range(size):
        others = np.delete(np.arange(size), k)
        x = np.column_stack([ones, y[:, k], y[:, others]])
        constant[k], slope[k, k], *rows = foretelling(x, rest[:, k], ones, 2)
        slope[k, others] = rows
    return constant, (slope + slope.T) / 2


def _bent_anew(near: Bent, theta: Floats, scores: Floats) -> Bent:
    """With the skewness and the tails of each variable that its marginal's scores ask for.

    The score of a marginal is the mean of that along the way on which the others follow.
    """
    bends, covariance = near.bends, near.covariance
    sds = np.sqrt(np.diag(covariance))
    psi = bends.undone(theta)
    of_marginals = bends.pulled_back(psi, scores) @ (covariance / sds**2)
    z = (psi - near.mean) / sds
    rest = sds * of_marginals + z
    placed, slopes = np.empty((2, len(KNOTS), len(sds)))
    for k in range(len(sds)):
        placed[:, k], slopes[:, k] = _quantiles(z[:, k], rest[:, k])
    at = near.mean + sds * placed
    values = bends(at)
    slopes *= sds * np.exp(bends.log_slopes(at))
    return Bent(np.zeros_like(sds), near.root / sds[:, None], Bends.through(values, slopes))


def _quantiles(z: Floats, rest: Floats) -> tuple[Floats, Floats]:
    """Where a variable is as far out as a normal one at the knots, and the derivatives.

    Parameters
    ----------
    z, rest : ndarray, shape (n,)
        Places, and scores of its marginal less those of a standard normal variable.
    """
    from scipy.special import ndtr

    coefficients = foretelling(_features(z), rest, np.ones(len(z)), 2)
    # farther out than it was seen, what it is beside a normal variable stays what it is there
    score = _features(np.clip(_GRID, z.min(), z.max())) @ coefficients - _GRID
    width = _GRID[1] - _GRID[0]
    log_density = np.concatenate([[0.0], np.cumsum(score[1:] + score[:-1]) * width / 2])
    density = np.exp(log_density - log_density.max())
    steps = (density[1:] + density[:-1]) * width / 2
    below = np.concatenate([[0.0], np.cumsum(steps)])
    above = np.concatenate([np.cumsum(steps[::-1])[::-1], [0.0]])
    total = below[-1]
    half = int(np.searchsorted(below, total / 2))
    # of the smaller share: the other has lost the digits far out
    left = np.interp(ndtr(KNOTS) * total, below[: half + 1], _GRID[: half + 1])
    right = np.interp(-ndtr(-KNOTS) * total, -above[half:], _GRID[half:])
    placed = np.where(ndtr(KNOTS) * total <= below[half], left, right)
    log_normal = -(KNOTS**2) / 2 - np.log(2 * np.pi) / 2
    slopes = np.exp(log_normal) * total / np.interp(placed, _GRID, density)
    return placed, slopes


def _features(z: Floats) -> Floats:
    return np.concatenate(bent_lines(z[:, None], _BENDS, np), axis=1)
