"""Fits that choose their family."""

__all__: list[str] = []
