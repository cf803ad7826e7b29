"""Ops written by hand, with their kernels for each backend."""

__all__: list[str] = []
