"""How importance weights move the moments of each component of the posterior."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from pmflow.judging.components import component_table

__all__ = ["Shifts", "shift_table", "weighted_shifts"]

type Array = NDArray[np.float64]

_COLUMNS_AT_ONCE = 500
"""Components whose moments are computed together, so that memory stays bounded."""


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


_SHIFT_COLUMNS = (
    *("mean_shift", "mean_shift_mcse", "sd_ratio", "sd_ratio_mcse"),
    *("mean_before", "mean_after", "sd_before", "sd_after"),
)


def shift_table(posterior: xr.Dataset, log_weights: Array) -> pd.DataFrame:
    """`Shifts` as a table, a row a component, labelled; NaN throughout where no draw has a weight.

    Parameters
    ----------
    posterior : Dataset
        Draws with dimensions ``chain`` and ``draw``.
    log_weights : ndarray, shape (draws,)
    """
    labels, values = component_table(posterior)
    if not np.isfinite(log_weights).any():
        return pd.DataFrame(np.nan, index=labels, columns=list(_SHIFT_COLUMNS))
    found: Shifts = weighted_shifts(values, log_weights)
    table = {name: getattr(found, name) for name in _SHIFT_COLUMNS}
    # what does not vary still has a mean, and is told from what is not finite by it
    kept = values[np.isfinite(log_weights)]
    still = np.isnan(found.mean_before) & np.isfinite(kept).all(0)
    for name in ("mean_before", "mean_after"):
        table[name] = np.where(still, kept[0], table[name])
    for name in ("sd_before", "sd_after"):
        table[name] = np.where(still, 0.0, table[name])
    return pd.DataFrame(table, index=labels)
