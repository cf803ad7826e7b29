"""Few global variables by their marginal, many local ones given them."""

__all__: list[str] = []
