"""The Gaussian nearest to a marginal whose values are known at draws."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pmflow.embedded.proposal import Proposal

__all__ = ["climbed", "foretelling", "nearest_gaussian"]

_PENALTIES = np.logspace(-5, 2, 15)
"""Of curvatures, relative to the weight of all draws: that is taken which foretells draws best."""
_UNPENALISED = 1e3
"""Scale of the columns of the constant and the lines, which are as good as free."""
_STEEPEST = 9.0
"""Curvatures of the marginal relative to those of the proposal, or one over that: as much as one
round may change."""
_FARTHEST = 3.0
"""Sds that one round may move the middle."""

type Floats = NDArray[np.float64]


def nearest_gaussian(
    proposal: Proposal, theta: Floats, log_marginal: Floats, log_shares: Floats
) -> tuple[Floats, Floats]:
    """Mean and covariance of the Gaussian whose log density is nearest to a log marginal.

    By a quadratic of least squares, each draw counting by the root of its weight. The values have
    no noise, so a marginal that is a Gaussian is found exactly by as many draws as a quadratic has
    coefficients, where moments of so many weighted draws would be all chance. With fewer draws the
    curvatures are drawn towards those of the proposal, by as much as foretells each draw best that
    is left out.

    Parameters
    ----------
    proposal : Proposal
        Somewhere near.
    theta : ndarray, shape (n, globals)
    log_marginal : ndarray, shape (n,)
    log_shares : ndarray, shape (n,)
        Importance weights of the draws.
    """
    is_known = np.isfinite(log_marginal)
    y, log_shares = proposal.standardised(theta[is_known]), log_shares[is_known]
    size = y.shape[1]
    above = log_marginal[is_known] + (y**2).sum(1) / 2
    above -= above.max()
    # a row of least squares is multiplied by the root of what it counts
    roots = np.exp((log_shares - log_shares.max()) / 4)
    one, other = np.tril_indices(size)
    x = np.concatenate([np.ones((len(y), 1)), y, y[:, one] * y[:, other]], axis=1)
    found = foretelling(x, above, roots, 1 + size)
    bent = np.zeros((size, size))
    bent[one, other] = found[1 + size :]
    precision = np.eye(size) - bent - bent.T
    step, turned = climbed(found[1 : 1 + size], precision, _STEEPEST, _FARTHEST)
    root = proposal.factor @ turned
    return proposal.mean + proposal.factor @ step, root @ root.T


def climbed(
    slope: Floats, precision: Floats, steepest: float, farthest: float
) -> tuple[Floats, Floats]:
    """The step to the top of a quadratic, and a root of its covariance, both within limits.

    Parameters
    ----------
    slope : ndarray, shape (size,)
        Where the step begins, in units of a Gaussian nearby.
    precision : ndarray, shape (size, size)
        In the same units: its eigenvalues are kept between one over `steepest` and that.
    steepest, farthest : float
        Of precisions, and the longest step.
    """
    values, vectors = np.linalg.eigh(precision)
    values = np.clip(values, 1 / steepest, steepest)
    step = vectors @ (vectors.T @ slope / values)
    step *= min(1.0, farthest / max(float(np.linalg.norm(step)), 1e-300))
    return step, vectors / np.sqrt(values)


def foretelling(x: Floats, y: Floats, roots: Floats, free: int) -> Floats:
    """Coefficients by least squares, with that penalty by which each row is foretold best.

    By all others, that is: errors of leaving one out are had from one decomposition.

    Parameters
    ----------
    x : ndarray, shape (n, columns)
    y : ndarray, shape (n,)
    roots : ndarray, shape (n,)
        Of the weights of the rows.
    free : int
        How many of the first columns are not penalised.
    """
    scale = np.ones(x.shape[1])
    scale[:free] = _UNPENALISED
    left, sizes, right = np.linalg.svd(x * scale * roots[:, None], full_matrices=False)
    at = left.T @ (y * roots)
    best, found = np.inf, np.zeros(x.shape[1])
    for penalty in _PENALTIES * float((roots**2).sum()):
        kept = sizes**2 / (sizes**2 + penalty)
        own = (left**2) @ kept
        missed = (y * roots - left @ (kept * at)) / np.maximum(1 - own, 1e-12)
        score = float((missed**2).sum())
        if score < best:
            best, found = score, scale * (right.T @ (kept * at / np.maximum(sizes, 1e-300)))
    return found
