"""What a fit makes small."""

__all__: list[str] = []
