"""What goes wrong on the way in: every public argument, given wrongly, in one table.

A row is a call, the exception that it must raise, and words that the message must hold: what was
expected, what came, what to do. Unless a row says that it compiles, nothing may have been compiled
when the error comes: PyTensor's compiler is replaced by a failure.
"""

# wrong types are the subject
# mypy: disable-error-code="misc, assignment, arg-type, call-overload"

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytest
import xarray as xr

import pmflow as pmf
from pmflow.errors import (
    BackendError,
    FormulaError,
    LayerError,
    NotContinuousError,
    ParameterError,
    PmflowError,
    UnsupportedError,
)
from pmflow.flows import Householder
from pmflow.flows.catalogue import layer_class, options_of, words
from pmflow.training import trainer

FAST: dict[str, Any] = {"compile_kwargs": {"mode": "FAST_COMPILE"}, "progressbar": False}


class World:
    """Good objects, made when first needed, before the compiler is taken away."""

    @cached_property
    def model(self) -> pm.Model:
        """Two free variables, three numbers."""
        with pm.Model(coords={"place": ["a", "b"]}) as model:
            x = pm.Normal("x", dims="place")
            s = pm.HalfNormal("s")
            pm.Normal("y", x.sum(), s, observed=0.5)
        return model

    @cached_property
    def other(self) -> pm.Model:
        """A model of other variables."""
        with pm.Model() as model:
            pm.Normal("z", shape=2)
        return model

    @cached_property
    def line(self) -> pm.Model:
        """A model of one number."""
        with pm.Model() as model:
            pm.Normal("z")
        return model

    @cached_property
    def empty(self) -> pm.Model:
        """A model without free variables."""
        with pm.Model() as model:
            pm.Normal("y", observed=1.0)
        return model

    @cached_property
    def discrete(self) -> pm.Model:
        """A model with one discrete free variable."""
        with pm.Model() as model:
            pm.Normal("z")
            pm.Poisson("n", 2.0)
        return model

    @cached_property
    def minibatch(self) -> pm.Model:
        """A model of rows in minibatches."""
        with pm.Model() as model:
            mu = pm.Normal("mu")
            rows = pm.Minibatch(np.zeros(20), batch_size=5)
            pm.Normal("rows", mu, 1.0, observed=rows, total_size=20)
        return model

    @cached_property
    def approx(self) -> pmf.NormalizingFlow:
        return pmf.NormalizingFlow("scale-loc", model=self.model, random_seed=1)

    @cached_property
    def batched(self) -> pmf.NormalizingFlow:
        return pmf.NormalizingFlow("scale-loc", model=self.minibatch, random_seed=1)

    @cached_property
    def mixed(self) -> pmf.Approximation:
        groups = [
            pmf.Group([self.model["x"]], "mf", model=self.model, random_seed=1),
            pmf.Group(None, "scale-loc", model=self.model, random_seed=1),
        ]
        return pmf.Approximation(groups)

    @cached_property
    def advi(self) -> Any:
        """PyMC's own approximation."""
        return pm.MeanField(model=self.model, random_seed=1)

    @cached_property
    def choosing(self) -> pmf.NFVI:
        """With a base whose gradient needs independent draws."""
        return pmf.NFVI("scale-loc", model=self.model, base="mixture", random_seed=1)

    @cached_property
    def inference(self) -> pmf.NFVI:
        return pmf.NFVI(self.approx)

    @cached_property
    def fixed(self) -> pmf.NFVI:
        """Without anything to train."""
        group = pmf.Group(None, params={0: {"loc": [0.0, 1.0, 2.0]}}, model=self.model)
        return pmf.NFVI(pmf.Approximation([group]))

    @cached_property
    def begun(self) -> pmf.NFVI:
        inference = pmf.NFVI("scale-loc", model=self.other, random_seed=1)
        self.tracker = pmf.Tracker(inference)
        inference.fit(2, callbacks=[self.tracker], **FAST)
        return inference

    @cached_property
    def trace(self) -> xr.Dataset:
        _ = self.begun
        return self.tracker.to_dataset()

    @cached_property
    def draws(self) -> xr.Dataset:
        rng = np.random.default_rng(1)
        arrays = {"x": (("chain", "draw", "place"), rng.normal(size=(2, 50, 2)))}
        arrays["s"] = (("chain", "draw"), rng.normal(size=(2, 50)))
        return xr.Dataset(arrays, coords={"place": ["a", "b"]})

    @cached_property
    def points(self) -> np.ndarray:
        return np.random.default_rng(1).normal(size=(50, 2))


type Call = Callable[[World], Any]


@dataclass
class Row:
    """A wrong call and what must come of it."""

    call: Call
    error: type[Exception]
    words: tuple[str, ...]
    compiles: bool = False


TABLE: dict[str, Row] = {}


def add(name: str, call: Call, error: type[Exception], *words: str, compiles: bool = False) -> None:
    """Add a row."""
    assert name not in TABLE, name
    TABLE[name] = Row(call, error, words, compiles)


def add_all(
    name: str,
    values: dict[str, Any],
    call: Callable[[World, Any], Any],
    error: type[Exception],
    *words: str,
    compiles: bool = False,
) -> None:
    """Add a row for each wrong value of an argument; the message must show the value."""
    for label, value in values.items():
        add(
            f"{name}={label}",
            lambda w, value=value: call(w, value),
            error,
            *words,
            compiles=compiles,
        )


NAN, INF = float("nan"), float("inf")
NO_COUNT: dict[str, Any] = {
    "-1": -1,
    "2.5": 2.5,
    "True": True,
    "'5'": "5",
    "nan": NAN,
    "[5]": [5],
    "array": np.array([5, 6]),
}
NOT_POSITIVE = NO_COUNT | {"0": 0}
NO_FLAG: dict[str, Any] = {"'no'": "no", "5": 5, "array": np.ones(2)}
NO_SEED: dict[str, Any] = {
    "-1": -1,
    "1.5": 1.5,
    "'a'": "a",
    "True": True,
    "2**32": 2**32,
    "[1, 2]": [1, 2],
    "{}": {},
}
NO_MODEL: dict[str, Any] = {"'m'": "m", "5": 5, "class": pm.Model}
NO_FORMULA: dict[str, Any] = {
    "5": 5,
    "None": None,
    "bytes": b"loc",
    "list": ["loc"],
    "empty": "",
    "blank": "  ",
    "unknown": "nope",
    "hanging": "scale-",
    "double": "scale--loc",
    "leading": "-loc",
    "zero": "loc*0",
    "negative": "loc*-2",
    "fraction": "loc*1.5",
    "huge": "loc*999999999",
    "open": "(loc",
    "closed": "loc)",
    "no such option": "loc[a=1]",
    "open option": "iaf[hidden=3",
    "unicode": "planar✻2",
    "NUL": "loc\x00",
}

# ---------------------------------------------------------------------------- Formula
for label, value in NO_FORMULA.items():
    add(f"Formula({label})", lambda w, v=value: pmf.Formula(v), FormulaError)
add("Formula: a suggestion", lambda w: pmf.Formula("plannar"), FormulaError, "Did you mean")
add("Formula: the list", lambda w: pmf.Formula("nope"), FormulaError, "The layers are: bnaf,")
MAY_BE_ZERO = ("lu seed", "perm seed", "poly degree", "spline hidden")
for word in sorted({layer_class(w).word for w in words()}):
    for name, option in options_of(layer_class(word)).items():
        wrong: dict[type, list[str]] = {
            int: ["1.5", "true", "tanh", "-1", *([] if f"{word} {name}" in MAY_BE_ZERO else ["0"])],
            float: ["true", "tanh", "-1", "0"],
            bool: ["5", "tanh"],
            str: ["5", "true", "nope"],
        }
        for bad in wrong[option.type]:
            text = f"{word}[{name}={bad}]"
            add(
                f"Formula({text})",
                lambda w, text=text: pmf.Formula(text),
                FormulaError,
                name,
                "ts options are",
            )
add("Formula: an option of inf", lambda w: pmf.Formula("spline[bound=1e999]"), FormulaError)

# ------------------------------------------------------- NFVI and NormalizingFlow alike
for maker in (pmf.NFVI, pmf.NormalizingFlow):
    name = maker.__name__

    def make(w: World, flow: Any = "scale-loc", maker: Any = maker, **kwargs: Any) -> Any:
        return maker(flow, **{"model": w.model, "random_seed": 1, **kwargs})

    def with_option(option: str, make: Any = make) -> Callable[[World, Any], Any]:
        return lambda w, bad: make(w, **{option: bad})

    for label, value in NO_FORMULA.items():
        add(f"{name}({label})", lambda w, v=value, make=make: make(w, v), FormulaError)
    add_all(f"{name} model", NO_MODEL, with_option("model"), ParameterError, "model", "pm.Model")
    add(
        f"{name} without a model",
        lambda w, maker=maker: maker("scale-loc"),
        ParameterError,
        "model",
        "with",
        "model=",
    )
    add(
        f"{name} of a model without free variables",
        lambda w, make=make: make(w, model=w.empty),
        ParameterError,
        "no free variables",
        "pm.sample_prior_predictive",
    )
    add(
        f"{name} of a discrete variable",
        lambda w, make=make: make(w, model=w.discrete),
        NotContinuousError,
        "continuous",
        "n is discrete",
        "Marginalize",
    )
    add_all(
        f"{name} random_seed", NO_SEED, with_option("random_seed"), ParameterError, "random_seed"
    )
    add_all(
        f"{name} start",
        {"list": [1.0], "number": 0.5, "text": "x"},
        with_option("start"),
        ParameterError,
        "start must be a dict",
    )
    add_all(
        f"{name} start",
        {"unknown": {"nope": 1.0}, "near": {"X": [1.0, 2.0]}, "int key": {0: 1.0}},
        with_option("start"),
        ParameterError,
        "is no free variable",
        "x, s",
    )
    add_all(
        f"{name} start",
        {"wrong shape": {"x": np.zeros(3)}, "2-D": {"x": np.zeros((2, 2))}},
        with_option("start"),
        ParameterError,
        "start must give 'x' the shape (2,)",
        compiles=True,
    )
    add_all(
        f"{name} start",
        {
            "x text": {"x": "a"},
            "x None": {"x": None},
            "x ragged": {"x": [[1.0], [1.0, 2.0]]},
            "complex": {"s": 1j},
            "bool": {"s": True},
        },
        with_option("start"),
        ParameterError,
        "start",
        "numbers",
    )
    add_all(
        f"{name} start",
        {"nan": {"x": NAN}, "inf": {"x": [0.0, INF]}},
        with_option("start"),
        ParameterError,
        "start",
        "'x'",
        "finite",
    )
    add_all(
        f"{name} start",
        {"border": {"s": 0.0}, "outside": {"s": -1.0}},
        with_option("start"),
        ParameterError,
        "'s' inside of its support",
        compiles=True,
    )
    add_all(
        f"{name} jitter",
        {"-1": -1, "nan": NAN, "inf": INF, "'a'": "a", "True": True, "[1]": [1.0]},
        with_option("jitter"),
        ParameterError,
        "jitter must be",
        ">= 0",
    )
    add_all(
        f"{name} base",
        {
            "5": 5,
            "empty": "",
            "unknown": "cauchy",
            "two": "normal-normal",
            "no such option": "normal[a=1]",
            "df=0": "student_t[df=0]",
            "df=-1": "student_t[df=-1]",
            "df=text": "student_t[df=a]",
            "trained=1": "student_t[trained=1]",
            "k=0": "mixture[k=0]",
            "k=1.5": "mixture[k=1.5]",
        },
        with_option("base"),
        FormulaError,
    )
    add_all(
        f"{name} frame",
        {"unknown": "nope", "5": 5, "True": True, "array": np.eye(3)},
        with_option("frame"),
        ParameterError,
        "frame must be one of 'laplace', 'pathfinder', 'gaussian'",
    )
    add(
        f"{name} frame of another dim",
        lambda w, make=make: make(w, frame=pmf.Frame(np.zeros(2), np.ones(2))),
        ParameterError,
        "The frame has 2 dimensions",
        "3",
        compiles=True,
    )

BETA = {"-1": -1.0, "nan": NAN, "inf": INF, "'a'": "a", "True": True, "None": None}
add_all(
    "NFVI beta",
    BETA,
    lambda w, v: pmf.NFVI("scale-loc", model=w.model, beta=v),
    ParameterError,
    "beta must be a",
    ">= 0",
)
for option, value in {
    "model": "other",
    "random_seed": 1,
    "start": {},
    "jitter": 0.1,
    "base": "normal",
    "frame": "laplace",
}.items():
    add(
        f"NFVI of an approximation with {option}",
        lambda w, option=option, value=value: pmf.NFVI(
            w.approx, **{option: w.other if option == "model" else value}
        ),
        ParameterError,
        f"{option} can't be honoured",
        "exists already",
    )

# each of them would take a terabyte, or a day, if anything of the size were made
for text in (
    *("iaf[hidden=1000000000]", "coupling[hidden=1000000000]*2", "naf[units=1000000000]"),
    *("spline[hidden=1000000000]", "bnaf[hidden=1000000000]", "(loc-maf[hidden=1000000])*90"),
):
    for maker in (pmf.NFVI, pmf.NormalizingFlow):
        add(
            f"{maker.__name__} of {text}",
            lambda w, text=text, maker=maker: maker(text, model=w.model, random_seed=1),
            ParameterError,
            "in 3 dimensions",
            "100,000,000 at most",
            compiles=True,  # PyMC evaluates the initial point when it counts the dimensions
        )
add(
    "NFVI of a mixture of many",
    lambda w: pmf.NFVI("loc", model=w.model, base="mixture[k=1000000000]"),
    ParameterError,
    "base 'mixture' would be 7,000,000,003 numbers",
    compiles=True,
)
for text, words_of in {
    "lowrank[rank=1000000]": ("rank must be at most 200", "got 1000000"),
    "sylvester[m=1000000]": ("m must be at most 100", "got 1000000"),
    "maf[depth=1000000]": ("depth must be from 1 to 50", "got 1000000"),
    "poly[degree=1000000]": ("degree must be from 0 to 10",),
    "poly[terms=1000000]": ("terms must be from 1 to 20",),
    "spline[bins=1000000]": ("bins must be from 2 to 500",),
}.items():
    add(f"Formula({text})", lambda w, t=text: pmf.Formula(t), FormulaError, "^^^", *words_of)
for text in ("lowrank[rank=4]-loc", "loc-sylvester[m=4]"):
    add(
        f"NFVI of {text} in 3 dimensions",
        lambda w, text=text: pmf.NFVI(text, model=w.model),
        ParameterError,
        "must be at most 3 here",
        "but is 4",
        compiles=True,
    )

# ------------------------------------------------------------------ Group, Approximation
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


# --------------------------------------------------------------------------- NFVI.fit
def fitting(option: str, **others: Any) -> Callable[[World, Any], Any]:
    return lambda w, value: w.inference.fit(**{"n": 5, **FAST, **others, option: value})


add_all("fit n", NO_COUNT, fitting("n"), ParameterError, "n must be an integer >= 0")
add_all("fit obj_n_mc", NOT_POSITIVE, fitting("obj_n_mc"), ParameterError, "integer >= 1")
add_all("fit chunk_draws", NOT_POSITIVE, fitting("chunk_draws"), ParameterError, "integer >= 1")
add(
    "fit chunk_draws that does not divide obj_n_mc",
    lambda w: w.inference.fit(5, obj_n_mc=100, chunk_draws=30, **FAST),
    ParameterError,
    "chunk_draws must divide obj_n_mc=100",
    "is 30",
    "chunk_draws=25 or 50",
)
add(
    "fit chunk_draws that does not divide the draws of a fit without n",
    lambda w: w.inference.fit(chunk_draws=30, **FAST),
    ParameterError,
    "obj_n_mc=64",
)
add_all("fit score", NO_FLAG, fitting("score"), ParameterError, "score must be True or False")
add_all("fit progressbar", NO_FLAG, fitting("progressbar"), ParameterError, "True or False")
add_all("fit include_transformed", NO_FLAG, fitting("include_transformed"), ParameterError, "True")
add_all("fit qmc", NO_FLAG, fitting("qmc"), ParameterError, "qmc must be True or False")
add_all(
    "fit estimator",
    {"unknown": "score", "5": 5, "True": True, "list": ["path"]},
    fitting("estimator"),
    ParameterError,
    "estimator must be one of total, path",
)
add_all(
    "fit backend",
    {"unknown": "torch", "5": 5, "list": ["numba"]},
    fitting("backend", compile_kwargs=None),
    BackendError,
    "backend must be one of numba, c, jax",
)
add_all(
    "fit compile_kwargs",
    {"text": "FAST_COMPILE", "list": [1], "5": 5},
    fitting("compile_kwargs"),
    ParameterError,
    "compile_kwargs must be a dict",
)
add_all(
    "fit compile_kwargs",
    {"unknown": {"mod": "FAST_COMPILE"}},
    fitting("compile_kwargs"),
    ParameterError,
    "'mod'",
    "mode",
)
add_all(
    "fit compile_kwargs mode",
    {"unknown": {"mode": "NOPE"}, "5": {"mode": 5}},
    fitting("compile_kwargs"),
    ParameterError,
    "mode",
    "FAST_COMPILE",
)
add(
    "fit backend and mode",
    lambda w: w.inference.fit(5, backend="numba", compile_kwargs={"mode": "JAX"}),
    ParameterError,
    "say the same",
    "only one",
)
add_all(
    "fit total_grad_norm_constraint",
    {"0": 0, "-1": -1.0, "nan": NAN, "'a'": "a", "True": True, "list": [1.0]},
    fitting("total_grad_norm_constraint"),
    ParameterError,
    "total_grad_norm_constraint must be a positive number",
)
add_all(
    "fit obj_optimizer",
    {"text": "adam", "number": 0.01, "dict": {}},
    fitting("obj_optimizer"),
    ParameterError,
    "obj_optimizer must be callable",
    "pm.adam(learning_rate=0.01)",
)
add_all(
    "fit learning rate",
    {label: pm.adam(learning_rate=v) for label, v in {"-1": -1.0, "nan": NAN, "inf": INF}.items()},
    fitting("obj_optimizer"),
    ParameterError,
    "learning_rate",
    ">= 0",
)
add_all(
    "fit callbacks",
    {"5": 5, "function": print, "text": "tracker", "tracker": {}},
    fitting("callbacks"),
    ParameterError,
    "callbacks must be a list",
)
add_all(
    "fit callbacks",
    {"[5]": [5], "[text]": ["tracker"], "[None]": [None]},
    fitting("callbacks"),
    ParameterError,
    "callbacks must be callable, but one is",
)
add(
    "fit a tracker of another inference",
    lambda w: w.inference.fit(5, callbacks=[pmf.Tracker(w.begun)], **FAST),
    ParameterError,
    "belongs to another inference",
    "pmflow.Tracker(inference)",
)
add_all(
    "fit unknown option",
    {"learning_rate": 0.1},
    lambda w, v: w.inference.fit(5, learning_rate=v, **FAST),
    ParameterError,
    "learning_rate",
    "obj_optimizer",
)
add(
    "fit misspelt option",
    lambda w: w.inference.fit(5, obj_nmc=3, **FAST),
    ParameterError,
    "obj_nmc",
    "Did you mean 'obj_n_mc'",
)
for option in ("more_updates", "more_replacements"):
    add_all(
        f"fit {option}",
        {"5": 5, "list": [1]},
        fitting(option),
        ParameterError,
        f"{option} must be a dict",
    )
add_all(
    "fit more_updates of what is not shared",
    {"text": {"a": 1}, "5": {5: 1}},
    fitting("more_updates"),
    ParameterError,
    "shared variable",
)
add_all(
    "fit more_obj_params",
    {"5": 5, "text": ["a"]},
    fitting("more_obj_params"),
    ParameterError,
    "more_obj_params must be a list of shared variables",
)
add(
    "fit estimator='path' of PyMC's family",
    lambda w: pmf.NFVI(w.mixed).fit(5, estimator="path", **FAST),
    ParameterError,
    "needs a flow for every group",
    "estimator='total'",
)
add(
    "fit qmc of a mixture",
    lambda w: w.choosing.fit(5, qmc=True, **FAST),
    ParameterError,
    "qmc=True is not for",
    "qmc=False",
)
add(
    "fit without anything to train",
    lambda w: w.fixed.fit(5, **FAST),
    ParameterError,
    "nothing to train",
    "pytensor.shared",
)
add_all(
    "refine n",
    NO_COUNT | {"None": None},
    lambda w, v: w.begun.refine(v, progressbar=False),
    ParameterError,
    "n must be an integer >= 0",
)
add_all(
    "refine progressbar",
    NO_FLAG,
    lambda w, v: w.begun.refine(1, progressbar=v),
    ParameterError,
    "progressbar must be True or False",
)
add(
    "refine before fit",
    lambda w: w.choosing.refine(5),
    ParameterError,
    "there was none",
    "call `fit` first",
)

# -------------------------------------------------------------------------------- fit
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

# ------------------------------------------------------------------------------ Tracker
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

# -------------------------------------------------------------- drawing and densities
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

# ------------------------------------------------------------------------- diagnosing
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
        "minibatches",
        "full_model",
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

# ------------------------------------------------------------------------------ compare
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

# ------------------------------------------------------------------------------- Frame
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

# ------------------------------------------------------------------------------ targets
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

# -------------------------------------------------------------------- flows and register
add_all(
    "register",
    {
        "5": 5,
        "instance": Householder(),
        "class": dict,
        "abstract": pmf.flows.AbstractLayer,
        "subclass without dataclass": type("Sub", (Householder,), {}),
        "taken word": dataclasses.make_dataclass(
            "Taken", [], bases=(Householder,), frozen=True, namespace={"word": "loc"}
        ),
        "no word": dataclasses.make_dataclass(
            "NoWord", [], bases=(Householder,), frozen=True, namespace={"word": "1 2"}
        ),
        "option without default": dataclasses.make_dataclass(
            "Bare",
            [("size", int)],
            bases=(Householder,),
            frozen=True,
            namespace={"word": "bare", "aliases": ()},
        ),
        "option of a list": dataclasses.make_dataclass(
            "Listed",
            [("sizes", tuple, ())],
            bases=(Householder,),
            frozen=True,
            namespace={"word": "listed", "aliases": ()},
        ),
    },
    lambda w, v: pmf.flows.register(v),
    LayerError,
)

# -------------------------------------------------------------------------------- plots
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


# ------------------------------------------------------------------------------- checks
@pytest.fixture(scope="module")
def world() -> World:
    world = World()
    for name in dir(World):
        if isinstance(getattr(World, name), cached_property):
            getattr(world, name)
    return world


class CompiledError(Exception):
    """Something was compiled."""


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise CompiledError

    def take_away(row: Row) -> None:
        monkeypatch.setattr(trainer, "compile_loop", refuse)  # no row begins to train
        if not row.compiles:
            monkeypatch.setattr(pytensor, "function", refuse)

    return take_away


@pytest.mark.parametrize("name", TABLE)
def test_what_is_wrong_is_said_before_anything_is_compiled(
    name: str, world: World, no_compiler: Callable[[Row], None]
) -> None:
    row = TABLE[name]
    no_compiler(row)
    with pytest.raises(row.error) as caught:
        row.call(world)
    message = str(caught.value)
    assert isinstance(caught.value, PmflowError | KeyError)
    assert [words for words in row.words if words not in message] == []
    assert len(message) < 2_000


@pytest.fixture(autouse=True)
def _no_figures() -> Iterator[None]:
    import matplotlib.pyplot as plt

    yield
    plt.close("all")
