"""Fits from several starts."""

__all__: list[str] = []
