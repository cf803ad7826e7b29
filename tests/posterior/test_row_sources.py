"""Rows where people keep them: each kind of source gives what an array of NumPy gives."""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import pmflow as pmf
from pmflow.errors import BackendError, ParameterError
from pmflow.posterior.rows.sources.ahead import ahead
from pmflow.posterior.rows.sources.arrays import as_rows

VALUES = np.random.default_rng(0).normal(size=(1_003, 3))
NAMES = ["a", "b", "c"]
PLACES = np.array([1_002, 3, 3, 0, 517, 250, 249])

type Values = NDArray[np.float64]


class OfMine:
    """A source with the four members of `pmflow.Rows`, and no other."""

    shape, dtype = VALUES.shape, VALUES.dtype

    def take(self, places: NDArray[np.int64]) -> Values:
        return VALUES[places]

    def blocks(self, size: int) -> Iterator[Values]:
        return (VALUES[i : i + size] for i in range(0, len(VALUES), size))


def memory_map(folder: Path) -> Any:
    np.save(folder / "rows.npy", VALUES)
    return np.load(folder / "rows.npy", mmap_mode="r")


def zarr_array(folder: Path) -> Any:
    zarr = pytest.importorskip("zarr")
    return zarr.open_group(folder / "rows.zarr", mode="w").create_array(
        "x", data=VALUES, chunks=(100, 2)
    )


def dask_array(_: Path) -> Any:
    return pytest.importorskip("dask.array").from_array(VALUES, chunks=(100, 2))


def xarray_array(_: Path) -> Any:
    import xarray

    return xarray.DataArray(VALUES, dims=("row", "column"))


def data_frame(_: Path) -> Any:
    import pandas

    # rows are counted by their places, whatever the index says
    return pandas.DataFrame(VALUES, columns=NAMES, index=np.arange(len(VALUES))[::-1])


def arrow_table() -> Any:
    pyarrow = pytest.importorskip("pyarrow")
    return pyarrow.table({name: VALUES[:, i] for i, name in enumerate(NAMES)})


def parquet_files(folder: Path) -> Any:
    """Two files, each of parts of 100 rows."""
    table = arrow_table()
    write = importlib.import_module("pyarrow.parquet").write_table
    os.mkdir(folder / "files")
    write(table.slice(0, 250), folder / "files" / "0.parquet", row_group_size=100)
    write(table.slice(250), folder / "files" / "1.parquet", row_group_size=100)
    return pmf.ArrowRows(folder / "files", NAMES)


def filtered_dataset(_: Path) -> Any:
    """Rows that a filter leaves: those that are not of two other ones."""
    table = arrow_table()
    dataset = importlib.import_module("pyarrow.dataset")
    both = importlib.import_module("pyarrow").concat_tables([table, table.slice(0, 2)])
    kept = np.append(np.ones(len(VALUES), bool), [False, False])
    marked = dataset.dataset(both.append_column("kept", [kept]))
    return pmf.ArrowRows(marked.filter(dataset.field("kept")), NAMES)


SOURCES: dict[str, Callable[[Path], Any]] = {
    "NumPy": lambda _: VALUES,
    "list": lambda _: VALUES.tolist(),
    "memory map": memory_map,
    "Zarr": zarr_array,
    "Dask": dask_array,
    "xarray": xarray_array,
    "data frame": data_frame,
    "Arrow": lambda _: pmf.ArrowRows(arrow_table(), NAMES),
    "Parquet": parquet_files,
    "filtered": filtered_dataset,
    "of mine": lambda _: OfMine(),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_each_source_gives_the_same_rows(source: Callable[[Path], Any], tmp_path: Path) -> None:
    rows = as_rows("x", source(tmp_path))
    assert rows.shape == VALUES.shape
    assert rows.dtype == VALUES.dtype
    np.testing.assert_array_equal(rows.take(PLACES), VALUES[PLACES])
    # a few after the others, as passes over chosen rows take them, and back again
    for places in (*np.array_split(np.arange(0, len(VALUES), 3), 9), np.array([5, 120, 700])):
        np.testing.assert_array_equal(rows.take(places), VALUES[places])
    for size in (64, 1_000, 5_000):
        blocks = list(rows.blocks(size))
        assert {len(block) for block in blocks[:-1]} <= {size}
        np.testing.assert_array_equal(np.concatenate(blocks), VALUES)


def test_one_column_by_its_name_makes_numbers() -> None:
    rows = pmf.ArrowRows(arrow_table(), "b")
    assert rows.shape == (len(VALUES),)
    np.testing.assert_array_equal(rows.take(PLACES), VALUES[PLACES, 1])


def test_columns_of_several_types_share_one() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"whole": [1, 2], "real": [0.5, 1.5]})
    assert pmf.ArrowRows(table, "whole").dtype == np.int64
    np.testing.assert_array_equal(
        pmf.ArrowRows(table, ["whole", "real"]).take(np.array([1])), [[2.0, 1.5]]
    )


class TestRefusals:
    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (3, "must be an array with a row of data in each row.*but is of type int"),
            (np.array(3.0), r"its shape is \(\)"),
            (np.array(["a", "b"]), "dtype <U1. Encode strings"),
        ],
    )
    def test_what_is_no_rows(self, value: Any, message: str) -> None:
        with pytest.raises(ParameterError, match=message):
            as_rows("x", value)

    def test_of_arrow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pyarrow = pytest.importorskip("pyarrow")
        table = pyarrow.table({"a": [1.0, None], "word": ["x", "y"]})
        with pytest.raises(ParameterError, match=r"no column 'b'. Its columns are a, word"):
            pmf.ArrowRows(table, "b")
        with pytest.raises(ParameterError, match="at least one column"):
            pmf.ArrowRows(table, [])
        with pytest.raises(ParameterError, match=r"'word' must be of numbers, but is of .* string"):
            pmf.ArrowRows(table, "word")
        with pytest.raises(ParameterError, match=r"'a' has missing values. Leave these rows out"):
            pmf.ArrowRows(table, "a").take(np.array([0]))
        with pytest.raises(ParameterError, match=r"no file or folder 'nowhere.parquet'"):
            pmf.ArrowRows("nowhere.parquet", "a")
        monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
        with pytest.raises(BackendError, match=r"pip install 'pmflow\[arrow\]'"):
            pmf.ArrowRows("nowhere.parquet", "a")


class TestAhead:
    def test_the_next_item_is_got_while_one_is_in_use(self) -> None:
        made = [threading.Event() for _ in range(3)]

        def items() -> Iterator[int]:
            for i, event in enumerate(made):
                event.set()
                yield i

        found = []
        for item in ahead(items()):
            if item + 1 < len(made):
                assert made[item + 1].wait(10)
            found.append(item)
        assert found == [0, 1, 2]

    def test_errors_come_where_the_item_would_have(self) -> None:
        def items() -> Iterator[int]:
            yield 0
            raise OSError("the disk is gone")

        found = ahead(items())
        assert next(found) == 0
        with pytest.raises(OSError, match="the disk is gone"):
            next(found)
