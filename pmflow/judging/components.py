"""Draws by component: of one posterior as a table, of two side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pmflow.checks import did_you_mean
from pmflow.errors import ParameterError
from pmflow.watch import importing

__all__ = ["Pair", "component_table", "matched_components"]

type Array = NDArray[np.float64]

_SAMPLE_DIMS = ("chain", "draw")


def component_table(posterior: xr.Dataset) -> tuple[list[str], Array]:
    """Labels of all components, ``theta[Choate]``, and their draws.

    Parameters
    ----------
    posterior : Dataset
        With dimensions ``chain`` and ``draw``. Variables that are not numbers are left out.

    Returns
    -------
    list of str, length components
    ndarray, shape (draws of all chains, components)
    """
    names, columns = [], []
    for name, array in ((str(key), array) for key, array in posterior.data_vars.items()):
        if array.dtype.kind not in "buif":
            continue
        names += [label for label, _ in _components(array, name)]
        ordered = array.transpose(*_SAMPLE_DIMS, ...).values
        columns.append(ordered.reshape(ordered.shape[0] * ordered.shape[1], -1))
    return names, np.concatenate(columns, axis=1).astype(float)


def _components(array: xr.DataArray, name: str) -> Iterator[tuple[str, Mapping[Any, int]]]:
    """Label and place of each component, in ArviZ's order: the last dimension fastest."""
    with importing("arviz_base"):
        from arviz_base import labels, xarray_sel_iter  # slow: it loads JAX if it is there

    labeller = labels.BaseLabeller()
    dataset = array.to_dataset(name=name)
    for _, selection, index in xarray_sel_iter(dataset, skip_dims={*_SAMPLE_DIMS}):
        # places, not labels: labels may be repeated
        yield labeller.make_label_flat(name, selection, index), index


@dataclass(frozen=True, eq=False)
class Pair:
    """One component of two posteriors.

    Attributes
    ----------
    label : str
        ``theta[Choate]``.
    """

    label: str
    _ours: xr.DataArray
    _theirs: xr.DataArray
    _index: Mapping[Any, int]

    @property
    def draws(self) -> tuple[Array, Array]:
        """Draws of both, each of shape (chain, draw).

        Raises
        ------
        ParameterError
            If they are no numbers, or not finite.
        """
        first, second = (
            _numbers(array.isel(self._index).transpose(*_SAMPLE_DIMS).values, self.label)
            for array in (self._ours, self._theirs)
        )
        return first, second


def matched_components(
    idata: xr.DataTree | xr.Dataset,
    reference: xr.DataTree | xr.Dataset,
    var_names: Sequence[str] | None = None,
) -> list[Pair]:
    """The components that two posteriors share, matched by their labels where both have labels.

    Parameters
    ----------
    idata, reference : DataTree or Dataset
        With dimensions ``chain`` and ``draw``: a DataTree with a group ``posterior``, or that group
        itself. Components are in the order of `idata`.
    var_names : sequence of str, optional
        Defaults to all variables that both have draws of.

    Raises
    ------
    ParameterError
        If draws are missing, of other shapes or coordinates, or a variable is unknown.
    """
    ours, theirs = _posterior(idata, "idata"), _posterior(reference, "reference")
    pairs = []
    for name in _shared_names(ours, theirs, var_names):
        there = _in_order_of(ours[name], theirs[name], name)
        pairs += [Pair(label, ours[name], there, at) for label, at in _components(ours[name], name)]
    return pairs


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
            raise ParameterError(
                f"{name!r} is not a variable of both. {did_you_mean(name, shared)}Both have: "
                f"{', '.join(shared)}."
            )
    return names


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


def _numbers(draws: NDArray[Any], label: str) -> Array:
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
