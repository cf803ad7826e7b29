"""Wrong arguments of targets: what they say, before anything is compiled."""

# wrong types are the subject
# mypy: disable-error-code="misc, assignment, arg-type, call-overload"

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from wrong import INF, NAN, NOT_POSITIVE, Rows, check

import pmflow as pmf
from pmflow.errors import ParameterError

ROWS = Rows()
add, add_all = ROWS.add, ROWS.add_all

t = pmf.targets
for maker in (t.funnel, t.banana, t.ill_conditioned, t.student_t):
    least = 1 if maker is t.student_t else 2
    add_all(
        f"{maker.__name__} dim",
        NOT_POSITIVE | ({"1": 1} if least == 2 else {}) | {"None": None},
        lambda w, v, maker=maker: maker(v),
        ParameterError,
        f"dim must be an integer >= {least}",
    )
NO_NUMBER: dict[str, Any] = {"nan": NAN, "inf": INF, "'a'": "a", "True": True, "None": None}
add_all(
    "banana bend",
    NO_NUMBER,
    lambda w, v: t.banana(bend=v),
    ParameterError,
    "bend must be a finite number",
)
add_all(
    "ill_conditioned condition",
    NO_NUMBER | {"0.5": 0.5, "-1": -1},
    lambda w, v: t.ill_conditioned(condition=v),
    ParameterError,
    "condition must be a",
    ">= 1",
)
add_all(
    "student_t df",
    NO_NUMBER | {"0": 0, "-1": -1.0},
    lambda w, v: t.student_t(df=v),
    ParameterError,
    "df must be a",
)
add_all(
    "many_modes modes",
    NOT_POSITIVE,
    lambda w, v: t.many_modes(v),
    ParameterError,
    "modes must be an integer >= 1",
)
for maker in (t.ill_conditioned, t.many_modes):
    add_all(
        f"{maker.__name__} seed",
        {"-1": -1, "1.5": 1.5, "'a'": "a", "True": True},
        lambda w, v, maker=maker: maker(seed=v),
        ParameterError,
        "seed must be an integer >= 0",
    )
add_all(
    "Target.log_density z",
    {"number": 0.0, "short": [0.0], "long": np.zeros(3), "text": "a", "None": None},
    lambda w, v: t.potential_1.log_density(v),
    ParameterError,
    "z must",
    "(*batch, 2)",
)


@pytest.mark.parametrize("name", ROWS.table)
def test_what_is_wrong_is_said_before_anything_is_compiled(name: str) -> None:
    check(ROWS.table[name])
