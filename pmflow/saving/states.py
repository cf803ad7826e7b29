"""Any state as texts and arrays, by its fields, and back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, Literal, TypeAliasType, Union, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pmflow.errors import PmflowError, StorageError
from pmflow.records import State
from pmflow.saving.archive import Archive

__all__ = ["no_trust_in", "pack", "unpack"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z", re.ASCII)

_MALFORMED = (
    *(PmflowError, ArithmeticError, AttributeError, LookupError),
    *(MemoryError, RecursionError, TypeError, ValueError),
)
"""What content of other types and sizes than expected ends in."""

type Arrays = dict[str, NDArray[Any]]


def pack(state: State, about: dict[str, Any] | None = None) -> Archive:
    """A state as an archive.

    Parameters
    ----------
    state : State
    about : dict, optional
        What else the file is to say, as JSON can say it.

    Raises
    ------
    StorageError
        If a field holds what is neither number, text, array nor state.
    """
    arrays: Arrays = {}
    return Archive({**(about or {}), "state": _packed(state, "", arrays)}, arrays)


def _packed(value: Any, path: str, arrays: Arrays) -> Any:
    """The value as JSON can say it; arrays go among the arrays, by the path to them."""
    if isinstance(value, State):
        inner = {
            f.name: _packed(getattr(value, f.name), _joined(path, f.name), arrays)
            for f in fields(value)  # type: ignore[arg-type]
        }
        return {"state": type(value).__name__, "fields": inner}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, np.bool_ | np.integer):
        return value.item()
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else {"float": str(float(value))}
    if isinstance(value, np.ndarray):
        name = path if _NAME.match(path) else f"array_{len(arrays)}"
        arrays[name] = value
        return {"array": name}
    if isinstance(value, pd.DataFrame):
        return {
            "rows": [str(label) for label in value.index],
            "columns": [str(label) for label in value.columns],
            "values": _packed(value.to_numpy(dtype=float), path, arrays),
        }
    if isinstance(value, tuple | list):
        return [_packed(v, _joined(path, str(i)), arrays) for i, v in enumerate(value)]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        inner = {key: _packed(v, _joined(path, key), arrays) for key, v in value.items()}
        return {"dict": inner}
    raise StorageError(
        f"{path or 'the state'} can't be written to a file: it is of type {type(value).__name__}."
    )


def _joined(path: str, name: str) -> str:
    return f"{path}_{name}" if path else name


def unpack[S: State](archive: Archive, kind: type[S], where: str) -> S:
    """The state in an archive.

    Nothing is looked up but names of states, and every field must be of the type that its class
    says.

    Parameters
    ----------
    archive : Archive
    kind : type
        What it must be.
    where : str
        Name of the file, for errors.

    Raises
    ------
    StorageError
        If the content is not that of such a state.
    """
    with no_trust_in(where):
        state = _unpacked(archive.content["state"], archive.arrays)
        if not isinstance(state, kind):
            raise TypeError(f"it holds a {type(state).__name__}")
    return state


@contextmanager
def no_trust_in(where: str) -> Iterator[None]:
    """Say of a file, by its name, that its content is not what pmflow writes.

    Raises
    ------
    StorageError
        For whatever content of other types and sizes than expected ends in.
    """
    try:
        yield
    except StorageError:
        raise
    except _MALFORMED as error:
        raise StorageError(
            f"{where!r} does not hold what a saved fit holds ({type(error).__name__}: {error}). "
            "It was not written by pmflow, or was changed since."
        ) from error


def _unpacked(packed: Any, arrays: Arrays) -> Any:
    if isinstance(packed, list):
        return tuple(_unpacked(value, arrays) for value in packed)
    if not isinstance(packed, dict):
        return packed
    if "state" in packed:
        kind = State.kinds[packed["state"]]
        given = {name: _unpacked(v, arrays) for name, v in packed["fields"].items()}
        for name, hint in _hints(kind).items():
            if name in given and not _fits(given[name], hint):
                raise TypeError(f"{name} of a {kind.__name__} is not what it should be")
        return kind(**given)
    if "rows" in packed:
        values = _unpacked(packed["values"], arrays)
        return pd.DataFrame(values, index=packed["rows"], columns=packed["columns"])
    if "dict" in packed:
        return {str(key): _unpacked(value, arrays) for key, value in packed["dict"].items()}
    if "float" in packed:
        return float(packed["float"])
    return arrays[packed["array"]]


def _hints(kind: type[State]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {f.name: hints[f.name] for f in fields(kind)}  # type: ignore[arg-type]


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type."""
    if isinstance(hint, TypeAliasType):
        return _fits(value, hint.__value__)
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return any(type(value) is type(known) and value == known for known in inner)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is tuple:
        if len(inner) == 2 and inner[1] is Ellipsis:
            return isinstance(value, tuple) and all(_fits(v, inner[0]) for v in value)
        return (
            isinstance(value, tuple) and len(value) == len(inner) and all(map(_fits, value, inner))
        )
    if origin is dict:
        return isinstance(value, dict) and all(_fits(v, inner[1]) for v in value.values())
    if origin in (np.ndarray, NDArray):  # an alias of its own since NumPy 2.4
        *_, scalar = get_args(inner[-1]) or inner
        scalar = get_origin(scalar) or scalar  # np.floating of np.floating[Any]
        right = scalar is Any or np.issubdtype(getattr(value, "dtype", object), scalar)
        return isinstance(value, np.ndarray) and right
    if hint is float:
        return isinstance(value, float | int) and not isinstance(value, bool)
    if hint in (int, str, bool, NoneType):
        return type(value) is hint
    return hint is Any or isinstance(value, hint)
