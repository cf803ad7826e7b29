"""How much more has to be seen until noise does not decide a verdict."""

from __future__ import annotations

import numpy as np
import pytest

from pmflow.judging.nested import is_open, times_as_many
from pmflow.judging.report import with_error

LIMIT = 0.1


def moved(shift: float, error: float) -> np.ndarray:
    return np.array([[shift, 0.0], [error, 0.001], [0.0, 0.0], [0.001, 0.001]])


@pytest.mark.parametrize(("shift", "error"), [(0.05, 0.05), (-0.02, 0.2), (0.08, 0.03)])
def test_errors_fall_with_the_root_of_what_is_seen(shift: float, error: float) -> None:
    times = times_as_many(moved(shift, error), LIMIT)
    assert is_open(moved(shift, error), LIMIT)
    assert is_open(moved(shift, error / (0.95 * times) ** 0.5), LIMIT)
    assert not is_open(moved(shift, error / (1.05 * times) ** 0.5), LIMIT)


def test_what_is_decided_needs_no_more() -> None:
    assert times_as_many(moved(0.02, 0.01), LIMIT) == 1.0


def test_an_estimate_at_the_limit_is_itself_noise() -> None:
    assert times_as_many(moved(0.0999, 0.05), LIMIT) < 1_000


def test_of_huge_numbers_digits_say_nothing() -> None:
    assert with_error(-4.0965293927e10, 0.03) == "-4.1e+10 ± 0.03"
    assert with_error(2.0, 3e71) == "2 ± 3e+71"
    assert with_error(-1234.5678, 0.02) == "-1,234.568 ± 0.020"
