"""Groups as values, and values as groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
from pymc.variational import opvi

from pmflow.errors import ParameterError, StorageError
from pmflow.family.flow_group import NormalizingFlowGroup
from pmflow.family.group import Group
from pmflow.family.params import set_values
from pmflow.family.state import FamilyGroupState, FlowGroupState, RngState, formula_of

__all__ = ["group_state", "groups_of"]

_PYMC_FAMILIES = {"MeanFieldGroup": "mean_field", "FullRankGroup": "full_rank"}


def group_state(group: opvi.Group) -> FlowGroupState | FamilyGroupState:
    """Everything that makes a group, but for its model.

    Raises
    ------
    StorageError
        If it is neither a flow nor mean field nor full rank, or its base is of the user's own.
    """
    if isinstance(group, NormalizingFlowGroup):
        return group.to_state()
    kind = type(group).__name__
    if kind not in _PYMC_FAMILIES:
        raise StorageError(
            f"A group of type {kind} can't be saved: only flows, mean field and full rank can. "
            "Save its draws: approx.sample(...).to_netcdf(...)."
        )
    return FamilyGroupState(
        variables=tuple(rv.name for rv in group.group),
        rng=RngState.of(group.rng),
        family=_PYMC_FAMILIES[kind],
        params={name: np.array(p.get_value()) for name, p in group.params_dict.items()},
    )


def groups_of(states: tuple[FlowGroupState | FamilyGroupState, ...], model: pm.Model) -> list[Any]:
    """Groups on the variables of a model, with the parameters that were kept.

    Raises
    ------
    ParameterError, StorageError
        If the states are not those of groups of this model.
    """
    names = [name for state in states for name in state.variables]
    if sorted(names) != sorted(rv.name for rv in model.free_RVs):
        raise ParameterError("the groups do not hold each variable once")
    return [_group(state, model) for state in states]


def _group(state: FlowGroupState | FamilyGroupState, model: pm.Model) -> opvi.Group:
    variables = [model[name] for name in state.variables]
    if isinstance(state, FlowGroupState):
        return NormalizingFlowGroup(
            variables,
            formula_of(state.formula),
            random_seed=0,
            model=model,
            jitter=state.jitter,
            base=state.base,
            frame=state.frame,
            state=state,
        )
    if state.family not in _PYMC_FAMILIES.values():
        raise ParameterError(f"there is no family {state.family!r}")
    group = Group(variables, state.family, random_seed=0, model=model)
    set_values(group.shared_params, state.params)
    state.rng.put_into(group.rng)
    return group
