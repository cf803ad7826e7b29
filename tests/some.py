"""Cases of which `make check` runs some, and `make test` all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

__all__ = ["some"]


def some(cases: Mapping[str, Any] | Iterable[str], number: int) -> list[Any]:
    """Parameters of a test, named; those after the first few are marked as slow.

    Parameters
    ----------
    cases : mapping of str to tuple or value, or iterable of str
    number : int
        How many are run by ``make check`` too.
    """
    given = cases if isinstance(cases, Mapping) else {name: name for name in cases}
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            id=name,
            marks=() if i < number else pytest.mark.slow,
        )
        for i, (name, case) in enumerate(given.items())
    ]
