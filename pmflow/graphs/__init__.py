"""PyTensor graphs: vectorised over draws, compiled once. Nothing here knows pmflow."""

__all__: list[str] = []
