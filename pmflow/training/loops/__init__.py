"""Many steps in one call."""

__all__: list[str] = []
