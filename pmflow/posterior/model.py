"""The model and the groups that a user gives to an approximation, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pymc as pm
from pymc.variational import opvi
from pytensor.compile.sharedvalue import SharedVariable

from pmflow.checks import did_you_mean
from pmflow.errors import ParameterError
from pmflow.graphs.evaluate import GLOBAL_STATE, compile_once
from pmflow.posterior.packages import pymc_model_in

__all__ = ["check_start", "checked_groups", "checked_model", "shared_data", "short_variables"]


_LONG = 1_000


def checked_model(model: Any) -> pm.Model:
    """The model, or that of the context for None; it has free variables."""
    if model is None:
        try:
            model = pm.modelcontext(None)
        except TypeError:
            raise ParameterError(
                "A model is needed, but there is none: call this inside of `with pm.Model():`, or "
                "give model=. (No model on context stack.)"
            ) from None
    model = pymc_model_in(model)
    if not isinstance(model, pm.Model):
        raise ParameterError(
            "model must be a pm.Model, or a model of Bambi, pymc-marketing or HSSM that holds one, "
            f"but is {model!r}."
        )
    if not model.free_RVs:
        raise ParameterError(
            "The model must have free variables to approximate, but has no free variables (free "
            "RVs): there is nothing to fit. To draw data from it use pm.sample_prior_predictive."
        )
    return model


def shared_data(model: pm.Model) -> list[Any]:
    """The data of a model that `pymc.set_data` can set anew."""
    return [x for x in model.data_vars if isinstance(x, SharedVariable)]


def short_variables(model: pm.Model) -> tuple[str, ...]:
    """Names of the free variables, and of the deterministics of 1,000 numbers at most.

    A longer one has a number for each row of data, as a rule, and follows from what is free.
    """
    shapes = {v.name: v.type.shape for v in model.deterministics}
    lengths = {name: math.prod(shape) for name, shape in shapes.items() if None not in shape}
    unknown = [v for v in model.deterministics if v.name not in lengths]
    if unknown:  # they follow from data that may change
        with GLOBAL_STATE:
            sizes = model.replace_rvs_by_values([v.size for v in unknown])
        point = model.initial_point()
        found = compile_once(model.value_vars, sizes, on_unused_input="ignore")(
            *(point[v.name] for v in model.value_vars)
        )
        lengths |= {v.name: int(n) for v, n in zip(unknown, found, strict=True)}
    short = [v.name for v in model.deterministics if lengths[v.name] <= _LONG]
    return (*(rv.name for rv in model.free_RVs), *short)


def check_start(start: Any, model: pm.Model) -> None:
    """Check names and values of a start; shapes are known to the model alone."""
    if start is None:
        return
    if not isinstance(start, Mapping):
        raise ParameterError(
            "start must be a dict of variable names to values, "
            f"but is of type {type(start).__name__}."
        )
    known = {rv.name for rv in model.free_RVs} | {v.name for v in model.value_vars}
    for name, value in start.items():
        if name not in known:
            hint = did_you_mean(name, sorted(known))
            raise ParameterError(
                f"start names {name!r}, which is no free variable of the model. "
                f"{hint}The free variables are {', '.join(rv.name for rv in model.free_RVs)}."
            )
        try:
            array = np.asarray(value)
        except ValueError:
            array = np.asarray(None)
        if array.dtype.kind not in "iuf":
            raise ParameterError(
                f"start must give {name!r} numbers, one or an array of them, but gives {value!r}."
            )
        if not np.isfinite(array).all():
            raise ParameterError(
                f"start must give {name!r} finite numbers inside of its support, "
                f"but gives {value!r}."
            )


def checked_groups(groups: Any, model: Any) -> tuple[list[opvi.Group], pm.Model]:
    """Groups that together hold each free variable of one model once, and the model."""
    if not isinstance(groups, Sequence) or isinstance(groups, str):
        raise ParameterError(
            f"groups must be a list of pmflow.Group, but is {groups!r}. Write [pmflow.Group(...)]."
        )
    for group in groups:
        if not isinstance(group, opvi.Group):
            raise ParameterError(
                f"groups must be a list of pmflow.Group, but one of them is {group!r}. "
                "Write pmflow.Group(variables, formula)."
            )
    if not groups:
        raise ParameterError(
            "An Approximation needs at least one group, but got none. "
            "Write [pmflow.Group(None, formula)] for one of all variables."
        )
    model = checked_model(groups[0].model if model is None else model)
    if any(group.model is not model for group in groups):
        raise ParameterError(
            "All groups must be of one model, the model of the approximation, but the groups are "
            "of others. Give the same model= to each, or make them in one context."
        )
    given = [rv.name for group in groups for rv in group.group or () if group.group is not None]
    _check_cover(list(groups), given, [rv.name for rv in model.free_RVs])
    return list(groups), model


def _check_cover(groups: list[opvi.Group], given: list[str], free: list[str]) -> None:
    twice = sorted({name for name in given if given.count(name) > 1})
    if twice:
        raise ParameterError(
            f"Found duplicates in groups: {', '.join(twice)} stands in more than one group. "
            "Leave it out of all but one."
        )
    rest = [group for group in groups if group.group is None]
    left = [name for name in free if name not in given]
    if len(rest) > 1:
        raise ParameterError(
            "More than one group is specified for the rest variables: only one of them may have "
            "None for its variables. Name those of the others."
        )
    if left and not rest:
        raise ParameterError(
            f"No approximation is specified for the rest variables, {', '.join(left)}. Add "
            "pmflow.Group(None, formula) for them."
        )
    if rest and not left:
        raise ParameterError(
            "A group has None for its variables, all that are left, but no variables are left: "
            "the other groups have all of them. Leave it out."
        )
