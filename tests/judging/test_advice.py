"""Advice: true for what was fitted, and every piece of it a line that runs as printed."""

from __future__ import annotations

import ast
import inspect
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from typing import Any
from unittest import mock

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
import xarray as xr
from models import gaussian
from pymc.variational.inference import KLqp
from some import some
from test_diagnostics import normal_fit, standard

import pmflow as pmf
from pmflow.errors import FitWarning
from pmflow.flows import StudentT
from pmflow.ladder import climb
from pmflow.ladder.rungs import RUNGS, FlowRung, GaussianRung
from pmflow.starts.agreement import starts_agreement
from pmflow.training.schedule_state import ScheduleSettings

QUICK: dict[str, Any] = {"progressbar": False, "compile_kwargs": {"mode": "FAST_COMPILE"}}
CORRELATED = gaussian([0.0, 0.0], [[1.0, 0.9], [0.9, 1.0]])


def bananas() -> pm.Model:
    """A bent normal: no Gaussian is near it."""
    with pm.Model() as model:
        x = pm.Normal("x")
        pm.Normal("y", 2 * x**2, 0.5)
    return model


def bumps() -> pm.Model:
    """Two modes with heavy tails."""

    def bump(x: Any, at: float) -> Any:
        return -2.5 * pt.log1p(((x - at) ** 2).sum() / 3)

    with pm.Model() as model:
        x = pm.Flat("x", shape=2)
        pm.Potential("two", pt.logaddexp(bump(x, -12.0) - 0.4, bump(x, 12.0)))
    return model


def skewed() -> pm.Model:
    """Log of a gamma variable: a tail that no Gaussian has."""
    with pm.Model() as model:
        pm.Gamma("g", 1.0, 2.0)
    return model


BANANA, BUMPS, SKEWED = bananas(), bumps(), skewed()


def trained(formula: str, model: pm.Model, steps: int = 3, **kwargs: Any) -> pmf.Approximation:
    return pmf.NFVI(formula, model=model, random_seed=1, **kwargs).fit(steps, **QUICK)


def interrupted() -> pmf.Approximation:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    return pmf.NFVI("scale-loc", model=CORRELATED, random_seed=1).fit(9, callbacks=[stop], **QUICK)


def climbed(model: pm.Model, restarts: int = 1) -> pmf.Approximation:
    """By the ladder, which a callback ends in its second rung."""

    def stop(*_: Any) -> None:
        raise StopIteration

    networks = tuple(r for r in RUNGS if isinstance(r, GaussianRung | FlowRung))
    short = (networks[0], FlowRung("spline[hidden=0]-sinh-scale-loc", most=1), *networks[1:])
    with mock.patch.object(climb, "RUNGS", short):
        return pmf.fit(model=model, random_seed=1, restarts=restarts, callbacks=[stop], **QUICK)


def stacked() -> pmf.Approximation:
    inference = pmf.NFVI("scale-loc", model=BUMPS, random_seed=1, frame="gaussian")
    return inference.fit(3, restarts=6, combine="stack", **QUICK)


def one_of_two() -> pmf.Approximation:
    """A fit of one mode, that knows of the other by its starts."""
    one, other = (normal_fit(BUMPS, at, 1) for at in (12.0, -12.0))
    starts = starts_agreement([fit.sample(1_000, random_seed=1) for fit in (one, other)])
    one.receive(replace(one.report, starts=starts))
    return one


def groups(first: str, second: str) -> pmf.Approximation:
    with BANANA:
        made = [pmf.Group([BANANA["x"]], first, random_seed=1), pmf.Group(None, second)]
        return pmf.Approximation(made)


def of_pymc(family: str, model: pm.Model) -> pmf.Approximation:
    return pmf.Approximation([pmf.Group(None, family, random_seed=1, model=model)], model=model)


def by_pymc() -> pmf.Approximation:
    approx = pmf.NormalizingFlow("scale-loc", model=CORRELATED, random_seed=1)
    return KLqp(approx).fit(2, progressbar=False)


def fixed() -> pmf.Approximation:
    params = {0: {"rho": np.zeros(2)}, 1: {"loc": np.zeros(2)}}
    group = pmf.Group(None, "scale-loc", params=params, model=CORRELATED)
    return pmf.Approximation([group], model=CORRELATED)


def nowhere() -> pm.Model:
    with pm.Model() as model:
        x = pm.Normal("x")
        pm.Potential("nowhere", pt.switch(x < 1e9, -np.inf, 0.0))
    return model


def half_lost() -> pm.Model:
    with pm.Model() as model:
        x = pm.Normal("x")
        pm.Potential("positive", pt.switch(x < -1, -np.inf, 0.0))
    return model


class OwnBase(StudentT):
    """A base that no text names."""


FRAME = pmf.Frame(np.zeros(2), np.ones(2))
SPREAD = gaussian([0.0] * 301, np.diag(np.linspace(0.2, 3, 301)).tolist())

FITS: dict[str, Callable[[], pmf.Approximation]] = {
    "spline of each": partial(trained, "spline[hidden=0]-scale-loc", CORRELATED),
    "mean field": partial(trained, "scale-loc", CORRELATED),
    "full rank": partial(trained, "tril-loc", BANANA),
    "planar": partial(trained, "planar*2", BANANA),
    "in a frame": partial(trained, "scale-loc", BANANA, frame="gaussian"),
    "bent in a frame": partial(trained, "coupling-loc", BANANA, frame="laplace"),
    "in a frame of its own": partial(trained, "scale-loc", BANANA, frame=FRAME),
    "student t": partial(trained, "scale-loc", BANANA, base="student_t[df=3]"),
    "a base of its own": partial(trained, "tril-loc", BANANA, base=OwnBase()),
    "one dimension": partial(normal_fit, standard(), 0.0, 0.3),
    "interrupted": interrupted,
    "by fit": partial(climbed, SKEWED),
    "by fit, several modes": partial(climbed, BUMPS, 4),
    "stacked": stacked,
    "one mode of two": one_of_two,
    "groups": partial(groups, "planar", "scale-loc"),
    "groups with a family of PyMC": partial(groups, "planar", "mf"),
    "mean field of PyMC": partial(of_pymc, "mf", CORRELATED),
    "full rank of PyMC": partial(of_pymc, "fr", BANANA),
    "trained by PyMC": by_pymc,
    "nothing to train": fixed,
    "no density": partial(pmf.NormalizingFlow, "scale-loc", model=nowhere()),
    "density in part": partial(normal_fit, half_lost(), 0.0, 1.0),
    "reliable": partial(normal_fit, standard(), 0.0, 1.0),
    "usable": partial(normal_fit, standard(), 0.3, 1.0),
    "many dimensions": partial(trained, "scale-loc", SPREAD),
}


@pytest.fixture(autouse=True)
def short_training(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The session of a user in a hurry: no machine code, and fits that soon give up."""
    hurried = ScheduleSettings(rates=(0.01,), trial=5, window=20, most_windows=3, stages=1)
    monkeypatch.setattr(ScheduleSettings.__init__, "__defaults__", tuple(vars(hurried).values()))
    monkeypatch.setattr("pmflow.ladder.rungs._SCHEDULE", hurried)
    # as if JAX were not there, which takes seconds to compile a flow
    monkeypatch.setattr("pmflow.ladder.backend.has_jax", lambda: False)
    monkeypatch.setattr(pmf, "sample", partial(_called_as_it_may_be, inspect.signature(pmf.sample)))
    with (
        pytensor.config.change_flags(mode="FAST_COMPILE", cxx=""),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", FitWarning)
        # more draws than the diagnosis had may see a heavier tail, and say so
        warnings.filterwarnings("ignore", "k-hat is", UserWarning)
        yield


def _called_as_it_may_be(signature: inspect.Signature, *args: Any, **kwargs: Any) -> xr.DataTree:
    """NUTS, but for its minutes: the arguments are those that it has."""
    assert {*kwargs} <= {*signature.parameters}
    signature.bind(*args, **kwargs)
    return xr.DataTree()


@cache
def fit_of(kind: str) -> pmf.Approximation:
    return FITS[kind]()


@cache
def found_of(kind: str) -> pmf.Diagnosis:
    return pmf.diagnose(fit_of(kind), 2_000, random_seed=1)


_RUN: set[str] = set()


def has_run(line: str) -> bool:
    """Whether another fit was given the same line, which does not name the fit."""
    if "approx" in line.partition("=")[2] or line not in _RUN:
        _RUN.add(line)
        return False
    return True


def code_of(kind: str) -> str:
    return "\n".join(found_of(kind).code)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FITS)
def test_every_piece_of_advice_runs_as_printed(kind: str) -> None:
    found = found_of(kind)
    approx = FITS[kind]()  # one of its own: what is advised may train it further
    for line in found.code:
        assert line in str(found)
        if has_run(line):
            continue
        names = {"pmf": pmf, "pm": pm, "model": approx.model, "approx": approx}
        exec(line, names)
        (statement,) = ast.parse(line).body
        if isinstance(statement, ast.Assign):
            (target,) = statement.targets
            assert isinstance(target, ast.Name)
            made = names[target.id]
            assert isinstance(made, pmf.Approximation if target.id == "approx" else xr.DataTree)
            assert made is not approx or line == "approx = pmf.NFVI(approx).fit()"


def by_kind(cases: dict[str, Any], number: int) -> list[Any]:
    """Kinds of fits, with what is wanted of each; the first few are quick tests."""
    return some({kind: (kind, case) for kind, case in cases.items()}, number)


FACTS: dict[str, dict[str, Any]] = {
    "mean field": {"correlated": False, "bent": False, "frame": None, "by": "NFVI"},
    "full rank": {"correlated": True, "bent": False, "families": ("tril-loc",)},
    "spline of each": {"correlated": False, "bent": True},
    "in a frame": {"correlated": True, "bent": False, "frame": "gaussian"},
    "in a frame of its own": {"correlated": False, "frame": "given"},
    "student t": {"base": "student_t[df=3.0]"},
    "a base of its own": {"base": None},
    "by fit": {"by": "fit", "frame": "gaussian", "correlated": True},
    "by fit, several modes": {"by": "fit", "stacked": True},
    "stacked": {"by": "NFVI", "stacked": True},
    "groups with a family of PyMC": {"families": ("planar", "mean_field"), "correlated": False},
    "full rank of PyMC": {"families": ("full_rank",), "correlated": True, "by": ""},
    "trained by PyMC": {"by": "pymc", "ended": None},
    "nothing to train": {"trained": False},
    "one dimension": {"dim": 1},
}


@pytest.mark.parametrize(("kind", "facts"), by_kind(FACTS, 4))
def test_a_fit_says_what_it_is(kind: str, facts: dict[str, Any]) -> None:
    found = fit_of(kind).facts
    assert {name: getattr(found, name) for name in facts} == facts


SAID: dict[str, tuple[str, ...]] = {
    "mean field": ('NFVI("tril-loc", model=model)', 'frame="gaussian"', "NFVI(approx).fit()"),
    "many dimensions": ("lowrank[rank=10]-loc", "NFVI(approx).fit()"),
    "full rank": ("coupling*2-tril-loc",),
    "planar": ("coupling*2-planar*2", 'frame="gaussian"'),
    "spline of each": ("spline[hidden=0]-scale-loc-tril-loc",),
    "in a frame": ('"coupling*2-scale-loc", model=model, frame="gaussian"',),
    "bent in a frame": ('"coupling*2-coupling-loc", model=model, frame="laplace"',),
    "in a frame of its own": ("frame=approx.groups[0].frame",),
    "student t": ('"tril-loc", model=model, base="student_t[df=3.0]"',),
    "a base of its own": ("base=approx.groups[0].base",),
    "one dimension": ("spline*2-scale-loc", 'base="student_t"', "restarts=8"),
    "interrupted": ("NFVI(approx).fit()",),
    "by fit": ("spline*2-", 'frame="gaussian"', "restarts=8"),
    "by fit, several modes": ("coupling[hidden=64]*2-", "pmf.sample(approx)"),
    "stacked": (),
    "one mode of two": ('restarts=8, combine="stack"',),
    "groups": ('NFVI("tril-loc", model=model)', "pmf.fit(model=model)"),
    "mean field of PyMC": ('NFVI("tril-loc"',),
    "full rank of PyMC": ("coupling*2-tril-loc",),
    "no density": ("model.point_logps()",),
    "density in part": ("model.point_logps()",),
    "reliable": ('"scale-loc", model=model).fit(restarts=8, combine="stack")',),
    "usable": ("pmf.importance_resample(approx, 1_000)",),
}


@pytest.mark.parametrize(("kind", "lines"), by_kind(SAID, 4))
def test_advice_is_what_the_fit_lacks(kind: str, lines: tuple[str, ...]) -> None:
    for line in lines:
        assert line in code_of(kind)


NEVER: dict[str, tuple[str, ...]] = {
    "in a frame": ("tril", "laplace"),
    "bent in a frame": ("tril", "gaussian"),
    "full rank": ("frame",),
    "by fit": ("tril", "laplace", "pmf.fit(model=model)"),
    "stacked": ("NFVI(approx)",),
    "one dimension": ("tril", "coupling", "frame"),
    "nothing to train": ("NFVI(approx)",),
    "many dimensions": ("tril", "frame", "pmf.fit("),
    "reliable": ("importance_resample", "sample"),
    "usable": ("pmf.sample",),
}


@pytest.mark.parametrize(("kind", "lines"), by_kind(NEVER, 3))
def test_nothing_is_advised_that_is_there_or_can_not_be(kind: str, lines: tuple[str, ...]) -> None:
    for line in lines:
        assert line not in code_of(kind)


@pytest.mark.parametrize("kind", some([*FITS], 4))
def test_no_line_is_advised_twice(kind: str) -> None:
    code = found_of(kind).code
    assert len({*code}) == len(code)
    assert "inference" not in "".join(code)


@pytest.mark.slow
def test_a_ladder_that_was_interrupted_is_to_be_climbed_again() -> None:
    approx = fit_of("by fit")
    report = approx.report
    assert report.fit_state is not None
    broken_off = replace(report.fit_state, ended="interrupted")
    try:
        approx.receive(replace(report, fit_state=broken_off))
        found = pmf.diagnose(approx, random_seed=1)
    finally:
        approx.receive(report)
    assert found.code[0] == "approx = pmf.fit(model=model)"
