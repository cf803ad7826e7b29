"""The rules of the benchmark of honesty, on some of its cases."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow

honesty: Any = import_module("benchmarks.honesty")

SOME = 6
"""One case of so many: all of them are run by ``python -m tests.benchmarks.honesty``."""


def chosen() -> list[Any]:
    rng = np.random.default_rng(1)  # other covariances than those of the benchmark
    return [case for family in honesty.FAMILIES.values() for case in list(family(rng))[1::SOME]]


@pytest.fixture(scope="module")
def verdicts() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"good": [], "between": [], "bad": []}
    for seed, case in enumerate(chosen(), 1_000):
        verdict = honesty.run(case, seed)["verdict"]
        found[case.quality].append(f"{verdict}: {case.family}, {case.name}")
    return found


def test_no_bad_fit_is_called_reliable(verdicts: dict[str, list[str]]) -> None:
    assert len(verdicts["bad"]) >= 25
    assert [line for line in verdicts["bad"] if line.startswith("reliable")] == []


def test_good_fits_are_not_called_not_reliable(verdicts: dict[str, list[str]]) -> None:
    wrong = [line for line in verdicts["good"] if line.startswith("not reliable")]
    assert len(verdicts["good"]) >= 15
    assert len(wrong) < 0.05 * len(verdicts["good"])


def test_most_good_fits_are_called_reliable(verdicts: dict[str, list[str]]) -> None:
    right = [line for line in verdicts["good"] if line.startswith("reliable")]
    assert len(right) > 0.9 * len(verdicts["good"])
