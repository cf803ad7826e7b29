"""An approximation as texts and arrays, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, fields
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import pymc as pm
import pytensor
from numpy.typing import NDArray
from pymc.pytensorf import floatX
from pymc.variational import opvi
from pytensor.compile.sharedvalue import SharedVariable

from pmflow.errors import FormulaError, ParameterError, PmflowError, StorageError
from pmflow.family.flow_group import NormalizingFlowGroup
from pmflow.family.group import Group
from pmflow.flows.bases.bases import AbstractBase
from pmflow.flows.formula import Formula, parse_base
from pmflow.frames import Frame
from pmflow.graphs.evaluate import compile_once
from pmflow.posterior.outline import differences, outline
from pmflow.records import FitState, Starts
from pmflow.saving.archive import Archive

__all__ = ["Stored", "pack", "unpack"]

_PYMC_FAMILIES = {"MeanFieldGroup": "mean_field", "FullRankGroup": "full_rank"}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z", re.ASCII)
_PACKAGES = ("pmflow", "pymc", "pytensor", "numpy")

_MALFORMED = (
    *(PmflowError, ArithmeticError, AttributeError, LookupError),
    *(MemoryError, RecursionError, TypeError, ValueError),
)
"""What content of other types and sizes than expected ends in."""

type Arrays = dict[str, NDArray[Any]]


class Stored(NamedTuple):
    """What of an approximation is in a file."""

    groups: list[opvi.Group]
    hist: NDArray[np.float64]
    fit_state: FitState | None
    starts: Starts | None


def pack(approx: Any) -> Archive:
    """Everything that makes an approximation, and an outline of its model.

    Parameters
    ----------
    approx : Approximation

    Returns
    -------
    Archive

    Raises
    ------
    StorageError
        If a group is neither a flow nor mean field nor full rank, or its base is of your own.
    """
    arrays: Arrays = {"hist": np.asarray(approx.hist, dtype=float)}
    groups = [_pack_group(group, f"g{i}_", arrays) for i, group in enumerate(approx.groups)]
    content = {
        "kind": "approximation",
        "single": hasattr(approx, "layer_params"),
        "versions": {name: version(name) for name in _PACKAGES},
        "floatX": str(pytensor.config.floatX),
        "model": outline(approx.model),
        "groups": groups,
        "fit_state": None if approx.fit_state is None else asdict(approx.fit_state),
        "starts": _pack_starts(approx.starts, arrays),
    }
    return Archive(content, arrays)


def _pack_group(group: opvi.Group, prefix: str, arrays: Arrays) -> dict[str, Any]:
    if isinstance(group, NormalizingFlowGroup):
        packed = _pack_flow(group, prefix, arrays)
    elif type(group).__name__ in _PYMC_FAMILIES:
        packed = {"family": _PYMC_FAMILIES[type(group).__name__]}
        packed["parameters"] = [
            {"name": name, "array": _add(arrays, prefix, name, value), "trained": True}
            for name, value in group.params_dict.items()
        ]
    else:
        raise StorageError(
            f"A group of type {type(group).__name__} can't be saved: only flows, mean field and "
            "full rank can. Save its draws: approx.sample(...).to_netcdf(...)."
        )
    packed["variables"] = [rv.name for rv in group.group]
    state = group.rng.get_state(legacy=False)
    arrays[f"{prefix}rng_key"] = state["state"]["key"]
    arrays[f"{prefix}rng_gauss"] = np.array(state["gauss"])
    packed["rng"] = {"pos": int(state["state"]["pos"]), "has_gauss": int(state["has_gauss"])}
    return packed


def _pack_flow(group: NormalizingFlowGroup, prefix: str, arrays: Arrays) -> dict[str, Any]:
    placement = dict(zip(group._placement.names, group._placement.shared, strict=True))
    for name in ("offset", "origin"):
        if name in placement:
            arrays[f"{prefix}{name}"] = placement[name].get_value()
    frame = group.frame
    if frame is not None:
        arrays[f"{prefix}frame_loc"], arrays[f"{prefix}frame_factor"] = frame.loc, frame.factor
    places: list[tuple[int | str, Mapping[str, Any]]]
    places = [("base", group.base_params), *enumerate(group.layer_params)]
    parameters = [
        {
            "place": place,
            "name": name,
            "array": _add(arrays, prefix, f"{name}_{place}", value),
            "trained": isinstance(value, SharedVariable),
        }
        for place, params in places
        for name, value in params.items()
    ]
    return {
        "family": "flow",
        "formula": str(group.formula),
        "base": _base_text(group.base),
        "jitter": str(group._jitter),
        "parameters": parameters,
        "moment_seed": int(group._moment_seed),
        "frame": None if frame is None else {"kind": frame.kind, "note": frame.note},
    }


def _add(arrays: Arrays, prefix: str, name: str, value: Any) -> str:
    """Put the value of a parameter among the arrays; the name that it has there."""
    if isinstance(value, SharedVariable):
        number = value.get_value()
    else:
        (number,) = compile_once([], [value])()
    key = f"{prefix}{name}" if _NAME.match(name) else f"{prefix}parameter_{len(arrays)}"
    arrays[key] = np.asarray(number)
    return key


def _base_text(base: AbstractBase) -> str:
    options = [(f.name, getattr(base, f.name), f.default) for f in fields(base)]  # type: ignore[arg-type]
    given = ",".join(
        f"{name}={str(value).lower() if isinstance(value, bool) else repr(value)}"
        for name, value, default in options
        if value != default
    )
    text = f"{base.word}[{given}]" if given else base.word
    try:
        if parse_base(text) == base:
            return text
    except FormulaError:
        pass
    raise StorageError(
        f"The base {base!r} can't be saved: it is none of those that a text such as "
        "'student_t[df=3]' names."
    )


def _pack_starts(starts: Starts | None, arrays: Arrays) -> dict[str, Any] | None:
    if starts is None:
        return None
    for name in ("elbo", "elbo_se", "rhat", "wasserstein", "weights"):
        arrays[f"starts_{name}"] = np.asarray(getattr(starts, name), dtype=float)
    return {"modes": list(starts.modes)}


def unpack(archive: Archive, model: pm.Model, where: str) -> Stored:
    """Groups on the variables of a model, with the parameters that were saved.

    Parameters
    ----------
    archive : Archive
    model : pymc.Model
    where : str
        Name of the file, for errors.

    Raises
    ------
    StorageError
        If the model is another, a layer is not registered, or the content is not as it should be.
    """
    content, arrays = archive.content, archive.arrays
    try:
        found = differences(content["model"], outline(model))
        if found:
            raise StorageError(
                f"{where!r} was saved with another model: {'; '.join(found[:5])}"
                f"{f'; and {len(found) - 5} more differences' if len(found) > 5 else ''}. "
                "Load it with the model that it was fitted to."
            )
        if content["floatX"] != pytensor.config.floatX:
            raise StorageError(
                f"{where!r} was saved with pytensor.config.floatX={content['floatX']!r}, but now "
                f"it is {pytensor.config.floatX!r}. Set it to what it was."
            )
        _check_variables(content["groups"], model)
        groups = [
            _unpack_group(packed, f"g{i}_", arrays, model)
            for i, packed in enumerate(content["groups"])
        ]
        if arrays["hist"].dtype != np.float64 or arrays["hist"].ndim != 1:
            raise ParameterError("hist is no list of losses")
        state = content["fit_state"]
        return Stored(
            groups,
            arrays["hist"],
            None if state is None else _fit_state(state),
            _unpack_starts(content["starts"], arrays),
        )
    except StorageError:
        raise
    except _MALFORMED as error:
        raise StorageError(
            f"{where!r} does not hold what a saved fit holds ({type(error).__name__}: {error}). "
            "It was not written by pmflow, or was changed since."
        ) from error


def _check_variables(groups: list[dict[str, Any]], model: pm.Model) -> None:
    names = [name for packed in groups for name in packed["variables"]]
    if sorted(names) != sorted(rv.name for rv in model.free_RVs):
        raise ParameterError("the groups do not hold each variable once")


def _unpack_group(
    packed: dict[str, Any], prefix: str, arrays: Arrays, model: pm.Model
) -> opvi.Group:
    variables = [model[name] for name in packed["variables"]]
    family = packed["family"]
    if family == "flow":
        group = _unpack_flow(packed, prefix, arrays, variables, model)
    elif family in _PYMC_FAMILIES.values():
        group = Group(variables, family, random_seed=0, model=model)
        values = {p["name"]: arrays[p["array"]] for p in packed["parameters"]}
        _set(group.shared_params, values)
    else:
        raise ParameterError(f"there is no family {family!r}")
    key, gauss = arrays[f"{prefix}rng_key"], arrays[f"{prefix}rng_gauss"]
    if key.dtype != np.uint32 or key.shape != (624,) or not 0 <= packed["rng"]["pos"] <= 624:
        raise ParameterError("the state of the random generator is not one")
    state = {"key": key, "pos": packed["rng"]["pos"]}
    group.rng.set_state(
        {
            "bit_generator": "MT19937",
            "state": state,
            "has_gauss": int(packed["rng"]["has_gauss"]),
            "gauss": float(gauss),
        }
    )
    return group


def _unpack_flow(
    packed: dict[str, Any],
    prefix: str,
    arrays: Arrays,
    variables: list[Any],
    model: pm.Model,
) -> NormalizingFlowGroup:
    formula, base = _formula(packed["formula"]), parse_base(packed["base"])
    dim = len(arrays[f"{prefix}origin"])
    layers: dict[int, dict[str, Any]] = {i: {} for i in range(len(formula))}
    base_values: Arrays = {}
    for parameter in packed["parameters"]:
        name, value = parameter["name"], arrays[parameter["array"]]
        if value.dtype != np.dtype(pytensor.config.floatX):
            raise ParameterError(f"the parameter {name!r} is of type {value.dtype}")
        if parameter["place"] == "base":
            base_values[name] = value
        elif parameter["trained"] is True:
            layers[parameter["place"]][name] = pytensor.shared(value, name, shape=value.shape)
        else:
            layers[parameter["place"]][name] = value
    shapes = base.param_shapes(dim)
    if {name: value.shape for name, value in base_values.items()} != shapes:
        raise ParameterError(f"the parameters of the base {packed['base']!r} are not its own")
    frame = packed["frame"]
    if frame is not None:
        loc, factor = arrays[f"{prefix}frame_loc"], arrays[f"{prefix}frame_factor"]
        frame = Frame(loc, factor, str(frame["kind"]), str(frame["note"]))
    group = NormalizingFlowGroup(
        variables, formula, layers, 0, model, base=base, frame=frame, jitter=float(packed["jitter"])
    )
    _set(group.base_params, base_values)
    origin = arrays[f"{prefix}origin"]
    group.offset = np.zeros(group.ddim) if frame is not None else arrays[f"{prefix}offset"]
    expected = (group.ddim,), np.dtype(pytensor.config.floatX)
    if (origin.shape, origin.dtype) != expected or group.offset.shape != expected[0]:
        raise ParameterError("the place of the flow is not one of the model's variables")
    if frame is None and group.offset.dtype != expected[1]:
        raise ParameterError("the place of the flow is not one of numbers with a point")
    group._placement.place(group.offset, frame, origin=origin)
    group._moment_seed = int(packed["moment_seed"])
    # from now on as if the parameters were the flow's own
    group.user_params = None
    return group


def _formula(text: Any) -> Formula:
    try:
        return Formula(text)
    except FormulaError as error:
        raise StorageError(
            f"The flow of the file is {text!r}, which can't be built: {error.reason} A layer of "
            "your own must be registered (pmflow.flows.register) before the file is loaded."
        ) from error


def _set(params: Mapping[str, SharedVariable], values: Mapping[str, NDArray[Any]]) -> None:
    if {n: p.get_value().shape for n, p in params.items()} != {
        n: v.shape for n, v in values.items()
    }:
        raise ParameterError(f"the parameters {sorted(values)} are not those of the family")
    for name, param in params.items():
        param.set_value(floatX(values[name]))


def _fit_state(state: dict[str, Any]) -> FitState:
    made = FitState(**state)
    str(made)  # fails where a field is not what it should be
    return made


def _unpack_starts(packed: dict[str, Any] | None, arrays: Arrays) -> Starts | None:
    if packed is None:
        return None
    made = Starts(
        elbo=arrays["starts_elbo"],
        elbo_se=arrays["starts_elbo_se"],
        rhat=float(arrays["starts_rhat"]),
        wasserstein=arrays["starts_wasserstein"],
        modes=tuple(int(mode) for mode in packed["modes"]),
        weights=arrays["starts_weights"],
    )
    str(made)
    return made
