"""What a user gives to a group, checked."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from pymc.pytensorf import floatX
from pymc.variational.opvi import ParametrizationError
from pymc.vartypes import discrete_types
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.tensor.variable import TensorVariable

from pmflow.checks import as_numbers
from pmflow.errors import NotContinuousError, ParameterError
from pmflow.flows import AbstractLayer, Chain
from pmflow.flows.bases import AbstractBase
from pmflow.flows.catalogue import layer_class, words
from pmflow.frames import Frame

__all__ = [
    "DEFAULT_JITTER",
    "UserParams",
    "adopted",
    "check_places",
    "check_size",
    "checked_jitter",
    "layers_for",
    "shared",
]

DEFAULT_JITTER = 0.1
"""Spread of the parameters around the identity at the start of a fit."""

_MANY = 3
"""A number of dimensions in which every layer has all of its parameters."""

_MOST_PARAMS = 10**8
"""Numbers to train: 0.8 GB in float64, and an optimiser keeps several as many."""

type UserParams = Mapping[int, Mapping[str, Any]]


def checked_jitter(jitter: float | None) -> float:
    """The spread as a number, the default for None."""
    if jitter is None:
        return DEFAULT_JITTER
    if isinstance(jitter, bool) or not isinstance(jitter, int | float | np.number):
        raise ParameterError(f"jitter must be a number >= 0, but is {jitter!r}.")
    if not (np.isfinite(jitter) and jitter >= 0):
        raise ParameterError(f"jitter must be finite and >= 0, but is {jitter!r}.")
    return float(jitter)


def check_size(flow: Chain, base: AbstractBase, dim: int) -> None:
    """Check that a flow is not too large, before anything of its size is made.

    Raises
    ------
    ParameterError
    """
    size = flow.n_params(dim) + sum(map(math.prod, base.param_shapes(dim).values()))
    if size > _MOST_PARAMS:
        text = textwrap.shorten(flow.formula.replace("-", " -"), 200, placeholder=" ...")
        raise ParameterError(
            f"The parameters of {text.replace(' -', '-')!r} with the base {base.word!r} would be "
            f"{size:,} numbers in {dim:,} dimensions, but must be {_MOST_PARAMS:,} at most. "
            "Take fewer hidden units or directions, or layers that grow with the dimension only, "
            "such as 'lowrank[rank=10]-loc'."
        )


def shared(values: Mapping[str, NDArray[np.float64]]) -> dict[str, SharedVariable]:
    """Start values as shared variables of static shape, in the order of their names."""
    return {
        name: pytensor.shared(floatX(value), name, shape=np.shape(value))
        for name, value in sorted(values.items())
    }


def check_places(params: UserParams, n_layers: int | None = None) -> None:
    """Check that the keys of `params` are the places of layers, of as many as there are."""
    if not isinstance(params, Mapping) or not params:
        raise ParameterError(
            "params must be a dict {0: {...}, 1: {...}} with the parameters of each layer, "
            f"but is {params!r}."
        )
    n_layers = len(params) if n_layers is None else n_layers
    if sorted(params, key=str) != sorted(range(n_layers), key=str):
        raise ParameterError(
            f"The keys of params must be 0 to {n_layers - 1}, the places of the layers in the "
            f"flow, but are {list(params)}."
        )


def layers_for(params: UserParams) -> tuple[AbstractLayer, ...]:
    """The layers whose parameter names the user gave."""
    check_places(params)
    return tuple(layer_for(params[index], index) for index in range(len(params)))


def layer_for(params: Mapping[str, Any], index: int) -> AbstractLayer:
    if not isinstance(params, Mapping):
        raise ParameterError(
            f"params[{index}] must be a dict of parameter names to values, but is {params!r}."
        )
    layers = {layer.word: layer for layer in (layer_class(word)() for word in words())}
    names = {word: set(layer.param_shapes(_MANY)) for word, layer in layers.items()}
    found = [word for word in layers if names[word] == set(params)]
    if len(found) == 1:
        return layers[found[0]]
    if found:
        raise ParameterError(
            f"params[{index}] could be of the layers {', '.join(found)}, whose parameters are "
            "named alike. Give the formula too."
        )
    known = "; ".join(f"{word}: {', '.join(sorted(names[word]))}" for word in layers)
    raise ParameterError(
        f"No layer has the parameters {sorted(params)} of params[{index}]. "
        f"The layers have {known}. For layers with options give the formula too."
    )


def adopted(params: UserParams, flow: Chain, dim: int) -> list[dict[str, TensorVariable]]:
    """The user's parameters of every layer, checked against the shapes of the layers.

    Raises
    ------
    ParameterError
    """
    check_places(params, len(flow))
    return [
        _adopted_layer(params[index], index, flow.layers[index].word, shapes, dim)
        for index, shapes in enumerate(flow.param_shapes(dim))
    ]


def _adopted_layer(
    given: Any, index: int, word: str, shapes: Mapping[str, tuple[int, ...]], dim: int
) -> dict[str, TensorVariable]:
    if not isinstance(given, Mapping) or set(given) != set(shapes):
        raise ParameterError(
            f"params[{index}] must have the parameters of the layer {word!r}, "
            f"{', '.join(sorted(shapes)) or 'none'}, but is {_names_of(given)}."
        )
    layer = {}
    for name, shape in sorted(shapes.items()):
        value = given[name]
        if not isinstance(value, TensorVariable):
            value = as_numbers(f"params[{index}][{name!r}]", value, str(shape))
            if not np.isfinite(value).all():
                raise ParameterError(f"params[{index}][{name!r}] must be finite, but is {value}.")
            value = pt.as_tensor(floatX(value), name=name)
        got = value.get_value().shape if isinstance(value, SharedVariable) else value.type.shape
        fits = len(got) == len(shape) and all(
            g is None or g == s for g, s in zip(got, shape, strict=True)
        )
        if not fits:
            raise ParameterError(
                f"params[{index}][{name!r}] of the layer {word!r} must have shape {shape} "
                f"for the {dim} dimensions of this group, but has shape {got}."
            )
        layer[name] = value
    return layer


def _names_of(params: Any) -> str:
    """What was given in place of parameters, for an error."""
    return ", ".join(sorted(map(str, params))) if isinstance(params, Mapping) else repr(params)


def of_length(frame: Frame, dim: int) -> Frame:
    """The frame that the user gave.

    Raises
    ------
    ParameterError
        If it is not of the length of the latent vector.
    """
    if frame.dim != dim:
        raise ParameterError(
            f"The frame has {frame.dim} dimensions, but the latent vector has {dim}. Give one of "
            "this length, or the name of a kind of frame."
        )
    return frame


class _DiscreteError(NotContinuousError, ParametrizationError):
    """PyMC's exception too, for those who catch that."""


def check_continuous(variables: Sequence[TensorVariable]) -> None:
    """Check that a flow can stand for some variables.

    Raises
    ------
    NotContinuousError
        If one is discrete; also PyMC's ParametrizationError.
    """
    names = [v.name for v in variables if v.type.numpy_dtype.name in discrete_types]
    if names:
        raise _DiscreteError(
            f"A flow needs continuous free variables, but {', '.join(names)} "
            f"{'is' if len(names) == 1 else 'are'} discrete. Marginalize them "
            "(pymc_extras.marginalize) or use pm.sample."
        )
