"""One set of posterior draws against another, such as a flow against NUTS."""

from __future__ import annotations

from collections.abc import Sequence
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
        itself. The numbers of draws may differ.
    var_names : sequence of str, optional
        Defaults to all variables that both have.

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

        Where the reference does not vary, the errors in its units are NaN.

    Raises
    ------
    ParameterError
        If draws are missing, of other shapes, or not finite, or a variable is unknown.

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
    names = _shared_names(ours, theirs, var_names)
    rows = {}
    for name in names:
        if ours[name].sizes.keys() != theirs[name].sizes.keys() or any(
            ours[name].sizes[d] != theirs[name].sizes[d]
            for d in ours[name].dims
            if d not in _SAMPLE_DIMS
        ):
            raise ParameterError(
                f"{name!r} must have the same shape in both, but is {_core_shape(ours[name])} in "
                f"idata and {_core_shape(theirs[name])} in reference."
            )
        pairs = zip(_components(ours[[name]]), _components(theirs[[name]]), strict=True)
        for (label, draws), (_, reference_draws) in pairs:
            rows[label] = _compare_draws(draws, reference_draws)
    return pd.DataFrame.from_dict(rows, orient="index")


def _compare_draws(draws: NDArray[Any], reference: NDArray[Any]) -> dict[str, float]:
    from scipy.stats import wasserstein_distance  # slow to import

    reference_sd = reference.std(ddof=1)
    unit = reference_sd if reference_sd > 0 else np.nan
    row = {
        "mean_error": (draws.mean() - reference.mean()) / unit,
        "sd_ratio": draws.std(ddof=1) / unit,
        "wasserstein": wasserstein_distance(draws, reference) / unit,
    }
    errors = (np.quantile(draws, _TAILS) - np.quantile(reference, _TAILS)) / unit
    names = (f"q{round(100 * p):02d}_error" for p in _TAILS)
    return row | dict(zip(names, errors, strict=True))


def _posterior(data: xr.DataTree | xr.Dataset, name: str) -> xr.Dataset:
    if isinstance(data, xr.DataTree):
        if "posterior" not in data.children:
            groups = ", ".join(data.children) or "none"
            raise ParameterError(
                f"{name} must have a group 'posterior', but its groups are: {groups}."
            )
        data = data["posterior"].to_dataset()
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
    return data


def _shared_names(
    ours: xr.Dataset, theirs: xr.Dataset, var_names: Sequence[str] | None
) -> list[str]:
    shared = [str(name) for name in ours.data_vars if name in theirs.data_vars]
    if var_names is None:
        if not shared:
            raise ParameterError(
                "idata and reference must have variables in common, but have "
                f"{', '.join(map(str, ours.data_vars))} and "
                f"{', '.join(map(str, theirs.data_vars))}."
            )
        return shared
    names = [var_names] if isinstance(var_names, str) else list(var_names)
    for name in names:
        if name not in shared:
            close = get_close_matches(str(name), shared, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ParameterError(
                f"{name!r} is not a variable of both.{hint} Both have: {', '.join(shared)}."
            )
    return names


def _components(dataset: xr.Dataset) -> list[tuple[str, NDArray[Any]]]:
    from arviz_base import labels, xarray_sel_iter  # slow to import: it loads JAX if it is there

    labeller = labels.BaseLabeller()
    components = []
    for name, selection, index in xarray_sel_iter(dataset, skip_dims=set(_SAMPLE_DIMS)):
        label = labeller.make_label_flat(name, selection, index)
        draws = dataset[name].sel(selection).values.ravel().astype(float)
        if not np.isfinite(draws).all():
            raise ParameterError(
                f"The draws of {label} must be finite, "
                f"but {(~np.isfinite(draws)).sum()} of {draws.size} are not."
            )
        components.append((label, draws))
    return components


def _core_shape(array: xr.DataArray) -> tuple[int, ...]:
    return tuple(size for dim, size in array.sizes.items() if dim not in _SAMPLE_DIMS)
