"""What the first layer sees."""

__all__: list[str] = []
