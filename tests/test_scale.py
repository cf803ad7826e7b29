"""Memory of large fits, each in a process of its own."""

from __future__ import annotations

import sys

import pytest
from benchmarks.scale import measure_dim, measure_rows

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="RssAnon is known on Linux alone")

MATRIX = 10_000**2 * 8 / 2**20
"""Of so many dimensions squared, in MiB."""


def test_rows_on_disk_are_fitted_in_constant_memory() -> None:
    few, many = (measure_rows(rows, "set_data") for rows in (50_000, 3_000_000))
    growth = (many["peak"] - many["before"]) - (few["peak"] - few["before"])
    assert growth < 6  # MiB; the larger file has 23
    assert many["mean"] == pytest.approx(2.0, abs=0.2)


@pytest.mark.parametrize("formula", ["scale-loc", "lowrank[rank=10]-loc"])
def test_memory_is_linear_in_the_dimension(formula: str) -> None:
    found = measure_dim(formula, 10_000)
    assert found["peak"] - found["before"] < MATRIX / 4
