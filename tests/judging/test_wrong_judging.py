"""Wrong arguments of diagnose, importance_resample and compare."""

# wrong types are the subject
# mypy: disable-error-code="misc, assignment, arg-type, call-overload"

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from wrong import NAN, NO_SEED, NOT_POSITIVE, Rows, World, check

import pmflow as pmf
from pmflow.errors import ParameterError, UnsupportedError

ROWS = Rows()
add, add_all = ROWS.add, ROWS.add_all

FEW: dict[str, Any] = {"-1": -1, "0": 0, "1": 1, "2.5": 2.5, "True": True, "'5'": "5", "nan": NAN}
add_all(
    "diagnose draws",
    FEW,
    lambda w, v: pmf.diagnose(w.approx, draws=v),
    ParameterError,
    "draws must be an integer >=",
)
add_all(
    "importance_resample draws",
    NOT_POSITIVE,
    lambda w, v: pmf.importance_resample(w.approx, v),
    ParameterError,
    "draws must be an integer >= 1",
)
add_all(
    "importance_resample candidates",
    FEW | {"too few": 100},
    lambda w, v: pmf.importance_resample(w.approx, 500, candidates=v),
    ParameterError,
    "candidates must be an integer >= 500",
)
for function in (pmf.diagnose, pmf.importance_resample):
    name = function.__name__
    add_all(
        f"{name} of",
        {"5": 5, "None": None, "text": "approx"},
        lambda w, v, function=function: function(v),
        ParameterError,
        "needs an approximation",
        "NFVI(...).fit",
    )
    add(
        f"{name} of an inference",
        lambda w, function=function: function(w.inference),
        ParameterError,
        "needs an approximation",
        ".approx",
    )
    add(
        f"{name} of a model",
        lambda w, function=function: function(w.model),
        ParameterError,
        "needs an approximation",
    )
    add(
        f"{name} of minibatches",
        lambda w, function=function: function(w.batched),
        UnsupportedError,
        "rows",
        "potential",
        "total_size=<number of rows>",
    )
    add(
        f"{name} of PyMC's approximation",
        lambda w, function=function: function(w.advi),
        UnsupportedError,
        "MeanField",
        "nfvi=scale-loc",
    )
    add_all(
        f"{name} random_seed",
        NO_SEED,
        lambda w, v, function=function: function(w.approx, random_seed=v),
        ParameterError,
        "random_seed",
    )

for place in ("idata", "reference"):

    def compared(w: World, value: Any, place: str = place) -> Any:
        return pmf.compare(**{"idata": w.draws, "reference": w.draws, place: value})

    add_all(
        f"compare {place}",
        {"5": 5, "None": None, "dict": {}, "array": np.zeros(5)},
        compared,
        ParameterError,
        f"{place} must be a DataTree or a Dataset",
        "approx.sample()",
    )
    add_all(
        f"compare {place}",
        {"empty": xr.Dataset(), "no draws": xr.Dataset({"x": ("place", [1.0, 2.0])})},
        compared,
        ParameterError,
        f"{place} must have the dimensions chain and draw",
    )
    add(
        f"compare {place} without posterior",
        lambda w, compared=compared: compared(w, xr.DataTree.from_dict({"prior": w.draws})),
        ParameterError,
        "group 'posterior'",
        "prior",
    )
    add(
        f"compare {place} of one draw",
        lambda w, compared=compared: compared(w, w.draws.isel(chain=[0], draw=[0])),
        ParameterError,
        "at least 2 draws",
        "has 1",
    )
    add(
        f"compare {place} with nan",
        lambda w, compared=compared: compared(w, w.draws.where(w.draws["s"] > 0)),
        ParameterError,
        "finite",
    )
    add(
        f"compare {place} of text",
        lambda w, compared=compared: compared(w, w.draws.astype(str)),
        ParameterError,
        "numbers",
    )
    add(
        f"compare {place} of another shape",
        lambda w, compared=compared: compared(w, w.draws.isel(place=[0])),
        ParameterError,
        "'x'",
    )
    add(
        f"compare {place} of other variables",
        lambda w, compared=compared: compared(w, w.draws.rename(x="a", s="b")),
        ParameterError,
        "in common",
    )
add_all(
    "compare var_names",
    {"unknown": ["nope"], "text": "nope", "near": ["X"], "number": [5]},
    lambda w, v: pmf.compare(w.draws, w.draws, v),
    ParameterError,
    "is not a variable of both",
    "x, s",
)
add_all(
    "compare var_names",
    {"empty": []},
    lambda w, v: pmf.compare(w.draws, w.draws, v),
    ParameterError,
    "at least one variable",
)
add_all(
    "compare var_names",
    {"5": 5},
    lambda w, v: pmf.compare(w.draws, w.draws, v),
    ParameterError,
    "var_names must be",
)


@pytest.mark.parametrize("name", ROWS.table)
def test_what_is_wrong_is_said_before_anything_is_compiled(name: str) -> None:
    check(ROWS.table[name])
