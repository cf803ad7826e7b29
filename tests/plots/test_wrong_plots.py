"""Wrong arguments of plots: what they say, before anything is compiled."""

# wrong types are the subject
# mypy: disable-error-code="misc, assignment, arg-type, call-overload"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr
from wrong import INF, NAN, NOT_POSITIVE, Rows, check

import pmflow as pmf
from pmflow.errors import ParameterError

ROWS = Rows()
add, add_all = ROWS.add, ROWS.add_all

t = pmf.targets
p = pmf.plots
add_all(
    "plot_loss hist",
    {"empty": [], "nan": [NAN, NAN], "2-D": np.zeros((3, 2)), "text": "abc", "None": None},
    lambda w, v: p.plot_loss(v),
    ParameterError,
    "hist",
)
add_all(
    "plot_loss window",
    NOT_POSITIVE,
    lambda w, v: p.plot_loss(np.arange(9.0), window=v),
    ParameterError,
    "window must be an integer >= 1",
)
add_all(
    "plot_loss log_evidence",
    {"'a'": "a", "nan": NAN, "list": [1.0], "True": True},
    lambda w, v: p.plot_loss(np.arange(9.0), log_evidence=v),
    ParameterError,
    "log_evidence must be a finite number",
)
AXES: dict[str, Any] = {"5": 5, "text": "ax", "list of text": ["ax"]}
PLOTS: dict[str, Callable[..., Any]] = {
    "plot_loss": lambda w, **k: p.plot_loss(np.arange(9.0), **k),
    "plot_density": lambda w, **k: p.plot_density(t.potential_1, **k),
    "plot_comparison": lambda w, **k: p.plot_comparison(t.potential_1, draws={"a": w.points}, **k),
    "plot_layers": lambda w, **k: p.plot_layers([w.points, w.points], **k),
    "plot_marginals": lambda w, **k: p.plot_marginals(w.draws, w.draws, **k),
    "plot_tracker": lambda w, **k: p.plot_tracker(w.trace, **k),
}
for name, plot in PLOTS.items():
    add_all(
        f"{name} axes",
        AXES | {"too many": list(range(99)), "none": []},
        lambda w, v, plot=plot: plot(w, axes=v),
        ParameterError,
        "axes must be",
    )
    add_all(
        f"{name} figsize",
        {"5": 5, "text": "big", "three": (1, 2, 3), "zero": (0, 4), "nan": (NAN, 4)},
        lambda w, v, plot=plot: plot(w, figsize=v),
        ParameterError,
        "figsize must be (width, height)",
    )
for name, density in {"plot_density": p.plot_density, "plot_comparison": p.plot_comparison}.items():
    good: dict[str, Any] = {"draws": {"a": np.zeros((5, 2))}} if "comparison" in name else {}
    add_all(
        f"{name} log_density",
        {"5": 5, "text": "potential_1", "None": None},
        lambda w, v, density=density, good=good: density(v, ((-1, 1), (-1, 1)), **good),
        ParameterError,
        "log_density must be a callable",
    )
    add_all(
        f"{name} log_density",
        {
            "wrong shape": lambda z: z,
            "a number": lambda z: 0.0,
        },
        lambda w, v, density=density, good=good: density(v, ((-1, 1), (-1, 1)), **good),
        ParameterError,
        "log densities of shape",
    )
    add_all(
        f"{name} log_density",
        {"nan": lambda z: np.full(len(z), NAN), "-inf": lambda z: np.full(len(z), -INF)},
        lambda w, v, density=density, good=good: density(v, ((-1, 1), (-1, 1)), **good),
        ParameterError,
        "finite somewhere",
    )
    add_all(
        f"{name} bounds",
        {
            "5": 5,
            "pair": (0, 1),
            "upside down": ((1, 0), (0, 1)),
            "flat": ((0, 0), (0, 1)),
            "nan": ((NAN, 1), (0, 1)),
            "text": "window",
            "ragged": ((0, 1), (0,)),
        },
        lambda w, v, density=density, good=good: density(t.potential_1.log_density, v, **good),
        ParameterError,
        "bounds must be ((low, high), (low, high))",
    )
    add(
        f"{name} without bounds",
        lambda w, density=density, good=good: density(t.potential_1.log_density, **good),
        ParameterError,
        "bounds must be",
        "missing",
    )
NO_POINTS: dict[str, Any] = {
    "1-D": np.zeros(5),
    "3-D": np.zeros((2, 5, 2)),
    "three columns": np.zeros((5, 3)),
    "empty": np.zeros((0, 2)),
    "text": "abc",
    "ragged": [[1.0], [1.0, 2.0]],
    "nan": np.full((5, 2), NAN),
}
add_all(
    "plot_density draws",
    NO_POINTS,
    lambda w, v: p.plot_density(t.potential_1, draws=v),
    ParameterError,
    "draws must",
)
add_all(
    "plot_comparison draws",
    {f"a: {label}": {"a": value} for label, value in NO_POINTS.items()},
    lambda w, v: p.plot_comparison(t.potential_1, draws=v),
    ParameterError,
    "draws",
    "must",
)
add_all(
    "plot_comparison draws",
    {"array": np.zeros((5, 2)), "5": 5, "empty": {}, "list": [np.zeros((5, 2))]},
    lambda w, v: p.plot_comparison(t.potential_1, draws=v),
    ParameterError,
    "draws must",
)
add_all(
    "plot_layers layers",
    {
        "empty": [],
        "5": 5,
        "text": "abc",
        "1-D": [np.zeros(5)],
        "other dims": [np.zeros((5, 2)), np.zeros((5, 3))],
        "other draws": [np.zeros((5, 2)), np.zeros((6, 2))],
        "nan": [np.full((5, 2), NAN)],
    },
    lambda w, v: p.plot_layers(v),
    ParameterError,
    "layers",
)
add_all(
    "plot_layers labels",
    {"too few": ["a"], "too many": ["a", "b", "c"], "5": 5, "text": "ab"},
    lambda w, v: p.plot_layers([w.points, w.points], labels=v),
    ParameterError,
    "labels must be",
)
add_all(
    "plot_layers coords",
    {
        "5": 5,
        "one": (0,),
        "three": (0, 1, 1),
        "out of range": (0, 2),
        "negative": (-1, 0),
        "text": ("a", "b"),
        "bools": (False, True),
        "fractions": (0.5, 1),
    },
    lambda w, v: p.plot_layers([w.points], coords=v),
    ParameterError,
    "coords must be two of 0 to 1",
)
add_all(
    "plot_layers bounds",
    {"5": 5, "upside down": ((1, 0), (0, 1)), "nan": ((NAN, 1), (0, 1)), "text": "window"},
    lambda w, v: p.plot_layers([w.points], bounds=v),
    ParameterError,
    "bounds must be ((low, high), (low, high))",
)
for place in ("idata", "reference"):
    add_all(
        f"plot_marginals {place}",
        {"5": 5, "None": None, "dict": {}, "empty": xr.Dataset()},
        lambda w, v, place=place: p.plot_marginals(
            **{"idata": w.draws, "reference": w.draws, place: v}
        ),
        ParameterError,
        place,
    )
add_all(
    "plot_marginals var_names",
    {"unknown": ["nope"], "text": "nope", "empty": [], "5": 5},
    lambda w, v: p.plot_marginals(w.draws, w.draws, v),
    ParameterError,
)
add_all(
    "plot_marginals names",
    {"5": 5, "one": ("flow",), "three": ("a", "b", "c"), "text": "flow"},
    lambda w, v: p.plot_marginals(w.draws, w.draws, names=v),
    ParameterError,
    "names must be two",
)
add_all(
    "plot_tracker dataset",
    {"5": 5, "None": None, "empty": xr.Dataset(), "dict": {}},
    lambda w, v: p.plot_tracker(v),
    ParameterError,
    "dataset",
)
add(
    "plot_tracker of a tracker",
    lambda w: p.plot_tracker(w.tracker if w.trace is not None else None),
    ParameterError,
    "to_dataset()",
)
add_all(
    "plot_tracker var_names",
    {"unknown": ["nope"], "text": "nope", "empty": [], "5": 5},
    lambda w, v: p.plot_tracker(w.trace, v),
    ParameterError,
)


@pytest.mark.parametrize("name", ROWS.table)
def test_what_is_wrong_is_said_before_anything_is_compiled(name: str) -> None:
    check(ROWS.table[name])
