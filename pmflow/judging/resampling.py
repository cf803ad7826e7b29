"""Draws from the posterior by way of an approximation: importance resampling."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pmflow.checks import check_seed, checked_count
from pmflow.errors import NonFiniteError
from pmflow.judging.densities import check_densities
from pmflow.judging.weights import MIN_DRAWS, NEARLY_EQUAL, Weights, importance_weights
from pmflow.records import systematic_choice

__all__ = ["importance_resample"]

_CANDIDATES = 10
"""Candidates for each draw that is kept, by default."""


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
        If the approximation has no density, or what the model observes in minibatches is no sum
        over rows.
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
    found = approx.sample_by_all_rows(candidates, seed)
    stats = found["sample_stats"].to_dataset()
    weights = importance_weights(stats["log_p"].values.ravel(), stats["log_q"].values.ravel())
    if np.isnan(weights.k_hat):
        raise NonFiniteError(
            f"importance_resample needs {MIN_DRAWS} candidates of finite density at least, but "
            f"{weights.non_finite:,} of {weights.draws:,} have log_p or log_q that is not finite. "
            "Look at pmflow.diagnose(approx) and model.point_logps()."
        )
    _warn_of_heavy_weights(weights)
    rng = np.random.default_rng(shuffle_seed)
    chosen = rng.permutation(systematic_choice(np.exp(weights.log_weights), draws, rng.random()))
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
