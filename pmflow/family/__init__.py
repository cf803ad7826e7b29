"""The approximating families."""

__all__: list[str] = []
