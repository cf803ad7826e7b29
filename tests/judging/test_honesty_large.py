"""The rule of the benchmark of honesty for large models, on some of its fits."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

pytestmark = pytest.mark.slow

honesty: Any = import_module("benchmarks.honesty_large.runs")

SOME = {
    "poisson, 100 groups, 4 each, scale 1.0",
    "walk, 100 steps of 0.3",
}
"""All of them are run by ``python -m tests.benchmarks.honesty_large``."""


@pytest.fixture(scope="module")
def found() -> list[dict[str, Any]]:
    runs = []
    for name in SOME:
        build, arguments = honesty.PROBLEMS[name]
        exact = build(*arguments)
        runs += [
            {"fit": f"{name}: {what}", **honesty.run(exact, made, 500)}
            for what, made in honesty.fits(exact, 2)  # another seed than that of the benchmark
        ]
    return runs


def test_no_bad_fit_is_called_reliable(found: list[dict[str, Any]]) -> None:
    bad = [one for one in found if one["quality"] == "bad"]
    assert len(bad) >= 10
    assert [one["fit"] for one in bad if one["verdict"] == "reliable"] == []


def test_what_is_fitted_is_good_and_called_so(found: list[dict[str, Any]]) -> None:
    fits = [one for one in found if one["fit"].endswith("embedded Laplace, as it is")]
    assert len(fits) == len(SOME)
    assert {one["quality"] for one in fits} == {"good"}
    assert {one["verdict"] for one in fits} == {"reliable"}
