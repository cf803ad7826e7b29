"""Wrong arguments of Tracker: what they say, before anything is compiled."""

# wrong types are the subject
# mypy: disable-error-code="misc, assignment, arg-type, call-overload"

from __future__ import annotations

import pytest
from wrong import NO_FLAG, NOT_POSITIVE, Rows, check

import pmflow as pmf
from pmflow.errors import ParameterError

ROWS = Rows()
add, add_all = ROWS.add, ROWS.add_all

add_all(
    "Tracker inference",
    {"5": 5, "text": "vi", "approximation": None},
    lambda w, v: pmf.Tracker(w.approx if v is None else v),
    ParameterError,
    "inference must be an NFVI",
)
add_all(
    "Tracker every",
    NOT_POSITIVE,
    lambda w, v: pmf.Tracker(w.inference, every=v),
    ParameterError,
    "every must be an integer >= 1",
)
add_all(
    "Tracker gradients",
    NO_FLAG,
    lambda w, v: pmf.Tracker(w.inference, gradients=v),
    ParameterError,
    "gradients must be True or False",
)
add_all(
    "Tracker statistic",
    {"5": 5, "text": "loss", "None": None},
    lambda w, v: pmf.Tracker(w.inference, loss=v),
    ParameterError,
    "'loss' must be callable",
    "lambda",
)
add(
    "Tracker statistic with the name of a parameter",
    lambda w: pmf.Tracker(w.inference, loc_1=lambda: 0),
    ParameterError,
    "has the name of a parameter",
    "Choose another",
)
add("Tracker unknown", lambda w: pmf.Tracker(w.begun)["nope"], KeyError, "not tracked", "loc_1")


@pytest.mark.parametrize("name", ROWS.table)
def test_what_is_wrong_is_said_before_anything_is_compiled(name: str) -> None:
    check(ROWS.table[name])
