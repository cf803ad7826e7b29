"""A model of rows that are kept elsewhere, made of one that is written with a few of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pymc.variational.minibatch_rv import MinibatchRandomVariable, minibatch_rv
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.traversal import ancestors
from pytensor.tensor.type_other import NoneConst

from pmflow.errors import ParameterError, UnsupportedError
from pmflow.graphs.evaluate import GLOBAL_STATE
from pmflow.graphs.labelled import of_its_kind
from pmflow.graphs.taken_rows import minibatch_of
from pmflow.posterior.copied import copied, with_others
from pmflow.posterior.model import checked_model, shared_data
from pmflow.posterior.rows.sources.arrays import as_rows
from pmflow.posterior.rows.sources.rows import Rows
from pmflow.posterior.rows.terms import row_terms

__all__ = ["same_rows", "with_rows"]

_BATCH = 2_048

_written: WeakKeyDictionary[pm.Model, pm.Model] = WeakKeyDictionary()
"""Models of rows that are kept elsewhere, and as they were written."""


def with_rows(
    model: pm.Model | None, rows: Mapping[str, Any], batch_size: int | None = None
) -> pm.Model:
    """The same model with rows that are kept elsewhere, of which minibatches are drawn.

    Write the model with `pymc.Data` that hold some rows, one at least, without ``total_size``: what
    is observed of them is scaled up to all. `pmflow.fit` with ``rows=`` makes this model by itself;
    by this function it is there for other methods, for `pmflow.load` and for `pmflow.resume`.

    Parameters
    ----------
    model : pymc.Model or None
        None for the model of the context. One that this function has made stands for the one that
        it was made of: other rows take the place of its rows.
    rows : dict of str to array_like, data frame, ArrowRows or Rows
        By the name of the `pymc.Data` whose place they take, each with as many rows: arrays and
        memory maps of NumPy, arrays of Zarr, Dask, h5py and xarray, which are read in parts, data
        frames, `pmflow.ArrowRows`, or an object of yours with the methods of `pmflow.Rows`.
    batch_size : int, optional
        Rows of a minibatch; by default 2,048, or all where there are fewer.

    Returns
    -------
    pymc.Model
        Of the same free variables. Deterministics that follow from rows are left out, and dims
        that count rows are not said.

    Raises
    ------
    ParameterError
        If a name is none of the model's data, or rows do not fit it.
    UnsupportedError
        If the log density is no sum over rows that can be scaled up.
    """
    model = checked_model(model)
    model = _written.get(model, model)
    sources = _checked(model, rows)
    (number,) = {one.shape[0] for one in sources.values()}
    size = _BATCH if batch_size is None else batch_size
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
        raise ParameterError(f"batch_size must be an integer >= 1, but is {batch_size!r}.")
    batch = int(min(size, number))
    data = {x.name: x for x in shared_data(model)}
    with GLOBAL_STATE:  # PyMC changes PyTensor's flags as it makes variables
        dtypes = {name: data[name].type.dtype for name in sources}
        drawn = minibatch_of(sources, dtypes, batch)
        pairs = zip((data[name] for name in sources), drawn, strict=True)
        new = {place: of_its_kind(rows, place) for place, rows in pairs}
        made = _of_minibatches(model, new, number, batch)
    row_terms(made)  # what is no sum over rows is refused now
    _written[made] = model
    return made


def same_rows(model: pm.Model, made: pm.Model) -> pm.Model:
    """Note that a model has the rows of another one, so that other rows can take their place."""
    _written[made] = _written[model]
    return made


def _checked(model: pm.Model, rows: Mapping[str, Any]) -> dict[str, Rows]:
    data = {x.name: x for x in shared_data(model)}
    known = ", ".join(data) or "none: write them as pm.Data"
    if not isinstance(rows, Mapping) or not rows:
        raise ParameterError(
            "rows must be a dict of names of the model's data to their rows, such as "
            f"{{'x': array}}, but is {rows!r:.60}. The model's data: {known}."
        )
    sources = {}
    for name, value in rows.items():
        if name not in data:
            raise ParameterError(
                f"rows names {name!r}, but the model has no such pm.Data. Its data: {known}."
            )
        found, place = as_rows(name, value), data[name].type
        wanted, shape = data[name].get_value(borrow=True).shape[1:], found.shape[1:]
        if place.ndim == 0 or shape != wanted:
            raise ParameterError(
                f"Each row of {name!r} must have the shape {wanted}, as the model's data have it, "
                f"but rows[{name!r}] have rows of shape {shape}."
            )
        if not np.can_cast(found.dtype, place.dtype, "same_kind"):
            raise ParameterError(
                f"The model's data {name!r} are of dtype {place.dtype}, which rows[{name!r}] of "
                f"{found.dtype} can't be cast to. Write the model with data of that dtype."
            )
        sources[name] = found
    lengths = {name: one.shape[0] for name, one in sources.items()}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        raise ParameterError(
            "All rows must be as many, one at least, but there are "
            f"{', '.join(f'{n:,} of {name!r}' for name, n in lengths.items())}."
        )
    return sources


def _of_minibatches(model: pm.Model, new: dict[Any, Variable], number: int, batch: int) -> pm.Model:
    """The model with minibatches in the place of its data."""
    said = [(model.named_vars_to_dims.get(data.name) or (None,))[0] for data in new]
    dims = {dim for dim in said if dim is not None}
    of_dims = {model.dim_lengths[dim]: pt.constant(batch, dtype="int64") for dim in dims}
    replaced = {**new, **of_dims}

    def follows(*graphs: Any) -> bool:
        return any(x in replaced for x in ancestors(graphs))

    for rv in model.free_RVs:
        if follows(rv):
            raise UnsupportedError(
                f"The free variable {rv.name!r} follows from the rows, in its prior or its shape: "
                "it would be another one for each minibatch. Give it a shape of its own, such as "
                "the number of groups, and index it by the rows: effect[group]."
            )
    others: dict[Any, Any] = {}
    values: dict[Any, Any] = {}
    for rv in model.observed_RVs:
        value = model.rvs_to_values[rv]
        if follows(rv, value):
            if not follows(value):
                named = [x.name for x in ancestors([value]) if x in model.data_vars]
                remedy = (
                    f"Give rows[{named[0]!r}] too."
                    if named
                    else ("Write these as pm.Data too, observed=<that data>, and give their rows.")
                )
                raise ParameterError(
                    f"{rv.name!r} follows from the rows, but what was observed does not: it has "
                    f"the values that the model was written with. {remedy}"
                )
            others[rv] = _scaled(rv, replaced, number)
            values[rv] = with_others(value, replaced)
    for potential in model.potentials:
        if follows(potential):
            others[potential] = with_others(potential, replaced)
    _check_complete(model, new, [*others.values(), *values.values()])
    of_rows = [v.name for v in model.deterministics if follows(v)]
    gone = {*of_rows, *(data.name for data in new)}
    return copied(model, without=gone, others=others, values=values, no_dims=dims)


def _check_complete(model: pm.Model, new: dict[Any, Variable], graphs: list[Any]) -> None:
    """Refuse data that seem to be forgotten: of as many rows as those in whose place others are."""
    lengths = {x.get_value(borrow=True).shape[0] for x in new}
    behind = set(ancestors(graphs))
    for data in shared_data(model):
        if data in new or data not in behind:
            continue
        shape = data.get_value(borrow=True).shape
        if shape and shape[0] in lengths:
            raise ParameterError(
                f"The model's data {data.name!r} have {shape[0]} rows, as many as those that rows= "
                f"replaces, and belong to them: give rows[{data.name!r}] too. If they are no rows "
                "of these, write the model with another number of rows."
            )


def _scaled(rv: Any, replaced: dict[Any, Any], number: int) -> Any:
    """An observed variable of a minibatch, scaled up to all rows."""
    name = rv.name
    if isinstance(rv.owner.op, MinibatchRandomVariable):
        rv = rv.owner.inputs[0]  # scaled up to another number
    if rv.ndim == 0:
        raise UnsupportedError(
            f"{name!r} is observed and follows from the rows, but it is a single number, of which "
            "no sum over rows is known. Let each row of the data be a row of it."
        )
    found = with_others(rv, replaced)
    sizes = [pt.constant(number, dtype="int64"), *[NoneConst] * (found.ndim - 1)]
    return Apply(minibatch_rv, [found, *sizes], [found.type(name=name)]).outputs[0]
