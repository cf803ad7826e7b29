"""Wrong arguments of pmflow.fit: what they say, before anything is compiled."""

# wrong types are the subject
# mypy: disable-error-code="misc, assignment, arg-type, call-overload"

from __future__ import annotations

import numpy as np
import pytest
from wrong import FAST, NO_COUNT, NO_MODEL, NO_SEED, Rows, check

import pmflow as pmf
from pmflow.errors import FormulaError, MethodError, ParameterError

ROWS = Rows()
add, add_all = ROWS.add, ROWS.add_all

add_all(
    "pmf.fit n",
    NO_COUNT,
    lambda w, v: pmf.fit(v, model=w.other, random_seed=1, **FAST),
    ParameterError,
    "n must be an integer >= 0",
)
add_all(
    "pmf.fit method",
    {"5": 5, "class": pmf.NFVI, "list": ["nfvi"]},
    lambda w, v: pmf.fit(5, method=v, model=w.other, **FAST),
    ParameterError,
    "method must be 'auto', 'nfvi'",
)
add_all(
    "pmf.fit method",
    {"unknown": "nuts", "near": "nvfi", "empty": "", "near with formula": "nvfi=loc"},
    lambda w, v: pmf.fit(5, method=v, model=w.other, **FAST),
    ParameterError,
    "method must be",
    "advi",
)
add_all(
    "pmf.fit method formula",
    {"empty": "nfvi=", "unknown": "nfvi=nope", "two": "nfvi=loc=loc", "hanging": "nfvi=loc-"},
    lambda w, v: pmf.fit(5, method=v, model=w.other, **FAST),
    FormulaError,
)
add(
    "pmf.fit formula twice",
    lambda w: pmf.fit(5, "nfvi=loc", w.other, inf_kwargs={"flow": "scale"}, **FAST),
    ParameterError,
    "given twice",
    "Leave one out",
)
for option, value in {"random_seed": 1, "start": {}, "model": None}.items():
    add(
        f"pmf.fit of an inference with {option}",
        lambda w, option=option, value=value: pmf.fit(
            5, w.inference, **{option: w.other if option == "model" else value}, **FAST
        ),
        ParameterError,
        f"{option} can't be honoured",
    )
add_all(
    "pmf.fit inf_kwargs",
    {"list": [1], "text": "jitter"},
    lambda w, v: pmf.fit(5, model=w.other, inf_kwargs=v, **FAST),
    ParameterError,
    "inf_kwargs must be a dict",
)
add_all(
    "pmf.fit inf_kwargs",
    {"unknown": {"nope": 1}, "near": {"jiter": 1.0}},
    lambda w, v: pmf.fit(5, model=w.other, inf_kwargs=v, **FAST),
    ParameterError,
    "inf_kwargs",
    "jitter",
)
add_all(
    "pmf.fit start_sigma",
    {
        "list": [1],
        "unknown": {"nope": 1},
        "zero": {"x": 0},
        "nan": {"x": np.nan},
        "text": {"x": "a"},
    },
    lambda w, v: pmf.fit(5, model=w.model, start_sigma=v, **FAST),
    ParameterError,
    "start_sigma",
)
add(
    "pmf.fit start_sigma and a frame",
    lambda w: pmf.fit(
        5, model=w.model, start_sigma={"x": 1}, inf_kwargs={"frame": "laplace"}, **FAST
    ),
    ParameterError,
    "frame can't be honoured",
)
add(
    "pmf.fit start_sigma of what chooses it",
    lambda w: pmf.fit(model=w.model, start_sigma={"x": 1}, **FAST),
    ParameterError,
    "start_sigma can't be honoured",
)
add("pmf.fit method", lambda w: pmf.fit(5, "nope", w.model, **FAST), MethodError, "'nope'")
add("pmf.fit method as PyMC", lambda w: pmf.fit(5, "nope", w.model, **FAST), KeyError, "'nope'")
add_all(
    "pmf.fit random_seed",
    NO_SEED,
    lambda w, v: pmf.fit(5, model=w.other, random_seed=v, **FAST),
    ParameterError,
    "random_seed",
)
add_all("pmf.fit model", NO_MODEL, lambda w, v: pmf.fit(5, model=v), ParameterError, "pm.Model")
add("pmf.fit without a model", lambda w: pmf.fit(5, **FAST), ParameterError, "model=")
WRONG = {"n": 2.5, "obj_n_mc": 0, "chunk_draws": 0, "estimator": "nope", "qmc": "yes"}
for option, value in WRONG.items():
    # wrong arguments of `fit` are found before the approximation is made
    add(
        f"pmf.fit {option}={value!r} before anything is made",
        lambda w, option=option, value=value: pmf.fit(
            **{"n": 5, "model": w.other, **FAST, option: value}
        ),
        ParameterError,
        option,
    )


@pytest.mark.parametrize("name", ROWS.table)
def test_what_is_wrong_is_said_before_anything_is_compiled(name: str) -> None:
    check(ROWS.table[name])
