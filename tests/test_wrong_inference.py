"""Wrong arguments of NFVI, NormalizingFlow, NFVI.fit and refine."""

# wrong types are the subject
# mypy: disable-error-code="misc, assignment, arg-type, call-overload"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytest
from wrong import (
    FAST,
    INF,
    NAN,
    NO_COUNT,
    NO_FLAG,
    NO_FORMULA,
    NO_MODEL,
    NO_SEED,
    NOT_POSITIVE,
    Rows,
    World,
    check,
)

import pmflow as pmf
from pmflow.errors import BackendError, FormulaError, NotContinuousError, ParameterError

ROWS = Rows()
add, add_all = ROWS.add, ROWS.add_all

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
for text in ("lowrank[rank=4]-loc", "loc-sylvester[m=4]"):
    add(
        f"NFVI of {text} in 3 dimensions",
        lambda w, text=text: pmf.NFVI(text, model=w.model),
        ParameterError,
        "must be at most 3 here",
        "but is 4",
        compiles=True,
    )


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


@pytest.mark.parametrize("name", ROWS.table)
def test_what_is_wrong_is_said_before_anything_is_compiled(name: str) -> None:
    check(ROWS.table[name])
