"""What decides the maps of single coordinates."""

__all__: list[str] = []
