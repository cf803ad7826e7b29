"""A model of the same free variables as another, with other data."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import pymc as pm
from pytensor.graph.basic import Variable
from pytensor.graph.replace import graph_replace
from pytensor.tensor.variable import TensorVariable

__all__ = ["add_potential", "copied", "with_inputs", "with_others"]


def copied(
    model: pm.Model,
    *,
    without: Container[str] = (),
    others: Mapping[TensorVariable, Variable] | None = None,
    values: Mapping[TensorVariable, Variable] | None = None,
    no_dims: Container[str] = (),
    into: pm.Model | None = None,
) -> pm.Model:
    """A model with the free variables of another, the same objects, and what else it has.

    To be called within `GLOBAL_STATE`: PyMC changes PyTensor's flags as it makes variables.

    Parameters
    ----------
    model : pymc.Model
    without : container of str
        Names of observed variables, data, potentials and deterministics that it does not have.
    others : mapping, optional
        Graphs in the place of observed variables, potentials and deterministics.
    values : mapping, optional
        What is observed in the place of what an observed variable of `model` had.
    no_dims : container of str
        Dims that are not said of variables, as their length is another one.
    into : pymc.Model, optional
        An empty model that it all goes into, in place of a new one.
    """
    others, values = others or {}, values or {}
    made = pm.Model(model=None, check_bounds=model.check_bounds) if into is None else into

    def add(variable: Any, name: str) -> None:
        dims = model.named_vars_to_dims.get(name)
        kept = dims and tuple(None if dim in no_dims else dim for dim in dims)
        made.add_named_variable(variable, dims=kept)

    for name, labels in model.coords.items():
        if name not in no_dims:
            made.add_coord(name, labels, length=model.dim_lengths[name])
    for variable in model.data_vars:
        if variable.name not in without:
            made.data_vars.append(variable)
            add(variable, variable.name)
    for rv in model.free_RVs:
        made.free_RVs.append(rv)
        made.create_value_var(
            rv,
            transform=model.rvs_to_transforms[rv],
            default_transform=None,
            value_var=model.rvs_to_values[rv],
        )
        made.set_initval(rv, initval=model.rvs_to_initial_values[rv])
        add(rv, rv.name)
    for rv in model.observed_RVs:
        if rv.name not in without:
            new, value = others.get(rv, rv), values.get(rv, model.rvs_to_values[rv])
            made.observed_RVs.append(new)
            made.create_value_var(new, transform=None, default_transform=None, value_var=value)
            add(new, rv.name)
    for kept, found in (
        (made.potentials, model.potentials),
        (made.deterministics, model.deterministics),
    ):
        for variable in found:
            if variable.name not in without:
                kept.append(others.get(variable, variable))
                add(others.get(variable, variable), variable.name)
    return made


def with_inputs(
    model: pm.Model, inputs: Mapping[Variable, Variable], names: Container[str]
) -> pm.Model:
    """A model with inputs in the place of data, so that its density is written without these.

    PyTensor goes through all numbers of a constant, and more than once, as it rewrites a graph. To
    be called within `GLOBAL_STATE`.

    Parameters
    ----------
    model : pymc.Model
    inputs : mapping
        By the data in whose place they are.
    names : container of str
        Of the observed variables in which they are. The others stay as they are.
    """
    values = {rv: model.rvs_to_values[rv] for rv in model.observed_RVs if rv.name in names}
    graphs = [x for x in (*values, *values.values()) if x not in inputs]
    # all at once, as one may follow from another
    new = {
        **inputs,
        **dict(zip(graphs, graph_replace(graphs, dict(inputs), strict=False), strict=True)),
    }
    return copied(
        model,
        others={rv: new[rv] for rv in values},
        values={rv: new[value] for rv, value in values.items()},
    )


def add_potential(model: pm.Model, name: str, graph: TensorVariable) -> None:
    """Give a model that `copied` has made a potential of a name that it does not have.

    Parameters
    ----------
    model : pymc.Model
    name : str
        Followed by underscores where the model has such a variable.
    graph : TensorVariable, shape ()
        Of the model's value variables.
    """
    while name in model.named_vars:
        name += "_"
    potential = graph.copy(name=name)
    model.potentials.append(potential)
    model.add_named_variable(potential)


def with_others(graph: Any, others: Mapping[Any, Any]) -> Any:
    """A graph with other variables in the place of some, of which it may be one itself."""
    if graph in others:
        return others[graph]
    (found,) = graph_replace([graph], dict(others), strict=False)
    return found
