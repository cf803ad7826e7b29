"""Functions compiled by numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numba

__all__ = ["compiled"]


def compiled[F: Callable[..., Any]](function: F) -> F:
    """Compile by numba when first called, kept on disk where there is a place to keep it."""
    try:
        return cast(F, numba.njit(cache=True)(function))
    except RuntimeError:  # neither its own folder nor the user's can be written to
        return cast(F, numba.njit(function))
