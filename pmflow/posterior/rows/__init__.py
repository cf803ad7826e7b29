"""A likelihood as a sum over rows of data: streamed, subsampled, held against all of them."""

__all__: list[str] = []
