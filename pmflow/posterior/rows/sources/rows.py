"""What is asked of whatever keeps rows of data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rows"]


@runtime_checkable
class Rows(Protocol):
    """Rows of one variable, kept wherever they are: a few of them at a time come into memory.

    Arrays of NumPy, memory maps, Zarr, Dask, h5py and xarray, data frames, and Parquet files by
    `pmflow.ArrowRows` need no class of yours. Write one for a store of your own, with these four.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """How many rows there are, and the shape of each."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of their numbers."""
        ...

    def take(self, places: NDArray[np.int64]) -> NDArray[Any]:
        """Rows at some places, from 0, in this order; a place may occur twice.

        Parameters
        ----------
        places : ndarray of int, shape (n,)

        Returns
        -------
        ndarray, shape (n, ...)
        """
        ...

    def blocks(self, size: int) -> Iterator[NDArray[Any]]:
        """All rows in their order, `size` at a time: no block but the last is shorter.

        Parameters
        ----------
        size : int

        Yields
        ------
        ndarray, shape (size, ...)
        """
        ...
