"""One set of posterior draws against another, such as a flow against NUTS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from pmflow.judging.comparison import Comparison
from pmflow.judging.components import matched_components

__all__ = ["compare"]

_TAILS = (0.05, 0.95)
_FEWEST = 4
"""Draws a chain that an autocorrelation needs."""

_COLUMNS = (
    "mean_error",
    "sd_ratio",
    "wasserstein",
    *(f"q{round(100 * p):02d}_error" for p in _TAILS),
    "mean_error_mcse",
    "sd_ratio_mcse",
)


def compare(
    idata: xr.DataTree | xr.Dataset,
    reference: xr.DataTree | xr.Dataset,
    var_names: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Compare marginal posteriors, one row a number.

    Parameters
    ----------
    idata, reference : DataTree or Dataset
        Draws with dimensions ``chain`` and ``draw``, in constrained space: a DataTree with a
        group ``posterior``, as `NormalizingFlow.sample` and `pymc.sample` return it, or that group
        itself. The numbers of draws may differ, and so may the order of dimensions and of
        coordinates: components are matched by their labels, where both have labels.
    var_names : sequence of str, optional
        Defaults to all variables that both have draws of.

    Returns
    -------
    pandas.DataFrame
        Indexed by label (``theta[Choate]``), printed with all of its columns. These are:

        ``mean_error``
            Difference of the means, in units of the reference's sd.
        ``sd_ratio``
            sd over the reference's sd: below 1 the posterior is too narrow.
        ``wasserstein``
            Wasserstein-1 distance of the marginals, in units of the reference's sd.
        ``q05_error``, ``q95_error``
            Difference of the 5 % and of the 95 % quantile, in units of the reference's sd.
        ``mean_error_mcse``, ``sd_ratio_mcse``
            Monte Carlo standard errors of ``mean_error`` and ``sd_ratio``: what lies within two of
            them is noise. Both sides count, each with the effective sample size that its chains
            have, so that autocorrelated draws are not taken for independent ones. NaN with fewer
            than 4 draws a chain.

        Where the reference does not vary there is no such unit, and the row is NaN.

    Notes
    -----
    Errors are by the delta method, from those of means and sds (Vehtari et al., 2021,
    https://doi.org/10.1214/20-BA1221, section 4), as if means and sds were independent.

    Raises
    ------
    ParameterError
        If draws are missing, of other shapes or coordinates, not numbers or not finite, or if a
        variable is unknown.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> rng = np.random.default_rng(0)
    >>> draws = rng.normal(size=(2, 1, 4000))
    >>> one, two = (xr.Dataset({"x": (("chain", "draw"), d)}) for d in draws)
    >>> table = compare(one, two)
    >>> bool(abs(table.loc["x", "mean_error"]) < 0.1)
    True
    """
    pairs = matched_components(idata, reference, var_names)
    rows = [_compare_draws(*pair.draws) for pair in pairs]
    labels = [pair.label for pair in pairs]
    return Comparison(rows, index=labels, columns=list(_COLUMNS), dtype=float)


def _compare_draws(draws: NDArray[Any], reference: NDArray[Any]) -> tuple[float, ...]:
    """One row, in the order of the columns, of draws of shapes (chain, draw)."""
    from scipy.stats import wasserstein_distance  # slow to import

    errors = _errors(draws), _errors(reference)
    draws, reference = draws.ravel(), reference.ravel()
    # the sd of equal numbers is often 1e-17 rather than 0
    unit = reference.std(ddof=1) if np.ptp(reference) > 0 else np.nan
    tails = np.quantile(draws, _TAILS) - np.quantile(reference, _TAILS)
    mean_error, ratio = (draws.mean() - reference.mean()) / unit, draws.std(ddof=1) / unit
    (of_mean, of_sd), (of_reference_mean, of_unit) = np.array(errors) / unit
    return (
        mean_error,
        ratio,
        wasserstein_distance(draws, reference) / unit,
        *(tails / unit),
        # the unit is an estimate too
        float(np.linalg.norm([of_mean, of_reference_mean, mean_error * of_unit])),
        float(np.linalg.norm([of_sd, ratio * of_unit])),
    )


def _errors(draws: NDArray[Any]) -> tuple[float, float]:
    """Monte Carlo standard errors of mean and sd of draws, shape (chain, draw)."""
    from arviz_stats.base import array_stats  # slow to import

    if draws.shape[1] < _FEWEST:
        return np.nan, np.nan
    if not np.ptp(draws) > 0:
        return 0.0, 0.0
    return float(array_stats.mcse(draws)), float(array_stats.mcse(draws, method="sd"))
