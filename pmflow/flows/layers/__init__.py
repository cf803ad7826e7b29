"""Layers: one word of the formula, one class."""

__all__: list[str] = []
