"""Training: steps, the loops that do them, and what decides about them."""

__all__: list[str] = []
