"""Rows in arrays: NumPy's, and whatever is sliced as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmflow.errors import ParameterError
from pmflow.posterior.rows.sources.rows import Rows

__all__ = ["ArrayRows", "as_rows"]


class ArrayRows:
    """Rows of an array along its first axis: in memory, of a memory map, or kept elsewhere.

    Parameters
    ----------
    array : array_like
        With a shape, a dtype, slices, and lists of increasing places, of NumPy, Zarr, Dask, h5py or
        xarray.
    """

    def __init__(self, array: Any) -> None:
        self._array = array
        # Zarr's own indices by lists are of single elements
        self._at = array.oindex if hasattr(array, "oindex") else array

    @property
    def shape(self) -> tuple[int, ...]:
        """How many rows there are, and the shape of each."""
        return tuple(map(int, self._array.shape))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of their numbers."""
        return np.dtype(self._array.dtype)

    @property
    def are_at_hand(self) -> bool:
        """Whether they are in memory, or mapped into it."""
        return isinstance(self._array, np.ndarray)

    def take(self, places: NDArray[np.int64]) -> NDArray[Any]:
        """Rows at some places; see `Rows`."""
        if self.are_at_hand:
            return np.asarray(self._array[places])
        each, back = np.unique(places, return_inverse=True)
        return np.asarray(self._at[each])[back]

    def blocks(self, size: int) -> Iterator[NDArray[Any]]:
        """All rows in their order; see `Rows`."""
        for begin in range(0, self.shape[0], size):
            yield np.asarray(self._array[begin : begin + size])


def as_rows(name: str, value: Any) -> Rows:
    """Whatever a user keeps rows in, as rows.

    Raises
    ------
    ParameterError
        If it is no array or table of numbers.
    """
    if isinstance(value, Rows) and not hasattr(value, "__array__"):
        return value
    if hasattr(value, "to_numpy") and not hasattr(value, "dims"):
        value = value.to_numpy()  # a data frame, of pandas or polars
    if isinstance(value, list | tuple):
        value = np.asarray(value)
    if not all(hasattr(value, part) for part in ("shape", "dtype", "__getitem__")):
        raise ParameterError(
            f"rows[{name!r}] must be an array with a row of data in each row (of NumPy, Zarr, Dask "
            "or xarray), a data frame, pmflow.ArrowRows for Parquet and Arrow, or an object with "
            f"the methods of pmflow.Rows, but is of type {type(value).__name__}."
        )
    found = ArrayRows(value)
    if not found.shape or found.dtype.kind not in "biuf":
        raise ParameterError(
            f"rows[{name!r}] must be numbers, a row of data in each row, but its shape is "
            f"{found.shape} and its dtype {found.dtype}. Encode strings and categories as numbers."
        )
    return found
