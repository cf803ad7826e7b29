"""Maps of one coordinate."""

__all__: list[str] = []
