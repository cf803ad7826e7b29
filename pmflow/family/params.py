"""The parameters of a flow as values, and values as parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pymc.pytensorf import floatX
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.tensor.variable import TensorVariable

from pmflow.errors import ParameterError
from pmflow.family.state import FlowGroupState, ParamState
from pmflow.flows import Chain
from pmflow.flows.bases import AbstractBase
from pmflow.graphs.evaluate import compile_once

__all__ = ["param_states", "params_of", "set_values"]

_BASE = -1


def param_states(
    base: Mapping[str, SharedVariable], layers: Sequence[Mapping[str, TensorVariable]]
) -> Iterator[ParamState]:
    """The parameters of the base, then of each layer, as values."""
    for place, params in enumerate([base, *layers], start=_BASE):
        for name, variable in params.items():
            is_trained = isinstance(variable, SharedVariable)
            value = variable.get_value() if is_trained else compile_once([], [variable])()[0]
            yield ParamState(place, name, np.array(value), is_trained)


def params_of(
    state: FlowGroupState, flow: Chain, base: AbstractBase, dim: int
) -> tuple[dict[str, SharedVariable], list[dict[str, TensorVariable]]]:
    """The parameters of base and layers that were kept.

    Raises
    ------
    ParameterError
        If they do not belong to such a flow, or have other shapes than `dim` asks for.
    """
    shapes = [base.param_shapes(dim), *flow.param_shapes(dim)]
    found: list[dict[str, Any]] = [{} for _ in shapes]
    for param in state.params:
        if not _BASE <= param.place < len(flow):
            raise ParameterError(f"the flow has no layer {param.place}")
        if param.place == _BASE and not param.is_trained:
            raise ParameterError(f"the parameter {param.name!r} of the base is fixed")
        found[param.place - _BASE][param.name] = _variable(param)
    for place, (params, expected) in enumerate(zip(found, shapes, strict=True), start=_BASE):
        given = {name: tuple(v.type.shape) for name, v in params.items()}
        if given != {name: tuple(shape) for name, shape in expected.items()}:
            what = f"layer {place}" if place > _BASE else f"the base {state.base!r}"
            raise ParameterError(f"the parameters of {what} are not its own")
    where = {state.offset.shape, state.origin.shape}
    types = {str(state.offset.dtype), str(state.origin.dtype)}
    if where != {(dim,)} or types != {pytensor.config.floatX}:
        raise ParameterError("the place of the flow is not one of the model's variables")
    if state.frame is not None and state.frame.dim != dim:
        raise ParameterError("the frame is not one of the model's variables")
    made = [dict(sorted(params.items())) for params in found]
    return made[0], made[1:]


def _variable(param: ParamState) -> TensorVariable:
    if str(param.value.dtype) != pytensor.config.floatX:
        raise ParameterError(f"the parameter {param.name!r} is of type {param.value.dtype}")
    if param.is_trained:
        return pytensor.shared(param.value.copy(), param.name, shape=param.value.shape)
    return pt.as_tensor(param.value, name=param.name)


def set_values(params: Mapping[str, SharedVariable], values: Mapping[str, Any]) -> None:
    """Give the parameters of one of PyMC's families their values.

    Raises
    ------
    ParameterError
        If names or shapes are not those of the family.
    """
    shapes = {name: p.get_value().shape for name, p in params.items()}
    if shapes != {name: np.shape(value) for name, value in values.items()}:
        raise ParameterError(f"the parameters {sorted(values)} are not those of the family")
    for name, param in params.items():
        param.set_value(floatX(values[name]))
