"""Names of the shared variables that a schedule sets while a loop runs."""

from __future__ import annotations

__all__ = ["HANDLE"]

HANDLE = "pmflow_{}"
"""Name of a shared variable that a schedule sets: not that of a model's data."""
