"""What PyTensor does not do yet, one file a workaround, each with what would remove it."""

__all__: list[str] = []
