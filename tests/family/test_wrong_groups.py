"""Wrong groups and approximations: what they say, before anything is compiled."""

# wrong types are the subject
# mypy: disable-error-code="misc, assignment, arg-type, call-overload"

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pymc.variational.opvi import ParametrizationError
from wrong import NAN, NO_MODEL, Call, Rows, World, check

import pmflow as pmf
from pmflow.errors import FormulaError, NotContinuousError, ParameterError

ROWS = Rows()
add, add_all = ROWS.add, ROWS.add_all

GROUPS: dict[str, tuple[Call, type[Exception], tuple[str, ...]]] = {
    "neither family nor params": (
        lambda w: pmf.Group(None, model=w.model),
        ParameterError,
        ("needs `vfam` or `params`",),
    ),
    "empty": (
        lambda w: pmf.Group([], "loc", model=w.model),
        ParameterError,
        ("empty list", "None"),
    ),
    "name": (
        lambda w: pmf.Group("x", "loc", model=w.model),
        ParameterError,
        ("got the name 'x'", "model['x']"),
    ),
    "names": (lambda w: pmf.Group(["x"], "loc", model=w.model), ParameterError, ("model['x']",)),
    "number": (
        lambda w: pmf.Group([5], "loc", model=w.model),
        ParameterError,
        ("no free variable of the model", "x, s"),
    ),
    "other model's variable": (
        lambda w: pmf.Group([w.other["z"]], "loc", model=w.model),
        ParameterError,
        ("'z' is no free variable of the model", "x, s"),
    ),
    "observed": (
        lambda w: pmf.Group([w.model["y"]], "loc", model=w.model),
        ParameterError,
        ("'y' is no free variable",),
    ),
    "twice": (
        lambda w: pmf.Group([w.model["x"], w.model["x"]], "loc", model=w.model),
        ParameterError,
        ("'x' stands twice",),
    ),
    "discrete": (
        lambda w: pmf.Group([w.discrete["n"]], "loc", model=w.discrete),
        NotContinuousError,
        ("n is discrete",),
    ),
    "discrete, as of PyMC": (
        lambda w: pmf.NFVI(model=w.discrete),
        ParametrizationError,
        ("n is discrete",),
    ),
    "family 5": (lambda w: pmf.Group(None, 5, model=w.model), FormulaError, ("int",)),
    "unknown family": (lambda w: pmf.Group(None, "nope", model=w.model), FormulaError, ("nope",)),
    "family and params": (
        lambda w: pmf.Group(None, "mf", params={"mu": np.zeros(3)}, model=w.model),
        ParameterError,
        ("both 'mf' and `params`", "Leave `vfam` out"),
    ),
    "no model": (lambda w: pmf.Group(None, "loc"), ParameterError, ("model=",)),
    "model 5": (lambda w: pmf.Group(None, "loc", model=5), ParameterError, ("pm.Model",)),
    "seed": (
        lambda w: pmf.Group(None, "loc", model=w.model, random_seed="a"),
        ParameterError,
        ("random_seed",),
    ),
    "unknown option": (
        lambda w: pmf.Group(None, "loc", model=w.model, jiter=0.1),
        ParameterError,
        ("jiter", "Did you mean 'jitter'", "start, jitter, base"),
    ),
    "frame of a part": (
        lambda w: pmf.Group([w.model["x"]], "loc", model=w.model, frame="laplace"),
        ParameterError,
        ("all free variables", "Leave out frame="),
    ),
    "params 5": (lambda w: pmf.Group(None, params=5, model=w.model), ParameterError, ("dict",)),
    "params {}": (lambda w: pmf.Group(None, params={}, model=w.model), ParameterError, ("dict",)),
    "params places": (
        lambda w: pmf.Group(None, params={1: {"loc": [0.0]}}, model=w.model),
        ParameterError,
        ("keys of params must be 0 to 0", "[1]"),
    ),
    "params of no layer": (
        lambda w: pmf.Group(None, params={0: {"nope": [0.0]}}, model=w.model),
        ParameterError,
        ("No layer has the parameters ['nope']",),
    ),
    "params layer 5": (
        lambda w: pmf.Group(None, params={0: 5}, model=w.model),
        ParameterError,
        ("params[0] must be a dict",),
    ),
    "params shape": (
        lambda w: pmf.Approximation([pmf.Group(None, params={0: {"loc": [0.0]}}, model=w.model)]),
        ParameterError,
        ("shape (3,)", "has shape (1,)"),
    ),
    "params text": (
        lambda w: pmf.Approximation(
            [pmf.Group(None, params={0: {"loc": ["a", "b", "c"]}}, model=w.model)]
        ),
        ParameterError,
        ("params[0]['loc']", "numbers"),
    ),
    "params nan": (
        lambda w: pmf.Approximation(
            [pmf.Group(None, params={0: {"loc": [0.0, NAN, 0.0]}}, model=w.model)]
        ),
        ParameterError,
        ("params[0]['loc']", "finite"),
    ),
    "params of another layer": (
        lambda w: pmf.Approximation(
            [pmf.Group(None, "scale", params={0: {"loc": np.zeros(3)}}, model=w.model)]
        ),
        ParameterError,
        ("params[0] must have the parameters of the layer 'scale'",),
    ),
}
for name, (call, error, expected) in GROUPS.items():
    # the length of the latent vector is known after PyMC has drawn an initial point
    compiles = name in ("frame of a part", *(n for n in GROUPS if n.startswith("params")))
    add(f"Group: {name}", call, error, *expected, compiles=compiles)


def x_and_rest(w: World, first: Any = None, rest: str | None = "loc") -> list[Any]:
    groups = [pmf.Group([w.model["x"]] if first is None else first, "loc", model=w.model)]
    return [*groups, *([pmf.Group(None, rest, model=w.model)] if rest else [])]


APPROXIMATIONS: dict[str, tuple[Call, tuple[str, ...]]] = {
    "no group": (lambda w: pmf.Approximation([], model=w.model), ("at least one", "pmflow.Group")),
    "no group, no model": (lambda w: pmf.Approximation([]), ("at least one",)),
    "a number": (lambda w: pmf.Approximation(5), ("list of", "pmflow.Group")),
    "a formula": (lambda w: pmf.Approximation(["loc"]), ("pmflow.Group", "'loc'")),
    "a variable is missing": (
        lambda w: pmf.Approximation(x_and_rest(w, rest=None)),
        ("No approximation is specified for the rest", "s", "Group(None"),
    ),
    "two groups for the rest": (
        lambda w: pmf.Approximation([*x_and_rest(w), pmf.Group(None, "loc", model=w.model)]),
        ("More than one group is specified for the rest",),
    ),
    "a variable in two groups": (
        lambda w: pmf.Approximation([*x_and_rest(w), *x_and_rest(w, rest=None)]),
        ("Found duplicates in groups", "x"),
    ),
    "groups of two models": (
        lambda w: pmf.Approximation([*x_and_rest(w), pmf.Group(None, "loc", model=w.other)]),
        ("one model",),
    ),
    "another model": (
        lambda w: pmf.Approximation(x_and_rest(w), model=w.other),
        ("model", "groups"),
    ),
    "nothing for a group of the rest": (
        lambda w: pmf.Approximation(
            [
                pmf.Group([w.model["x"], w.model["s"]], "loc", model=w.model),
                pmf.Group(None, "loc", model=w.model),
            ]
        ),
        ("no variables", "Leave"),
    ),
}
for name, (call, expected) in APPROXIMATIONS.items():
    add(f"Approximation: {name}", call, ParameterError, *expected, compiles="no g" not in name)
add_all(
    "Approximation model",
    NO_MODEL,
    lambda w, v: pmf.Approximation(w.approx.groups, model=v),
    ParameterError,
    "pm.Model",
)


@pytest.mark.parametrize("name", ROWS.table)
def test_what_is_wrong_is_said_before_anything_is_compiled(name: str) -> None:
    check(ROWS.table[name])
