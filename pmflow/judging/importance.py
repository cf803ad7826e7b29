"""Importance weights of an approximation's draws: from the approximation to the posterior.

Weights are p / q over the unconstrained space, smoothed by Pareto smoothed importance sampling
(PSIS): Vehtari, Simpson, Gelman, Yao & Gabry (2024), https://jmlr.org/papers/v25/19-556.html
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pmflow.checks import check_seed, checked_count
from pmflow.errors import NonFiniteError, ParameterError, UnsupportedError
from pmflow.graphs.minibatches import observed_in_minibatches

__all__ = [
    "MIN_DRAWS",
    "NEARLY_EQUAL",
    "Shifts",
    "Weights",
    "check_densities",
    "heavy_tail_factor",
    "importance_resample",
    "importance_weights",
    "k_threshold",
    "weighted_shifts",
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

_COLUMNS_AT_ONCE = 500
"""Components whose moments are computed together, so that memory stays bounded."""

_CANDIDATES = 10
"""Candidates for each draw that is kept, by default."""


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
    elbo, log_evidence = float(raw.mean()), float(np.log(mean) + smooth.max())
    # errors by the delta method: the influence of each draw on the estimate
    of_elbo = raw - elbo
    of_kl = relative[: len(raw)] - 1 - of_elbo
    wider = heavy_tail_factor(k_hat, len(raw))
    rounding = np.finfo(float).eps * np.abs(np.asarray(log_p, dtype=float)[finite]).max()
    log_weights = np.full(draws, -np.inf)
    log_weights[finite] = smooth - log_evidence
    return Weights(
        log_weights=log_weights,
        k_hat=k_hat,
        k_threshold=k_threshold(len(raw)),
        ess=_ess(smooth) / draws,
        ess_raw=_ess(raw) / draws,
        elbo=elbo,
        elbo_se=float(of_elbo.std(ddof=1) / np.sqrt(len(raw))),
        log_evidence=log_evidence,
        log_evidence_se=float(wider * relative.std(ddof=1) / np.sqrt(known) + rounding),
        kl=log_evidence - elbo,
        kl_se=float(wider * of_kl.std(ddof=1) / np.sqrt(len(raw)) + rounding),
        draws=draws,
        non_finite=int(draws - finite.sum()),
    )


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


def _ess(log_weights: Array) -> float:
    weights = np.exp(log_weights - log_weights.max())
    return float(weights.sum() ** 2 / (weights**2).sum())


@dataclass(frozen=True, eq=False)
class Shifts:
    """Moments of components before and after weighting, each of shape (components,).

    Attributes
    ----------
    mean_before, mean_after, sd_before, sd_after : ndarray
        Of the draws as they are, and weighted.
    mean_shift : ndarray
        After minus before, in units of the sd after.
    mean_shift_mcse : ndarray
        Its Monte Carlo standard error.
    sd_ratio : ndarray
        Before over after: below 1 the approximation is too narrow.
    sd_ratio_mcse : ndarray
        Its Monte Carlo standard error.
    """

    mean_before: Array
    mean_after: Array
    sd_before: Array
    sd_after: Array
    mean_shift: Array
    mean_shift_mcse: Array
    sd_ratio: Array
    sd_ratio_mcse: Array


def weighted_shifts(values: Array, log_weights: Array) -> Shifts:
    """How importance weights move means and standard deviations.

    Both sides come from the same draws, so what they have in common cancels: with nearly equal
    weights the errors are far below those of the moments. Errors are by the delta method, from
    the influence of each draw. A component that does not vary, or has values that are not finite,
    gets NaN.

    Parameters
    ----------
    values : ndarray, shape (draws, components)
    log_weights : ndarray, shape (draws,)
        -inf for draws to be left out.
    """
    kept = np.isfinite(log_weights)
    weights = np.exp(log_weights[kept])
    weights /= weights.mean()
    parts = [
        _shifts(values[kept, begin : begin + _COLUMNS_AT_ONCE].astype(float), weights)
        for begin in range(0, max(values.shape[1], 1), _COLUMNS_AT_ONCE)
    ]
    return Shifts(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _shifts(values: Array, weights: Array) -> tuple[Array, ...]:
    """The fields of `Shifts` in their order; `weights` of mean 1, shape (draws,)."""
    # numbers that do not vary have an sd of 1e-17, and infinite ones none
    still = ~(np.ptp(values, axis=0) > 0) | ~np.isfinite(values).all(0)
    values = np.where(still, np.nan, values)
    w = weights[:, None]
    mean, mean_w = values.mean(0), (w * values).mean(0)
    away, away_w = values - mean, values - mean_w
    var, var_w = (away**2).mean(0), (w * away_w**2).mean(0)
    sd, sd_w = np.sqrt(var), np.sqrt(var_w)
    unit = np.where(sd_w > 0, sd_w, sd)  # one draw with all the weight has no sd
    with np.errstate(divide="ignore", invalid="ignore"):
        shift, ratio = (mean_w - mean) / unit, sd / unit
        of_log_sd = (away**2 / var - 1) / 2
        of_log_sd_w = w * (away_w**2 / unit**2 - 1) / 2
        of_shift = (w * away_w - away) / unit - shift * of_log_sd_w
        of_ratio = ratio * (of_log_sd - of_log_sd_w)
    root = np.sqrt(len(values))
    return (
        *(mean, mean_w, sd, sd_w),
        *(shift, np.sqrt((of_shift**2).mean(0)) / root),
        *(ratio, np.sqrt((of_ratio**2).mean(0)) / root),
    )


def check_densities(approx: Any, what: str) -> None:
    """Refuse what has no exact log p or no log q, before anything is drawn.

    Raises
    ------
    ParameterError
        If it is no approximation.
    UnsupportedError
        If the approximation has no density, or log p is an estimate from a minibatch.
    """
    if not hasattr(approx, "sample"):
        raise ParameterError(
            f"{what} needs an approximation, but got an object of type {type(approx).__name__}. "
            "Pass what pmflow.fit or NFVI(...).fit returned, the .approx of an inference."
        )
    if not getattr(approx, "has_logq", True):
        raise UnsupportedError(
            f"{what} needs the density of the approximation, but a group of it has none "
            "(PyMC's Empirical). Use a flow for all variables, such as "
            'pmflow.NFVI("scale-hh*2-loc").'
        )
    if not hasattr(approx, "log_prob"):
        raise UnsupportedError(
            f"{what} needs log_p and log_q of each draw, but the draws of {type(approx).__name__} "
            "come without. Fit with pmflow: the family of pm.fit(method='advi') is "
            'pmflow.fit(method="nfvi=scale-loc"), that of fullrank_advi is "nfvi=tril-loc".'
        )
    names = observed_in_minibatches(approx.model)
    if names:
        raise UnsupportedError(
            f"{what} needs the log density of the model on all data, but {', '.join(names)} "
            f"{'is' if len(names) == 1 else 'are'} observed in minibatches, so that log_p is an "
            "estimate: neither k-hat nor evidence can be had from it. Make the same model with all "
            "of the data, give it the fitted parameters, "
            "full = pmflow.NormalizingFlow(approx.formula, model=full_model); "
            "[new.set_value(old.get_value()) for new, old in zip(full.params, approx.params)], "
            "and ask about `full`."
        )


def importance_resample(
    approx: Any, draws: int = 1_000, random_seed: Any = None, *, candidates: int | None = None
) -> xr.DataTree:
    """Draws from the posterior by way of an approximation that is near it.

    Many candidates are drawn from the approximation, weighted by p / q with Pareto smoothing, and
    resampled systematically in random order: a candidate whose weight asks for 2.3 copies gets 2
    or 3. Candidates with less than one expected copy are taken at most once, so that with many
    candidates for each draw hardly any is repeated; draws without any repetition would no longer
    follow the weights. What comes back is not weighted: use it as any other draws.

    Parameters
    ----------
    approx : Approximation
    draws : int
        How many to keep.
    random_seed : int, Generator or RandomState, optional
        Seeds candidates and resampling. By default the seed continues from that of the
        approximation.
    candidates : int, optional
        How many to draw; 10 for each that is kept by default, and at least 1,000. More of them
        make repetitions rarer and reach further into the tails.

    Returns
    -------
    DataTree
        As `NormalizingFlow.sample` returns it. ``sample_stats`` has `log_p` and `log_q`, the
        `log_weight` that the draw had as a candidate (relative to the mean weight), and
        `candidate`, its number, by which repetitions are told. Its attributes: ``k_hat``,
        ``k_threshold``, ``ess`` (of the candidates, in draws), ``candidates``,
        ``distinct_draws``.

    Warns
    -----
    UserWarning
        If k-hat is above its threshold: the weights do not lead to the posterior then. Not where
        the effective sample size is above 98 % of the candidates, since there is little to weigh.

    Raises
    ------
    ParameterError
        If `draws` or `candidates` is not a positive integer, or there are too few candidates.
    UnsupportedError
        If the approximation has no density, or the model observes minibatches.
    NonFiniteError
        If fewer than 100 candidates have a finite weight.

    References
    ----------
    Vehtari et al. (2024), Pareto smoothed importance sampling,
    https://jmlr.org/papers/v25/19-556.html

    Kitagawa (1996), https://doi.org/10.2307/1390750 (systematic resampling)

    Examples
    --------
    >>> import pymc as pm, pmflow as pmf
    >>> with pm.Model():
    ...     x = pm.Gamma("x", 20, 1)
    ...     approx = pmf.NormalizingFlow("scale-loc", start={"x": 20}, random_seed=1)
    >>> approx.params[0].set_value([-1.2])  # as a fit would: log x has an sd of 0.22 or so
    >>> idata = pmf.importance_resample(approx, 1000, random_seed=1)
    >>> bool(abs(idata["posterior"]["x"].mean() - 20) < 0.5)
    True
    """
    draws = checked_count("draws", draws, 1)
    least = max(draws, MIN_DRAWS)
    if candidates is None:
        candidates = max(_CANDIDATES * draws, 1_000)
    else:
        candidates = checked_count("candidates", candidates, least)
    check_seed(random_seed)
    check_densities(approx, "importance_resample")
    seed, shuffle_seed = _two_seeds(approx, random_seed)
    found = approx.sample(candidates, random_seed=seed)
    stats = found["sample_stats"].to_dataset()
    weights = importance_weights(stats["log_p"].values.ravel(), stats["log_q"].values.ravel())
    if np.isnan(weights.k_hat):
        raise NonFiniteError(
            f"importance_resample needs {MIN_DRAWS} candidates of finite density at least, but "
            f"{weights.non_finite:,} of {weights.draws:,} have log_p or log_q that is not finite. "
            "Look at pmflow.diagnose(approx) and model.debug()."
        )
    _warn_of_heavy_weights(weights)
    rng = np.random.default_rng(shuffle_seed)
    chosen = rng.permutation(_systematic(np.exp(weights.log_weights), draws, rng))
    kept = xr.DataTree.from_dict(
        {name: _chosen(group.to_dataset(), chosen) for name, group in found.children.items()},
    )
    kept.attrs = dict(found.attrs)
    new = kept["sample_stats"].to_dataset()
    dims = ("chain", "draw")
    new["log_weight"] = (dims, weights.log_weights[chosen][None])
    new["candidate"] = (dims, chosen[None])
    new.attrs |= {
        "k_hat": weights.k_hat,
        "k_threshold": weights.k_threshold,
        "ess": weights.ess * candidates,
        "candidates": candidates,
        "distinct_draws": len(np.unique(chosen)),
    }
    kept["sample_stats"] = xr.DataTree(new)
    return kept


def _warn_of_heavy_weights(weights: Weights) -> None:
    if weights.k_hat <= weights.k_threshold or weights.ess > NEARLY_EQUAL:
        return
    warnings.warn(
        f"k-hat is {weights.k_hat:.2f}, above {weights.k_threshold:.2f}: a few draws carry the "
        "weight, and resampling does not lead to the posterior. Improve the approximation first; "
        "pmflow.diagnose(approx) says what to try.",
        stacklevel=3,
    )


def _systematic(weights: Array, draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of so many draws: one point in each of equal slices of the total weight."""
    ladder = np.cumsum(weights)
    points = (np.arange(draws) + rng.random()) * (ladder[-1] / draws)
    # a point on the very end falls to the last candidate that has a weight
    last = int(np.flatnonzero(weights)[-1])
    return np.minimum(np.searchsorted(ladder, points, side="right"), last)


def _chosen(group: xr.Dataset, chosen: NDArray[np.int64]) -> xr.Dataset:
    if "draw" not in group.dims:
        return group
    taken = group.isel(draw=chosen)
    return taken.assign_coords(draw=np.arange(len(chosen)))


def _two_seeds(approx: Any, random_seed: Any) -> tuple[int, int]:
    if random_seed is None:
        random_seed = int(approx.rng.randint(2**30, dtype=np.int64))
    if isinstance(random_seed, np.random.Generator):
        first, second = random_seed.integers(2**30, size=2)
    elif isinstance(random_seed, np.random.RandomState):
        first, second = random_seed.randint(2**30, size=2)
    else:
        # the candidates are those of approx.sample(candidates, random_seed=random_seed)
        first, second = random_seed, np.random.SeedSequence(random_seed).generate_state(1)[0]
    return int(first), int(second)
