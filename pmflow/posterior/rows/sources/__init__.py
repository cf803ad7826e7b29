"""Where rows of data are kept: in memory, on disk, in other packages' arrays and tables."""

__all__: list[str] = []
