"""A model with another likelihood in the place of what it observes in minibatches."""

from __future__ import annotations

import pymc as pm
from pytensor.tensor.variable import TensorVariable

from pmflow.graphs.evaluate import GLOBAL_STATE
from pmflow.graphs.minibatches import has_minibatches, in_minibatches

__all__ = ["twin_of"]


def twin_of(model: pm.Model, likelihood: TensorVariable) -> pm.Model:
    """A model of the same variables in which rows of minibatches count by another graph.

    Deterministics that follow from minibatches are left out: they are other numbers at each call.

    Parameters
    ----------
    model : pymc.Model
    likelihood : TensorVariable, shape ()
        A graph of the model's value variables.
    """
    in_rows = in_minibatches(model)
    with GLOBAL_STATE:  # PyMC changes PyTensor's flags as it makes variables
        twin = pm.Model(model=None, check_bounds=model.check_bounds)
        for name, values in model.coords.items():
            twin.add_coord(name, values, length=model.dim_lengths[name])
        for variable in model.data_vars:
            twin.data_vars.append(variable)
            _name(twin, variable, model)
        for rv in model.free_RVs:
            twin.free_RVs.append(rv)
            twin.create_value_var(
                rv,
                transform=model.rvs_to_transforms[rv],
                default_transform=None,
                value_var=model.rvs_to_values[rv],
            )
            twin.set_initval(rv, initval=model.rvs_to_initial_values[rv])
            _name(twin, rv, model)
        for rv in model.observed_RVs:
            if rv.name in in_rows:
                continue
            twin.observed_RVs.append(rv)
            twin.create_value_var(
                rv, transform=None, default_transform=None, value_var=model.rvs_to_values[rv]
            )
            _name(twin, rv, model)
        for potential in model.potentials:
            twin.potentials.append(potential)
            _name(twin, potential, model)
        for deterministic in model.deterministics:
            if not has_minibatches([deterministic]):
                twin.deterministics.append(deterministic)
                _name(twin, deterministic, model)
        likelihood = likelihood.copy(name=_unused("rows", model))
        twin.potentials.append(likelihood)
        twin.add_named_variable(likelihood)
    return twin


def _name(twin: pm.Model, variable: TensorVariable, model: pm.Model) -> None:
    twin.add_named_variable(variable, dims=model.named_vars_to_dims.get(variable.name))


def _unused(name: str, model: pm.Model) -> str:
    while name in model.named_vars:
        name += "_"
    return name
