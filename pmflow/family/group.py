"""Some of a model's variables, and the family that approximates them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pymc as pm
from pymc.util import RandomState
from pymc.variational import opvi
from pytensor.tensor.variable import TensorVariable

from pmflow.checks import check_names, check_seed
from pmflow.errors import ParameterError
from pmflow.family.flow_group import NormalizingFlowGroup
from pmflow.flows.formula import Formula
from pmflow.graphs.private import seed_from
from pmflow.posterior.model import checked_model

__all__ = ["Group"]

_PYMC_FAMILIES = ("mean_field", "mf", "full_rank", "fr", "empirical")


def Group(
    group: Sequence[TensorVariable] | None,
    vfam: str | Formula | None = None,
    params: Mapping[Any, Any] | None = None,
    random_seed: RandomState = None,
    model: pm.Model | None = None,
    **kwargs: Any,
) -> opvi.Group:
    """Some of a model's variables, and the family that approximates them.

    Parameters
    ----------
    group : list of TensorVariable or None
        Free variables of the model. None: all that no other group has.
    vfam : str or Formula
        A formula (``'planar*2'``), or one of PyMC's families: ``'mean_field'`` (``'mf'``),
        ``'full_rank'`` (``'fr'``), ``'empirical'``.
    params : dict, optional
        Instead of `vfam`, or beside a formula: unconstrained parameters, ``{0: {...}, 1: {...}}``
        for a flow (by the place of the layer) or a flat dict for PyMC's families. Shared variables
        among them are trained, other values are fixed. They say where the flow is: it is not moved
        to the model's initial point, unless `start` is given too (``start={}`` for just that).
    random_seed, model
        As for `NormalizingFlow`.
    **kwargs
        Options of the family: `start`, `jitter` and `base` for a flow; those of PyMC for its own.

    Returns
    -------
    pymc.variational.opvi.Group

    Raises
    ------
    ParameterError
        If neither `vfam` nor `params` is given, both for one of PyMC's families, or the group is
        empty.
    FormulaError
        If `vfam` is neither a family nor a formula.

    Examples
    --------
    >>> import pymc as pm, pmflow as pmf
    >>> with pm.Model():
    ...     a, b = pm.Normal("a"), pm.HalfNormal("b")
    ...     approx = pmf.Approximation([pmf.Group([a], "planar*2"), pmf.Group(None, "mf")])
    >>> print(approx.family)
    NormalizingFlowGroup[planar*2, dim=1] & MeanFieldGroup[1]
    """
    if vfam is None and params is None:
        raise ParameterError("Group needs `vfam` or `params`, but got none of them.")
    model = checked_model(model)
    check_seed(random_seed)
    if group is not None:
        group = _checked_variables(group, model)
    if vfam is not None:
        is_flow = not (isinstance(vfam, str) and vfam.lower() in _PYMC_FAMILIES)
        if not is_flow and params is not None:
            raise ParameterError(
                f"Group takes one of PyMC's families or its parameters, but got both {vfam!r} and "
                "`params`. Leave `vfam` out: the names of the parameters tell the family."
            )
    else:
        # PyMC's families have their parameters by name, in one flat dict
        is_flow = not (
            isinstance(params, Mapping) and params and all(isinstance(k, str) for k in params)
        )
    if is_flow:
        check_names(kwargs, ("start", "jitter", "base", "frame"), "A group of a flow")
        return NormalizingFlowGroup(group, vfam, params, random_seed, model, **kwargs)
    seed = seed_from(random_seed)
    if group is not None:
        # PyMC's families fill their start in the order of the model, whatever the group's is
        order = model.free_RVs
        group = sorted(group, key=order.index)
    return opvi.Group(group, vfam=vfam, params=params, random_seed=seed, model=model, **kwargs)


def _checked_variables(group: Any, model: pm.Model) -> list[TensorVariable]:
    variables = list(group) if isinstance(group, list | tuple) else [group]
    if not variables:
        raise ParameterError(
            "Group got an empty list of variables. Use None for all that are left."
        )
    free = ", ".join(rv.name for rv in model.free_RVs)
    for place, variable in enumerate(variables):
        if isinstance(variable, str):
            raise ParameterError(
                f"Group needs variables, but got the name {variable!r}. Write model[{variable!r}]."
            )
        if variable not in model.free_RVs:
            raise ParameterError(
                f"{getattr(variable, 'name', variable)!r} is no free variable of the model. "
                f"The free variables are {free}."
            )
        if variable in variables[:place]:
            raise ParameterError(f"{variable.name!r} stands twice in one group.")
    return variables
