"""What of a model must be the same for a saved fit to belong to it."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import numpy as np
import pymc as pm
import pytensor

from pmflow.errors import StorageError

__all__ = ["check_description", "description", "differences", "outline"]

_MOST_SHOWN = 3
_PACKAGES = ("pmflow", "pymc", "pytensor", "numpy")


def description(model: pm.Model) -> dict[str, Any]:
    """What a file says of the model and of what it was written with, as JSON can say it."""
    return {
        "versions": {name: version(name) for name in _PACKAGES},
        "floatX": str(pytensor.config.floatX),
        "model": outline(model),
    }


def check_description(content: dict[str, Any], model: pm.Model, where: str) -> None:
    """Check that what a file holds was fitted to such a model.

    Raises
    ------
    StorageError
        If it was another, or in another precision; the difference is named.
    """
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


def outline(model: pm.Model) -> list[dict[str, Any]]:
    """Every free variable in the model's order: name, shape, type, transform, dims and coords.

    Data are not part of it. The shape is that of the unconstrained value.

    Parameters
    ----------
    model : pymc.Model

    Returns
    -------
    list of dict
        One for each variable, made of what JSON can say.
    """
    point = model.initial_point(0)
    outlined = []
    for rv in model.free_RVs:
        value = model.rvs_to_values[rv]
        dims = list(model.named_vars_to_dims.get(rv.name) or ())
        coords = {dim: model.coords.get(dim) for dim in dims if dim is not None}
        outlined.append(
            {
                "name": rv.name,
                "value": value.name,
                "shape": list(np.shape(point[value.name])),
                "dtype": str(value.dtype),
                "transform": _transform(model.rvs_to_transforms[rv]),
                "dims": dims,
                "coords": {
                    dim: None if labels is None else [_label(label) for label in labels]
                    for dim, labels in coords.items()
                },
            }
        )
    return outlined


def _transform(transform: Any) -> str:
    if transform is None:
        return "none"
    parts = getattr(transform, "transform_list", None)
    if parts is not None:
        return " then ".join(map(_transform, parts))
    return str(getattr(transform, "name", type(transform).__name__))


def _label(label: Any) -> Any:
    if isinstance(label, bool | np.bool_):
        return bool(label)
    if isinstance(label, int | np.integer):
        return int(label)
    return str(label)  # floats too: as text they keep their digits


def differences(saved: list[dict[str, Any]], here: list[dict[str, Any]]) -> list[str]:
    """How two outlines differ, in words; empty if they do not."""
    old, new = ({entry["name"]: entry for entry in entries} for entries in (saved, here))
    found = [f"it has no variable {name!r} here" for name in old if name not in new]
    found += [f"the variable {name!r} here is not in the file" for name in new if name not in old]
    if found:
        return found
    if list(old) != list(new):
        return [f"the order of its variables was {', '.join(old)} and is {', '.join(new)}"]
    for name, before in old.items():
        found += _of_variable(name, before, new[name])
    return found


def _of_variable(name: str, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    found = []
    for what in ("shape", "dtype", "transform", "value", "dims"):
        was, now = before[what], after[what]
        if what in ("shape", "dims"):
            was, now = tuple(was), tuple(now)
        if was != now:
            found.append(f"the {_WORDS[what]} of {name!r} was {was!r} and is {now!r}")
    if found:
        return found
    for dim, labels in before["coords"].items():
        now = after["coords"][dim]
        if labels != now:
            found.append(f"the coords of {dim!r} ({name!r}) {_of_labels(labels, now)}")
    return found


_WORDS = {
    "shape": "unconstrained shape",
    "dtype": "type",
    "transform": "transform",
    "value": "unconstrained name",
    "dims": "dims",
}


def _of_labels(before: list[Any] | None, after: list[Any] | None) -> str:
    if before is None or after is None:
        return "were there in one of them only"
    places = [i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b]
    if len(before) != len(after) or not places:
        return f"had {len(before)} labels and have {len(after)}"
    shown = ", ".join(
        f"{before[i]!r} at place {i} and is {after[i]!r}" for i in places[:_MOST_SHOWN]
    )
    return f"was {shown}"
