"""How good a fit is, from its draws and densities."""

__all__: list[str] = []
