"""Fits from several starts: whether they found the same distribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pmflow.errors import ParameterError
from pmflow.judging.components import component_table
from pmflow.judging.weights import MIN_DRAWS, importance_weights
from pmflow.records import Elbo, Starts, systematic_choice
from pmflow.watch import importing

__all__ = ["starts_agreement"]

type Array = NDArray[np.float64]

_SAME_MODE = 1.0
"""Starts nearer than this, in sds of all starts together, found the same mode: two normals of
equal sd that far apart have one peak."""


_NUMBERS, _FEWEST_DRAWS = 10**6, 100
"""How many numbers R-hat is taken of, all components together, and from how many draws at least."""


def starts_agreement(
    draws: Sequence[xr.DataTree | Mapping[str, Any]],
    log_weights: Sequence[Any] | None = None,
) -> Starts:
    """Whether fits from several starts found the same distribution.

    Parameters
    ----------
    draws : sequence of DataTree, or of dict of str to ndarray
        For each start what `NormalizingFlow.sample` returns, or variables by name, the first axis
        being the draw.
    log_weights : sequence of ndarray, each of shape (draws,), optional
        log p - log q of the draws of each start, over the unconstrained space. Taken from the
        ``sample_stats`` of a DataTree where not given.

    Returns
    -------
    Starts
        R-hat is rank-normalised (Vehtari et al., 2021, https://doi.org/10.1214/20-BA1221). Two
        starts are of one mode if a chain of starts leads from one to the other, each less than one
        pooled sd from the next, as they are or after importance weighting: a start that is poor
        but reaches what the others found is no mode of its own. The evidence of a mode is the mean
        over its starts of the smoothed estimates; starts of one mode share its weight in
        proportion to exp(ELBO).

    Raises
    ------
    ParameterError
        If there are fewer than two starts, their variables differ, or weights are missing.
    """
    tables = [_table_of(start, number) for number, start in enumerate(draws)]
    if len(tables) < 2:
        raise ParameterError(
            f"starts_agreement needs the draws of at least 2 starts, but got {len(tables)}."
        )
    if log_weights is None:
        log_weights = [_log_weights_of(start, number) for number, start in enumerate(draws)]
    if len(log_weights) != len(tables):
        raise ParameterError(
            f"log_weights must have an array for each of the {len(tables)} starts, "
            f"but has {len(log_weights)}."
        )
    for number, table in enumerate(tables):
        if table.shape[1] != tables[0].shape[1]:
            raise ParameterError(
                "All starts must have the same variables, but start 0 has "
                f"{tables[0].shape[1]} numbers a draw and start {number} has {table.shape[1]}."
            )
        if np.size(log_weights[number]) != len(table):
            raise ParameterError(
                f"log_weights of start {number} must have a number for each of its {len(table)} "
                f"draws, but has {np.size(log_weights[number])}."
            )
    length = min(len(table) for table in tables)
    if length < 4:
        raise ParameterError(f"Each start must have at least 4 draws, but one has {length}.")
    values = np.stack([table[:length] for table in tables])  # (starts, draws, components)
    distance = _distances(values)
    weighted = np.stack(
        [_weighted(table[:length], w) for table, w in zip(tables, log_weights, strict=True)]
    )
    modes = _modes(np.minimum(distance, _distances(weighted)))
    terms = [np.asarray(w, dtype=float).ravel() for w in log_weights]
    elbo, elbo_se = np.transpose([Elbo.of(w) for w in terms])
    evidence = np.array([_log_evidence(w) for w in terms])
    return Starts(
        elbo=elbo,
        elbo_se=elbo_se,
        rhat=_largest_rhat(values),
        wasserstein=distance,
        modes=modes,
        weights=_evidence_weights(elbo, evidence, np.array(modes)),
    )


def _table_of(start: xr.DataTree | Mapping[str, Any], number: int) -> Array:
    """Draws of one start, shape (draws, components), variables in the order of their names."""
    if isinstance(start, xr.DataTree):
        posterior = start["posterior"].to_dataset()
        return component_table(posterior[sorted(map(str, posterior.data_vars))])[1]
    if not isinstance(start, Mapping) or not start:
        raise ParameterError(
            f"Start {number} must be a DataTree or a dict of arrays of draws, "
            f"but is of type {type(start).__name__}."
        )
    arrays = [np.asarray(start[name], dtype=float) for name in sorted(start)]
    lengths = {array.shape[:1] for array in arrays}
    if len(lengths) != 1 or () in lengths:
        raise ParameterError(
            f"The arrays of start {number} must have as many draws each, along the first axis, "
            f"but their shapes are {', '.join(str(array.shape) for array in arrays)}."
        )
    return np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)


def _log_weights_of(start: xr.DataTree | Mapping[str, Any], number: int) -> Array:
    stats = start.children.get("sample_stats") if isinstance(start, xr.DataTree) else None
    if stats is None or not {"log_p", "log_q"} <= {*stats.data_vars}:
        raise ParameterError(
            f"Start {number} has no sample_stats with log_p and log_q: pass log_weights, "
            "log p - log q of each draw."
        )
    return np.asarray(stats["log_p"] - stats["log_q"], dtype=float).ravel()


def _weighted(table: Array, log_weights: Any) -> Array:
    """The draws resampled by their weights, in even steps; as they are where weights fail."""
    terms = np.asarray(log_weights, dtype=float).ravel()[: len(table)]
    if not np.isfinite(terms).all():
        return table
    return table[systematic_choice(np.exp(terms - terms.max()), len(table), 0.5)]


def _distances(values: Array) -> Array:
    """Largest Wasserstein-1 distance of the marginals, in pooled sds, shape (starts, starts)."""
    starts, draws, components = values.shape
    # of as many draws each it is the mean distance of the sorted ones
    with np.errstate(invalid="ignore"):
        ordered = np.sort(values, axis=1)
        pooled = values.reshape(starts * draws, components)
        unit = np.where(np.ptp(pooled, axis=0) > 0, pooled.std(0), np.inf)
    distance = np.zeros((starts, starts))
    for i in range(starts):
        for j in range(i):
            gaps = np.abs(ordered[i] - ordered[j]).mean(0) / unit
            # draws that are not finite are as far away as can be
            distance[i, j] = distance[j, i] = np.nan_to_num(gaps, nan=np.inf, posinf=np.inf).max()
    return distance


def _modes(distance: Array) -> tuple[int, ...]:
    """Groups of starts that a chain of near neighbours joins, numbered as they appear."""
    modes = np.full(len(distance), -1)
    for first in range(len(distance)):
        if modes[first] >= 0:
            continue
        modes[first], reached = modes.max() + 1, [first]
        while reached:
            here = reached.pop()
            near = np.flatnonzero((distance[here] < _SAME_MODE) & (modes < 0))
            modes[near] = modes[first]
            reached += near.tolist()
    return tuple(int(mode) for mode in modes)


def _largest_rhat(values: Array) -> float:
    with importing("arviz_stats.base"):
        from arviz_stats.base import array_stats  # slow to import

    if not np.isfinite(values).all():
        return float("inf")
    starts, draws, components = values.shape
    kept = min(draws, max(_FEWEST_DRAWS, _NUMBERS // (starts * components)))
    values = values[:, :kept]
    varying = np.ptp(values.reshape(-1, components), axis=0) > 0
    found = [array_stats.rhat(column) for column in values[..., varying].transpose(2, 0, 1)]
    return float(np.max(found, initial=1.0))


def _log_evidence(log_weights: Array) -> float:
    """Log of the mean smoothed weight; -inf where some are not finite."""
    if not np.isfinite(log_weights).all():
        return -np.inf
    if len(log_weights) < MIN_DRAWS:  # no tail to smooth
        return float(np.logaddexp.reduce(log_weights) - np.log(len(log_weights)))
    return importance_weights(log_weights, np.zeros_like(log_weights)).log_evidence


def _evidence_weights(elbo: Array, evidence: Array, modes: NDArray[np.int64]) -> Array:
    """Weight of each start: that of its mode, shared by exp(ELBO) among the starts of the mode."""
    if not np.isfinite(elbo).any():
        return np.full(len(elbo), 1 / len(elbo))
    log_weights = np.full(len(elbo), -np.inf)
    for mode in set(modes.tolist()):
        here = (modes == mode) & np.isfinite(elbo)
        if here.any():
            of_mode = np.logaddexp.reduce(evidence[here]) - np.log(here.sum())
            share = elbo[here] - np.logaddexp.reduce(elbo[here])
            log_weights[here] = of_mode + share
    weights = np.exp(log_weights - log_weights.max())
    return weights / weights.sum()
