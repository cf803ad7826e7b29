"""Formulas as text and as trees. Nothing here knows a layer."""

__all__: list[str] = []
