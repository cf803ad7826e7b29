"""Arguments that many functions take, checked where they enter.

Each check says what was expected, what came and what to do, before anything is computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmflow.errors import ParameterError

__all__ = [
    "as_numbers",
    "check_flags",
    "check_names",
    "check_seed",
    "checked_count",
    "checked_names",
    "checked_number",
    "did_you_mean",
    "refuse_with",
]

_SEEDS = 2**32
"""NumPy's seeds are below this."""


def checked_count(name: str, value: Any, least: int) -> int:
    """An integer argument, or an error."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ParameterError(f"{name} must be an integer >= {least}, but is {value!r}.")
    return int(value)


def checked_number(
    name: str, value: Any, expected: str = "a finite number", *, least: float = -np.inf
) -> float:
    """A finite number, no bool, at least `least`, or an error that says what was `expected`."""
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not is_number or np.iscomplexobj(value) or not (np.isfinite(value) and value >= least):
        raise ParameterError(f"{name} must be {expected}, but is {value!r}.")
    return float(value)


def check_flags(**flags: Any) -> None:
    """Check that arguments are True or False."""
    for name, value in flags.items():
        if not isinstance(value, bool | np.bool_):
            raise ParameterError(f"{name} must be True or False, but is {value!r}.")


def check_seed(random_seed: Any) -> None:
    """Check that a seed is None, an integer that NumPy takes, or a generator."""
    if random_seed is None or isinstance(random_seed, np.random.Generator | np.random.RandomState):
        return
    is_integer = isinstance(random_seed, int | np.integer) and not isinstance(random_seed, bool)
    if not is_integer or not 0 <= random_seed < _SEEDS:
        raise ParameterError(
            "random_seed must be None, an integer from 0 to 2**32 - 1, or a NumPy Generator or "
            f"RandomState, but is {random_seed!r}."
        )


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """The sentence of an error that names what is most like what was given, or nothing."""
    close = get_close_matches(str(given), list(known), n=1)
    return f"Did you mean {close[0]!r}? " if close else ""


def check_names(given: Iterable[Any], accepted: Iterable[str], what: str) -> None:
    """Check that all names are accepted ones; `what` takes them, in words."""
    names = list(accepted)
    for name in given:
        if name not in names:
            hint = did_you_mean(name, names)
            raise ParameterError(f"{what} has no {name!r}. {hint}It takes {', '.join(names)}.")


def checked_names(given: Iterable[str], accepted: Iterable[str], what: str) -> tuple[str, ...]:
    """The names, each an accepted one; a single one may be given by itself."""
    names = (given,) if isinstance(given, str) else tuple(given)
    check_names(names, accepted, what)
    return names


def as_numbers(name: str, value: Any, shape: str) -> NDArray[np.float64]:
    """An array of real numbers, or an error; `shape` is what it should have, in words."""
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise TypeError
    except (TypeError, ValueError):
        what = type(value).__name__ if not isinstance(value, Mapping | str) else repr(value)[:60]
        raise ParameterError(
            f"{name} must be numbers of shape {shape}, but is {what}, which makes no such array."
        ) from None
    return array.astype(float)


def refuse_with(what: str, given: Mapping[str, Any]) -> None:
    """Refuse arguments that come too late, by name.

    Raises
    ------
    ParameterError
    """
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise ParameterError(
            f"{', '.join(names)} can't be honoured together with {what}. "
            "Give them where you make it."
        )
