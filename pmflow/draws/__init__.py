"""Where the draws of a step come from."""

__all__: list[str] = []
