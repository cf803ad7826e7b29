"""Wrong arguments of drawing and of densities: what they say, before anything is compiled."""

# wrong types are the subject
# mypy: disable-error-code="misc, assignment, arg-type, call-overload"

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from wrong import NO_FLAG, NO_SEED, NOT_POSITIVE, Rows, World, check

from pmflow.errors import ParameterError

ROWS = Rows()
add, add_all = ROWS.add, ROWS.add_all

for kind in ("approx", "mixed", "begun"):

    def approx_of(w: World, kind: str = kind) -> Any:
        return w.begun.approx if kind == "begun" else getattr(w, kind)

    add_all(
        f"sample {kind} draws",
        NOT_POSITIVE | {"None": None},
        lambda w, v, of=approx_of: of(w).sample(v),
        ParameterError,
        "draws must be an integer >= 1",
    )
    add_all(
        f"sample {kind} random_seed",
        NO_SEED,
        lambda w, v, of=approx_of: of(w).sample(5, random_seed=v),
        ParameterError,
        "random_seed",
    )
add_all(
    "sample return_inferencedata",
    NO_FLAG,
    lambda w, v: w.approx.sample(5, return_inferencedata=v),
    ParameterError,
    "return_inferencedata must be True or False",
)
add_all(
    "sample include_transformed",
    NO_FLAG,
    lambda w, v: w.approx.sample(5, include_transformed=v),
    ParameterError,
    "include_transformed must be True or False",
)
add_all(
    "sample progressbar",
    NO_FLAG,
    lambda w, v: w.approx.sample(5, progressbar=v),
    ParameterError,
    "progressbar must be True or False",
)
add_all(
    "sample_layers draws",
    NOT_POSITIVE | {"None": None},
    lambda w, v: w.approx.sample_layers(v),
    ParameterError,
    "draws must be an integer >= 1",
)
add_all(
    "sample_layers random_seed",
    NO_SEED,
    lambda w, v: w.approx.sample_layers(5, random_seed=v),
    ParameterError,
    "random_seed",
)
for kind in ("approx", "mixed"):
    add_all(
        f"log_prob of {kind} z",
        {
            "number": 0.0,
            "too short": np.zeros(2),
            "too long": np.zeros((5, 4)),
            "3-D": np.zeros((2, 5, 3)),
            "no column": np.zeros((5, 0)),
        },
        lambda w, v, kind=kind: getattr(w, kind).log_prob(v),
        ParameterError,
        "z must have shape (n, 3)",
        "shape (",
    )
    add_all(
        f"log_prob of {kind} z",
        {"text": "abc", "None": None, "ragged": [[1.0], [1.0, 2.0]], "complex": [1j, 0, 0]},
        lambda w, v, kind=kind: getattr(w, kind).log_prob(v),
        ParameterError,
        "z must be",
        "numbers",
    )


@pytest.mark.parametrize("name", ROWS.table)
def test_what_is_wrong_is_said_before_anything_is_compiled(name: str) -> None:
    check(ROWS.table[name])
