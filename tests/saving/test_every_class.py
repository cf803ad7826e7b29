"""Every class of approximations survives a file, a pickle and a copy, with all that it knows."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pymc as pm
import pytest
from models import gaussian
from some import some

import pmflow as pmf
from pmflow.errors import FitWarning
from pmflow.posterior.symmetry import Move, closed
from pmflow.records import State

PYTHON: dict[str, Any] = {"compile_kwargs": {"mode": "FAST_COMPILE"}, "progressbar": False}


@cache
def two_modes() -> pm.Model:
    with pm.Model(coords={"axis": ["a", "b"]}) as model:
        pm.Mixture("x", [0.5, 0.5], [pm.Normal.dist(-6, 0.5), pm.Normal.dist(6, 0.6)])
        pm.Normal("y", 1.0, 2.0, dims="axis")
    return model


@cache
def groups() -> pmf.Approximation:
    with gaussian([0.0, 1.0], [[2.0, -1.0], [-1.0, 3.0]]) as model:
        pm.Normal("other")
        approx = pmf.Approximation(
            [pmf.Group([model["z"]], "planar", random_seed=1), pmf.Group(None, "mf", random_seed=2)]
        )
    return pmf.NFVI(approx).fit(5, **PYTHON)


@cache
def flow() -> pmf.Approximation:
    inference = pmf.NFVI("scale-loc", model=two_modes(), random_seed=3, frame="gaussian", jitter=0)
    return inference.fit(0, restarts=4, **PYTHON)


@cache
def stack() -> pmf.Approximation:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        return pmf.fit(model=two_modes(), random_seed=3, progressbar=False)


@cache
def resampled() -> pmf.Approximation:
    made = flow()
    found = pmf.diagnose(made, random_seed=1)
    return pmf.Resampled(made, found.log_evidence, found.ess, made.report)


def symmetrized() -> pmf.Approximation:
    made = flow()
    turned = Move(np.arange(made.ddim), -np.ones(made.ddim))
    return pmf.Symmetrized(made, closed(np.full(made.ddim, -1), [turned]), made.report)


@cache
def embedded() -> pmf.EmbeddedLaplace:
    with pm.Model() as model:
        tau = pm.HalfNormal("tau", 1.0)
        u = pm.Normal("u", 0.0, tau, shape=41)
        pm.Normal("y", u, 1.0, observed=np.random.default_rng(1).normal(0.0, 1.4, 41))
    made = pmf.fit(model=model, random_seed=3, progressbar=False)
    assert isinstance(made, pmf.EmbeddedLaplace)
    return made


@cache
def sparse() -> pmf.SparseGaussian:
    with pm.Model() as model:
        x = pm.GaussianRandomWalk("x", 0.0, 0.5, init_dist=pm.Normal.dist(), shape=41)
        pm.Poisson("y", pm.math.exp(x), observed=np.random.default_rng(1).poisson(2.0, 41))
    made = pmf.fit(model=model, random_seed=3, progressbar=False)
    assert isinstance(made, pmf.SparseGaussian)
    return made


MADE: dict[type[Any], Callable[[], pmf.Approximation]] = {
    pmf.Approximation: groups,
    pmf.NormalizingFlow: flow,
    pmf.Stack: stack,
    pmf.Resampled: resampled,
    pmf.Symmetrized: symmetrized,
    pmf.EmbeddedLaplace: embedded,
    pmf.SparseGaussian: sparse,
}


def classes(of: type[Any] = pmf.Approximation) -> Iterator[type[Any]]:
    yield of
    for below in of.__subclasses__():
        if below.__module__.startswith("pmflow."):
            yield from classes(below)


def reload(approx: pmf.Approximation, folder: Path) -> pmf.Approximation:
    approx.save(folder / "fit.safetensors")
    return pmf.load(folder / "fit.safetensors", approx.model)


WAYS: dict[str, Callable[[Any, Path], Any]] = {
    "file": reload,
    "pickle": lambda approx, _: pickle.loads(pickle.dumps(approx)),
    "cloudpickle": lambda approx, _: cloudpickle.loads(cloudpickle.dumps(approx)),
    "deepcopy": lambda approx, _: copy.deepcopy(approx),
}


def assert_same(one: Any, other: Any) -> None:
    """Two states, field by field."""
    assert type(one) is type(other)
    if isinstance(one, State):
        for f in fields(one):  # type: ignore[arg-type]
            assert_same(getattr(one, f.name), getattr(other, f.name))
    elif isinstance(one, tuple):
        assert len(one) == len(other)
        for mine, yours in zip(one, other, strict=True):
            assert_same(mine, yours)
    elif isinstance(one, dict):
        assert_same(tuple(one.items()), tuple(other.items()))
    elif isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other)
    else:
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_every_class_has_a_case() -> None:
    assert set(classes()) == set(MADE)
    for kind, make in MADE.items():
        assert type(make()) is kind


def test_the_cases_have_something_to_lose() -> None:
    assert len(groups().hist) == 5
    starts = flow().starts
    assert starts is not None
    assert len(starts.elbo) == len(flow().report.points) == 4
    assert stack().diagnosis is not None
    assert len(stack().ladder.rungs) >= 1
    np.testing.assert_allclose(stack().weights, 0.5, atol=0.02)


@pytest.mark.parametrize("way", some([*WAYS], 1))
@pytest.mark.parametrize("kind", MADE, ids=lambda kind: kind.__name__)
def test_it_comes_back_as_it_was(kind: type[Any], way: str, tmp_path: Path) -> None:
    approx: Any = MADE[kind]()
    other: Any = WAYS[way](approx, tmp_path)
    assert type(other).__name__ == kind.__name__
    assert isinstance(other, kind)
    assert_same(other.to_state(), approx.to_state())
    both: list[Any] = [approx, other]
    draws, again = (a.sample(200, random_seed=4)["posterior"].to_dataset() for a in both)
    assert draws.equals(again)
    points = np.random.default_rng(0).normal(size=(5, approx.ddim))
    np.testing.assert_array_equal(other.log_prob(points), approx.log_prob(points))
    assert str(other.diagnosis) == str(approx.diagnosis)
    assert str(other.ladder) == str(approx.ladder)


@pytest.mark.parametrize("way", some([*WAYS], 1))
def test_a_stack_keeps_all_of_its_modes(way: str, tmp_path: Path) -> None:
    other = WAYS[way](stack(), tmp_path)
    x = other.sample(1_000, random_seed=1)["posterior"]["x"].values
    assert (x > 0).mean() == pytest.approx(0.5, abs=0.02)


def test_a_stack_stays_as_it_is_when_its_flow_is_trained_further() -> None:
    inference = pmf.NFVI("scale-loc", model=two_modes(), random_seed=3, frame="gaussian", jitter=0)
    made = inference.fit(0, restarts=4, combine="stack", **PYTHON)
    assert isinstance(made, pmf.Stack)
    before = made.sample(50, random_seed=1)["posterior"]["x"].values
    inference.fit(20, obj_optimizer=pm.sgd(learning_rate=0.5), **PYTHON)
    np.testing.assert_array_equal(made.sample(50, random_seed=1)["posterior"]["x"].values, before)


@pytest.mark.slow
def test_threads_may_draw_from_one_stack() -> None:
    made = copy.deepcopy(stack())  # nothing is compiled yet

    def draw(seed: int) -> np.ndarray:
        return np.asarray(made.sample(300, random_seed=seed)["posterior"]["x"].values)

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(draw, range(8)))
    for seed, drawn in enumerate(together):
        np.testing.assert_array_equal(drawn, draw(seed))
