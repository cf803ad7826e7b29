"""Importance weights of an approximation's draws: from the approximation to the posterior.

Weights are p / q over the unconstrained space, smoothed by Pareto smoothed importance sampling
(PSIS): Vehtari, Simpson, Gelman, Yao & Gabry (2024), https://jmlr.org/papers/v25/19-556.html
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pmflow.records import Elbo
from pmflow.watch import importing

__all__ = [
    "MIN_DRAWS",
    "NEARLY_EQUAL",
    "Weights",
    "heavy_tail_factor",
    "importance_weights",
    "k_threshold",
]

type Array = NDArray[np.float64]

MIN_DRAWS = 100
"""Fewer draws have no tail to fit: 20 of them are in it."""

NEARLY_EQUAL = 0.98
"""ESS as a fraction of the draws above which k-hat decides nothing.

k-hat is the shape of the tail whatever its size. Where p has slightly heavier tails than q, weights
have a plateau and a few outliers, whose shape is estimated at 3 and more even if the outliers are
1.1 beside 1.0.
"""

_EQUAL = 1e-6
"""Log weights that differ by less are equal: what is left is rounding."""


@dataclass(frozen=True, eq=False)
class Weights:
    """Importance weights of draws, and what follows from them.

    Attributes
    ----------
    log_weights : ndarray, shape (draws,)
        Smoothed, their mean weight over all draws being 1; ``-inf`` where a draw has none.
    k_hat : float
        Shape of the generalised Pareto distribution fitted to the largest weights; 0 where these
        are all equal; NaN where too few draws have finite densities.
    k_threshold : float
        What it must not exceed, see `k_threshold`.
    ess, ess_raw : float
        Effective sample size of the smoothed and of the raw weights, as fractions of the draws.
    elbo, elbo_se, log_evidence, log_evidence_se, kl, kl_se : float
        With Monte Carlo standard errors; the divergence is `log_evidence` - `elbo`. NaN where
        too few draws have finite densities. Errors of what the weights give are widened where their
        tail is heavy (`heavy_tail_factor`).
    draws, non_finite : int
        All draws, and those among them whose log p or log q is not finite.
    """

    log_weights: Array
    k_hat: float
    k_threshold: float
    ess: float
    ess_raw: float
    elbo: float
    elbo_se: float
    log_evidence: float
    log_evidence_se: float
    kl: float
    kl_se: float
    draws: int
    non_finite: int


def k_threshold(draws: int) -> float:
    """The largest k-hat at which so many draws still do: min(1 - 1 / log10(draws), 0.7).

    Vehtari et al. (2024), section 3.2.4, https://jmlr.org/papers/v25/19-556.html
    """
    return min(1 - 1 / np.log10(draws), 0.7)


def heavy_tail_factor(k_hat: float, draws: int) -> float:
    """By how much the error of a mean of weights exceeds what their spread says: S^(k - 1/2).

    With a tail index k above 1/2 the weights have no variance, and the error of the mean of S of
    them shrinks as S^(k - 1), not as S^(-1/2): Vehtari et al. (2024), section 3.2,
    https://jmlr.org/papers/v25/19-556.html
    """
    return float(draws ** max(min(k_hat, 1.0) - 0.5, 0.0))


def importance_weights(log_p: Array, log_q: Array) -> Weights:
    """Smoothed importance weights of draws from q.

    The evidence is the mean of the *smoothed* weights. The mean of the raw ones is unbiased, but
    as long as the heaviest weights have not been drawn it is too small and so is its error;
    smoothing gives the tail its expected size, and keeps the number in line with the weighted
    moments. Where the tail is light the two are the same.

    Parameters
    ----------
    log_p, log_q : ndarray, shape (draws,)
        Log densities over the unconstrained space; `log_p` need not be normalised. A draw whose
        ``log_p`` is -inf has the weight 0; one with any other value that is not finite is left
        out.

    Returns
    -------
    Weights
    """
    draws = len(log_p)
    with np.errstate(invalid="ignore"):
        ratio = np.asarray(log_p, dtype=float) - np.asarray(log_q, dtype=float)
    finite = np.isfinite(log_p) & np.isfinite(log_q)
    # outside of the support the weight is 0, which is a value like any other
    outside = np.isneginf(log_p) & np.isfinite(log_q)
    if finite.sum() < MIN_DRAWS:
        return _no_weights(draws, int(draws - finite.sum()))
    known = int(finite.sum() + outside.sum())
    raw = ratio[finite]
    smooth, k_hat = _smooth(raw)
    terms = np.append(np.exp(smooth - smooth.max()), np.zeros(outside.sum()))
    mean = terms.mean()
    relative = terms / mean
    elbo, log_evidence = Elbo.of(raw), float(np.log(mean) + smooth.max())
    # errors by the delta method: the influence of each draw on the estimate
    of_kl = relative[: len(raw)] - 1 - (raw - elbo.value)
    wider = heavy_tail_factor(k_hat, len(raw))
    rounding = np.finfo(float).eps * np.abs(np.asarray(log_p, dtype=float)[finite]).max()
    log_weights = np.full(draws, -np.inf)
    log_weights[finite] = smooth - log_evidence
    return Weights(
        log_weights=log_weights,
        k_hat=k_hat,
        k_threshold=k_threshold(len(raw)),
        ess=_effective(smooth, draws),
        ess_raw=_effective(raw, draws),
        elbo=elbo.value,
        elbo_se=elbo.error,
        log_evidence=log_evidence,
        log_evidence_se=float(wider * relative.std(ddof=1) / np.sqrt(known) + rounding),
        kl=log_evidence - elbo.value,
        kl_se=float(wider * of_kl.std(ddof=1) / np.sqrt(len(raw)) + rounding),
        draws=draws,
        non_finite=int(draws - finite.sum()),
    )


def tail_of_squares(log_weights: Array, values: Array) -> Array:
    """The k-hat of what draws add to the variance of each of some quantities.

    It may be large where that of the weights is small: then a variance is of a few draws that are
    far out, and what lies beyond them is not known. Vehtari et al. (2024), section 3.3,
    https://jmlr.org/papers/v25/19-556.html

    Parameters
    ----------
    log_weights : ndarray, shape (draws,)
    values : ndarray, shape (draws, n)

    Returns
    -------
    ndarray, shape (n,)
        0 where too few draws are finite, or do not differ.
    """
    known = np.isfinite(log_weights) & np.isfinite(values).all(1)
    log_weights, values = log_weights[known], values[known]
    if len(values) < MIN_DRAWS:
        return np.zeros(values.shape[1])
    shares = np.exp(log_weights - log_weights.max())
    mean = shares @ values / shares.sum()
    away = np.where(np.isclose(values, mean, rtol=1e-12, atol=0), 0.0, values - mean)
    with np.errstate(divide="ignore"):
        terms = log_weights[:, None] + 2 * np.log(np.abs(away))
    finite = [one[np.isfinite(one)] for one in terms.T]
    return np.array([_smooth(one)[1] if len(one) >= MIN_DRAWS else 0.0 for one in finite])


def _no_weights(draws: int, non_finite: int) -> Weights:
    """Where too few densities are finite."""
    nan = float("nan")
    return Weights(
        log_weights=np.full(draws, -np.inf),
        k_hat=nan,
        k_threshold=k_threshold(max(draws, MIN_DRAWS)),
        ess=0.0,
        ess_raw=0.0,
        elbo=nan,
        elbo_se=nan,
        log_evidence=nan,
        log_evidence_se=nan,
        kl=nan,
        kl_se=nan,
        draws=draws,
        non_finite=non_finite,
    )


def _smooth(raw: Array) -> tuple[Array, float]:
    """PSIS of log weights, on their own scale, and k-hat."""
    with importing("arviz_stats.base"):
        from arviz_stats.base import array_stats  # slow to import

    largest = np.sort(raw)[-int(np.ceil(3 * np.sqrt(len(raw)))) :]  # at least the tail of PSIS
    if np.ptp(largest) < _EQUAL:
        return raw, 0.0
    with np.errstate(all="ignore"):
        # ArviZ negates what it is given, as if it were a log likelihood that was left out
        normalised, k_hat = array_stats.psislw(-raw)
    normalised = np.asarray(normalised, dtype=float)
    # a tail of ties has no shape: infinite, for no trust in what was not seen
    k_hat = float(np.nan_to_num(k_hat, nan=np.inf, posinf=np.inf))
    if not np.isfinite(normalised).all():
        return raw, k_hat
    # the smallest weight is not of the tail: it tells by how much ArviZ shifted them all
    least = np.argmin(raw)
    return normalised + (raw[least] - normalised[least]), k_hat


def _effective(log_weights: Array, draws: int) -> float:
    """Effective sample size as a fraction of the draws; by rounding it would be more than 1."""
    weights = np.exp(log_weights - log_weights.max())
    return min(1.0, float(weights.sum() ** 2 / (weights**2).sum()) / draws)
