"""Frames that are none: what they say, before anything is compiled."""

# wrong types are the subject
# mypy: disable-error-code="misc, assignment, arg-type, call-overload"

from __future__ import annotations

import numpy as np
import pytest
from wrong import INF, NAN, Rows, check

import pmflow as pmf
from pmflow.errors import ParameterError

ROWS = Rows()
add, add_all = ROWS.add, ROWS.add_all

add_all(
    "Frame loc",
    {"number": 0.0, "2-D": np.zeros((2, 2)), "empty": [], "longer": np.zeros(3)},
    lambda w, v: pmf.Frame(v, np.ones(2)),
    ParameterError,
    "loc of shape (dim,)",
    "shapes",
)
add_all(
    "Frame factor",
    {"number": 1.0, "3-D": np.ones((2, 2, 2)), "not square": np.ones((2, 3)), "empty": []},
    lambda w, v: pmf.Frame(np.zeros(2), v),
    ParameterError,
    "factor of shape (dim, dim) or (dim,)",
)
add_all(
    "Frame loc",
    {"text": ["a", "b"], "ragged": [[1.0], [1.0, 2.0]], "complex": [1j, 0]},
    lambda w, v: pmf.Frame(v, np.ones(2)),
    ParameterError,
    "A frame needs numbers",
)
add_all(
    "Frame factor",
    {
        "nan": [NAN, 1.0],
        "inf": [INF, 1.0],
        "zero": [0.0, 1.0],
        "negative": [-1.0, 1.0],
        "negative diagonal": [[1.0, 0.0], [0.5, -1.0]],
    },
    lambda w, v: pmf.Frame(np.zeros(2), v),
    ParameterError,
    "finite numbers",
    "positive diagonal",
)
add_all(
    "Frame factor",
    {"upper": [[1.0, 0.5], [0.0, 1.0]], "full": [[1.0, 0.5], [0.5, 1.0]]},
    lambda w, v: pmf.Frame(np.zeros(2), v),
    ParameterError,
    "lower triangular",
)


@pytest.mark.parametrize("name", ROWS.table)
def test_what_is_wrong_is_said_before_anything_is_compiled(name: str) -> None:
    check(ROWS.table[name])
