"""One set of posterior draws against another, such as a flow against NUTS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from pmflow.errors import ParameterError

__all__ = ["compare"]

_TAILS = (0.05, 0.95)
_SAMPLE_DIMS = ("chain", "draw")
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
        Indexed by label (``theta[Choate]``). Columns:

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
    ours, theirs = _posterior(idata, "idata"), _posterior(reference, "reference")
    labels, rows = [], []
    for name in _shared_names(ours, theirs, var_names):
        for label, draws, reference_draws in _pairs(ours[name], theirs[name], name):
            labels.append(label)
            rows.append(_compare_draws(draws, reference_draws))
    return pd.DataFrame(rows, index=labels, columns=list(_COLUMNS), dtype=float)


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


def _posterior(data: xr.DataTree | xr.Dataset, name: str) -> xr.Dataset:
    if isinstance(data, xr.DataTree):
        if "posterior" in data.children:
            data = data.children["posterior"]
        elif not data.data_vars:  # with variables it is itself such a group: tree["posterior"]
            groups = ", ".join(data.children) or "none"
            raise ParameterError(
                f"{name} must have a group 'posterior', but its groups are: {groups}."
            )
        data = data.to_dataset()
    if not isinstance(data, xr.Dataset):
        raise ParameterError(
            f"{name} must be a DataTree or a Dataset of draws, "
            f"but is of type {type(data).__name__}. See approx.sample() and pm.sample()."
        )
    missing = [dim for dim in _SAMPLE_DIMS if dim not in data.dims]
    if missing:
        raise ParameterError(
            f"{name} must have the dimensions chain and draw, but lacks {' and '.join(missing)}."
        )
    draws = data.sizes["chain"] * data.sizes["draw"]
    if draws < 2:
        raise ParameterError(f"{name} must have at least 2 draws to have an sd, but has {draws}.")
    return data


def _drawn(dataset: xr.Dataset) -> list[str]:
    return [str(n) for n, array in dataset.data_vars.items() if {*_SAMPLE_DIMS} <= {*array.dims}]


def _shared_names(
    ours: xr.Dataset, theirs: xr.Dataset, var_names: Sequence[str] | None
) -> list[str]:
    there = _drawn(theirs)
    shared = [name for name in _drawn(ours) if name in there]
    if not shared:
        raise ParameterError(
            "idata and reference must have variables in common, but have "
            f"{', '.join(_drawn(ours)) or 'none'} and {', '.join(there) or 'none'}."
        )
    if var_names is None:
        return shared
    if not isinstance(var_names, Sequence):
        raise ParameterError(
            f"var_names must be names of variables, but is {var_names!r}. "
            f"Both have: {', '.join(shared)}."
        )
    names = [var_names] if isinstance(var_names, str) else list(dict.fromkeys(var_names))
    if not names:
        raise ParameterError(
            f"var_names must name at least one variable, but is empty. Both have: "
            f"{', '.join(shared)}."
        )
    for name in names:
        if name not in shared:
            close = get_close_matches(str(name), shared, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ParameterError(
                f"{name!r} is not a variable of both.{hint} Both have: {', '.join(shared)}."
            )
    return names


def _pairs(
    ours: xr.DataArray, theirs: xr.DataArray, name: str
) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
    """Label, draws and reference draws of each component, draws of shape (chain, draw)."""
    from arviz_base import labels, xarray_sel_iter  # slow to import: it loads JAX if it is there

    theirs = _in_order_of(ours, theirs, name)
    labeller = labels.BaseLabeller()
    for _, selection, index in xarray_sel_iter(
        ours.to_dataset(name=name), skip_dims={*_SAMPLE_DIMS}
    ):
        label = labeller.make_label_flat(name, selection, index)
        # by position, along named dimensions: labels may be repeated, or only one may have them
        yield label, _component(ours, index, label), _component(theirs, index, label)


def _in_order_of(ours: xr.DataArray, theirs: xr.DataArray, name: str) -> xr.DataArray:
    """The reference with its coordinates in the order of ours."""
    dims, their_dims = (
        tuple(d for d in array.dims if d not in _SAMPLE_DIMS) for array in (ours, theirs)
    )
    shape = tuple(ours.sizes[d] for d in dims)
    if {*dims} != {*their_dims} and len(shape) == len(their_dims):
        raise ParameterError(
            f"{name!r} must have the same dimensions in both, but has {dims} in idata and "
            f"{their_dims} in reference. Rename those of one: reference.rename(...)."
        )
    if {*dims} != {*their_dims} or shape != tuple(theirs.sizes[d] for d in dims):
        raise ParameterError(
            f"{name!r} must have the same shape in both, but is {shape} in idata and "
            f"{tuple(theirs.sizes[d] for d in their_dims)} in reference."
        )
    for dim in dims:
        here, there = ours.indexes.get(dim), theirs.indexes.get(dim)
        if here is None or there is None or here.equals(there):
            continue
        order = there.get_indexer(here) if there.is_unique else np.full(len(here), -1)
        if not here.is_unique or (order < 0).any():
            raise ParameterError(
                f"{name!r} must have the same coordinates along {dim!r} in both, each once, but "
                f"has {_listed(here)} in idata and {_listed(there)} in reference. "
                "Select what both have: idata.sel(...)."
            )
        theirs = theirs.isel({dim: order})
    return theirs


def _component(array: xr.DataArray, index: Mapping[Any, int], label: str) -> NDArray[Any]:
    draws = array.isel(index).transpose(*_SAMPLE_DIMS).values
    if draws.dtype.kind not in "buif":
        raise ParameterError(f"The draws of {label} must be numbers, but are {draws.dtype}.")
    draws = draws.astype(float)
    if not np.isfinite(draws).all():
        raise ParameterError(
            f"The draws of {label} must be finite, "
            f"but {(~np.isfinite(draws)).sum()} of {draws.size} are not."
        )
    return draws


def _listed(labels: Sequence[Any], most: int = 6) -> str:
    shown = ", ".join(map(str, labels[:most]))
    return f"{shown} ..." if len(labels) > most else shown
