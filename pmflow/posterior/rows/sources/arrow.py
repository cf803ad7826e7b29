"""Rows in Parquet and other files that Arrow reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmflow.errors import BackendError, ParameterError

__all__ = ["ArrowRows"]

_AHEAD = 1
"""Batches and files that Arrow reads ahead: it holds them in memory."""
_AT_ONCE = 65_536
"""Rows that are looked through at once for some of them."""


class ArrowRows:
    """Columns of a Parquet file, or of any dataset of Arrow, as the rows of one variable.

    They are read in batches: a dataset may be larger than memory. Needs pyarrow,
    ``pip install 'pmflow[arrow]'``.

    Parameters
    ----------
    source : str, Path, pyarrow.dataset.Dataset or pyarrow.Table
        A file, a folder of files, or what `pyarrow.dataset.dataset` makes of other sources.
    columns : str or list of str
        Names of columns of numbers. With one name a row is a number, with a list of names a vector.

    Raises
    ------
    BackendError
        If pyarrow is not installed.
    ParameterError
        If a column is not there, or not of numbers; when it is read, if values are missing.

    Examples
    --------
    >>> rides = "rides.parquet"
    >>> approx = pmf.fit(  # doctest: +SKIP
    ...     model=model,
    ...     rows={"x": pmf.ArrowRows(rides, ["miles", "hour"]), "y": pmf.ArrowRows(rides, "tip")},
    ... )
    """

    def __init__(self, source: Any, columns: str | Sequence[str]) -> None:
        self._dataset = _dataset(source)
        self._is_vector = not isinstance(columns, str)
        self._columns = [columns] if isinstance(columns, str) else list(columns)
        schema = self._dataset.schema
        for name in self._columns:
            if name not in schema.names:
                raise ParameterError(
                    f"The dataset has no column {name!r}. Its columns are "
                    f"{', '.join(schema.names)}."
                )
        if not self._columns:
            raise ParameterError("columns must name at least one column, but is empty.")
        types = [_numpy_type(schema.field(name)) for name in self._columns]
        self._dtype = np.result_type(*types)
        self._last: tuple[int, NDArray[Any], Iterator[NDArray[Any]]] = (-1, np.empty(0), iter(()))

    @property
    def dtype(self) -> np.dtype[Any]:
        """That all of the columns have room in."""
        return self._dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """How many rows there are, and how many columns, unless one is given by its name."""
        return (self._ends[-1], *([len(self._columns)] if self._is_vector else []))

    @cached_property
    def _pieces(self) -> list[Any]:
        """Parts of the dataset that can be read by themselves."""
        try:
            files = list(self._dataset.get_fragments())
        except ValueError:  # of a filtered one, the parts are not to be had
            return [self._dataset]
        return [
            piece
            for file in files
            for piece in (
                file.split_by_row_group() if hasattr(file, "split_by_row_group") else [file]
            )
        ]

    @cached_property
    def _ends(self) -> list[int]:
        """Which row each piece ends before."""
        return [0, *accumulate(map(_length, self._pieces))]

    def take(self, places: NDArray[np.int64]) -> NDArray[Any]:
        """Rows at some places; see `Rows`. Parts of a file without any are not read."""
        each, back = np.unique(places, return_inverse=True)
        found = np.empty((len(each), *self.shape[1:]), self.dtype)
        done = 0
        while done < len(each):
            begin, batch = self._batch_with(int(each[done]))
            last = int(np.searchsorted(each, begin + len(batch)))
            found[done:last] = batch[each[done:last] - begin]
            done = last
        return found[back]

    def _batch_with(self, place: int) -> tuple[int, NDArray[Any]]:
        """A batch that has a row, and the place of its first.

        Rows are asked for in their order, a few thousand at a time, so that it goes on from where
        it was.
        """
        begin, batch, following = self._last
        piece = int(np.searchsorted(self._ends, place, side="right")) - 1
        if not self._ends[piece] <= begin <= place:  # it is behind, or of another part
            begin, batch = self._ends[piece], np.empty((0, *self.shape[1:]), self.dtype)
            following = self._read(self._pieces[piece], _AT_ONCE)
        while place >= begin + len(batch):
            begin, batch = begin + len(batch), next(following)
        self._last = begin, batch, following
        return begin, batch

    def blocks(self, size: int) -> Iterator[NDArray[Any]]:
        """All rows in their order; see `Rows`."""
        left: list[NDArray[Any]] = []
        number = 0
        for batch in self._read(self._dataset, size):
            left.append(batch)
            number += len(batch)
            while number >= size:
                joined = np.concatenate(left)
                yield joined[:size]
                left, number = [joined[size:]], number - size
        if number:
            yield np.concatenate(left)

    def _read(self, source: Any, size: int) -> Iterator[NDArray[Any]]:
        batches = source.to_batches(
            columns=self._columns,
            batch_size=size,
            batch_readahead=_AHEAD,
            fragment_readahead=_AHEAD,
            **_in_parts(source),
        )
        for batch in batches:
            if not batch.num_rows:
                continue
            columns = [self._numbers(batch, name) for name in self._columns]
            yield np.stack(columns, axis=1) if self._is_vector else columns[0]

    def _numbers(self, batch: Any, name: str) -> NDArray[Any]:
        column = batch.column(name)
        if column.null_count:
            raise ParameterError(
                f"Column {name!r} has missing values. Leave these rows out, "
                "dataset.filter(~pc.field(...).is_null()), or fill them."
            )
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype=self._dtype)


def _dataset(source: Any) -> Any:
    try:
        from pyarrow import dataset
    except ImportError:
        raise BackendError(
            "ArrowRows needs pyarrow, which is not installed: pip install 'pmflow[arrow]'."
        ) from None
    if isinstance(source, dataset.Dataset):
        return source
    if isinstance(source, str | Path) and not Path(source).exists() and "://" not in str(source):
        raise ParameterError(f"There is no file or folder {str(source)!r}.")
    return dataset.dataset(str(source) if isinstance(source, Path) else source)


def _in_parts(source: Any) -> dict[str, Any]:
    """Options by which a Parquet file is read as it is asked for: by default all of it, ahead."""
    from pyarrow import dataset

    if not isinstance(getattr(source, "format", None), dataset.ParquetFileFormat):
        return {}
    options = dataset.ParquetFragmentScanOptions(pre_buffer=False, use_buffered_stream=True)
    return {"fragment_scan_options": options}


def _length(piece: Any) -> int:
    groups = getattr(piece, "row_groups", None)  # a part of a file counts all of its rows
    return piece.count_rows() if groups is None else sum(group.num_rows for group in groups)


def _numpy_type(field: Any) -> np.dtype[Any]:
    try:
        found = np.dtype(field.type.to_pandas_dtype())
    except NotImplementedError:
        found = np.dtype(object)
    if found.kind not in "biuf":
        raise ParameterError(
            f"Column {field.name!r} must be of numbers, but is of Arrow's type {field.type}. "
            "Encode strings and categories as numbers."
        )
    return found
