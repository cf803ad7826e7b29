"""Draws as labelled data: ArviZ's DataTree, or PyMC's MultiTrace."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import pymc as pm
import xarray as xr
from numpy.typing import NDArray
from pymc.backends.arviz import (
    coords_and_dims_for_inferencedata,
    find_constants,
    find_observations,
)
from pymc.backends.base import MultiTrace
from pymc.backends.ndarray import NDArray as TraceBackend
from xarray import DataTree

from pmflow.graphs.evaluate import GLOBAL_STATE
from pmflow.watch import importing

__all__ = ["Samples", "as_dataset", "to_datatree", "to_multitrace"]


type Array = NDArray[Any]


@dataclass(frozen=True)
class Samples:
    """Draws of an approximation; the leading axis of every array is the draw.

    Attributes
    ----------
    log_q : ndarray or None, shape (draws,)
        Log density of the approximation, over the unconstrained space; None where it has none.
    log_p : ndarray, shape (draws,)
        Log joint density of the model, over the unconstrained space, not normalised.
    unconstrained : dict of str to ndarray
        By the name of the value variable (``tau_log__``), in the order of the latent vector.
    constrained : dict of str to ndarray
        Free variables and deterministics by name.
    """

    log_q: NDArray[np.float64] | None
    log_p: NDArray[np.float64]
    unconstrained: dict[str, NDArray[np.float64]]
    constrained: dict[str, NDArray[np.float64]]

    @property
    def log_weights(self) -> NDArray[np.float64]:
        """Log p - log q of each draw."""
        assert self.log_q is not None
        return self.log_p - self.log_q

    @property
    def latent(self) -> NDArray[np.float64]:
        """Points over the latent space, shape (draws, dim)."""
        parts = [draws.reshape(len(draws), -1) for draws in self.unconstrained.values()]
        return np.concatenate(parts, axis=1)

    def at(self, places: NDArray[np.int64]) -> Samples:
        """The draws at some places, in their order."""

        def taken(arrays: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
            return {name: array[places] for name, array in arrays.items()}

        return Samples(
            log_q=None if self.log_q is None else self.log_q[places],
            log_p=self.log_p[places],
            unconstrained=taken(self.unconstrained),
            constrained=taken(self.constrained),
        )


def to_datatree(
    model: pm.Model,
    samples: Samples,
    family: str,
    chains: int = 1,
    *,
    include_transformed: bool = False,
) -> DataTree:
    """Label draws with the model's dims and coords and add its data.

    Parameters
    ----------
    model : pymc.Model
    samples : Samples
    family : str
        What was drawn from, for the attributes.
    chains : int
        In how many parts of one length the draws are given.
    include_transformed : bool
        Add the group ``unconstrained_posterior``.

    Returns
    -------
    DataTree
        Groups ``posterior``, ``sample_stats``, ``observed_data`` and ``constant_data``.
    """
    with importing("arviz_base"):
        from arviz_base import from_dict  # slow to import: it loads JAX if it is there

    coords, dims = coords_and_dims_for_inferencedata(model)
    stats = {} if np.isnan(samples.log_p).all() else {"log_p": samples.log_p}
    if samples.log_q is not None:
        stats["log_q"] = samples.log_q
    groups = {
        "posterior": in_chains(samples.constrained, chains),
        "sample_stats": in_chains(stats, chains),
    }
    if include_transformed:
        transformed = {v.name for v in model.value_vars} - set(samples.constrained)
        groups["unconstrained_posterior"] = in_chains(
            {name: samples.unconstrained[name] for name in sorted(transformed)}, chains
        )
    with GLOBAL_STATE, warnings.catch_warnings():
        # data that are computed, not given, can't be stored
        warnings.filterwarnings("ignore", message="Could not extract data from symbolic")
        observed, constant = find_observations(model), find_constants(model)
    # of rows that are kept elsewhere there are none
    observed = {name: values for name, values in observed.items() if np.size(values)}
    data = {"observed_data": observed, "constant_data": constant}
    groups |= {name: values for name, values in data.items() if values}
    attrs = {
        "inference_library": "pmflow",
        "inference_library_version": version("pmflow"),
        "approximation": family,
    }
    return from_dict(groups, coords=coords, dims=dims, attrs={"/": attrs, "posterior": attrs})


def to_multitrace(model: pm.Model, samples: Samples, chains: int = 1) -> MultiTrace:
    """Draws in PyMC's own container, in so many chains."""
    values = in_chains(samples.unconstrained | samples.constrained, chains)
    draws = len(samples.log_p) // chains
    test_point = {name: np.asarray(array[0]) for name, array in samples.unconstrained.items()}
    traces = []
    for chain in range(chains):
        trace = TraceBackend(model=model, test_point=test_point)
        trace.setup(draws=draws, chain=chain)
        for name in trace.varnames:
            trace.samples[name] = values[name][chain]
        trace.draw_idx = draws
        trace.close()
        traces.append(trace)
    return MultiTrace(traces)


def in_chains(arrays: dict[str, Array], chains: int) -> dict[str, Array]:
    """Arrays of shape (draws, ...) as (chains, draws of each, ...)."""
    return {name: array.reshape(chains, -1, *array.shape[1:]) for name, array in arrays.items()}


def as_dataset(
    flat: NDArray[np.floating],
    model: pm.Model,
    variables: Sequence[Any],
    ordering: Mapping[str, Any],
) -> xr.Dataset:
    """A flat vector as the unconstrained variables that it is made of, with dims and coords.

    Parameters
    ----------
    flat : ndarray, shape (dim,)
    model : pymc.Model
    variables : sequence of TensorVariable
    ordering : mapping of str to tuple
        Name of each value variable to (name, slice, shape, dtype).
    """
    by_value_name = {model.rvs_to_values[rv].name: rv for rv in variables}
    arrays = {}
    for name, place, shape, dtype in ordering.values():
        rv = by_value_name[name]
        dims = model.named_vars_to_dims.get(rv.name) or ()
        coords = {d: np.asarray(model.coords[d]) for d in dims if model.coords.get(d)}
        # a transform may change the shape: then the labels of the variable do not fit
        fits = len(dims) == len(shape) and all(
            len(coords[d]) == size for d, size in zip(dims, shape, strict=True) if d in coords
        )
        arrays[name] = xr.DataArray(
            flat[place].reshape(shape).astype(dtype),
            dims=dims if fits else None,
            coords=coords if fits else None,
        )
    return xr.Dataset(arrays)
