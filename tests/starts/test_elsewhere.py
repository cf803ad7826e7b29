"""Fits from several starts that are made elsewhere are those that are made here."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import Any

import numpy as np
import pymc as pm
import pytest
from models import conjugate_normal
from workers import InPlace

import pmflow as pmf
from pmflow.errors import BackendError, NonFiniteError, ParameterError

FAST: dict[str, Any] = {
    **{"compile_kwargs": {"mode": "FAST_COMPILE"}, "progressbar": False, "n": 30},
    **{"obj_n_mc": 4, "restarts": 4, "combine": "stack"},
}


def two_modes() -> pm.Model:
    with pm.Model() as model:
        z = pm.Normal("z", 0, 3)
        pm.Potential("two", pm.math.logsumexp(-2 * (pm.math.stack([z - 2, z + 2]) ** 2)))
    return model


def fitted(executor: Any, **options: Any) -> pmf.NFVI:
    inference = pmf.NFVI("planar-scale-loc", model=two_modes(), random_seed=3)
    inference.fit(executor=executor, **{**FAST, **options})
    return inference


@cache
def here() -> pmf.NFVI:
    return fitted(None)


def assert_same(one: pmf.NFVI, other: pmf.NFVI) -> None:
    """Bit for bit: losses of all starts, how these agree, and random numbers to come."""
    np.testing.assert_array_equal(one.hist, other.hist)
    assert len(one.hist) == 120
    assert str(one.approx.starts) == str(other.approx.starts)
    assert str(one.approx.fit_state) == str(other.approx.fit_state)
    rngs = [np.random.RandomState(), np.random.RandomState()]
    for rng, inference in zip(rngs, (one, other), strict=True):
        rng.set_state(inference.approx.rng.get_state())
    assert rngs[0].randint(2**30) == rngs[1].randint(2**30)
    draws = [i.approx.draw(5, 1).latent for i in (one, other)]
    np.testing.assert_array_equal(*draws)


def test_they_are_the_same() -> None:
    assert_same(fitted(InPlace()), here())


def test_what_a_worker_that_died_had_is_done_once_more() -> None:
    executor = InPlace(2)
    assert_same(fitted(executor), here())
    assert executor.begun == 5


@pytest.mark.slow
def test_two_threads() -> None:
    with ThreadPoolExecutor(2) as executor:
        assert_same(fitted(executor), here())


@pytest.mark.slow
def test_two_processes() -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        assert_same(fitted(executor), here())


def test_a_start_that_is_lost_twice_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    found = fitted(InPlace(1, 4))
    assert len(found.hist) == 90
    assert found.approx.starts is not None
    assert len(found.approx.starts.modes) == 3
    assert "Start 1 is left out: its worker was lost twice. RuntimeError: killed" in caplog.text


def test_an_executor_that_does_nothing_is_told() -> None:
    with pytest.raises(BackendError, match=r"none of its work.*__main__.*RuntimeError: killed"):
        fitted(InPlace(*range(9)))


def test_starts_that_fail_are_left_out_or_raised() -> None:
    with pm.Model() as model:
        pm.Potential("nowhere", pm.Normal("x") * np.nan)
    inference = pmf.NFVI("loc", model=model, random_seed=1)
    with pytest.raises(NonFiniteError):
        inference.fit(executor=InPlace(), **FAST)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"executor": 3}, "executor must have a method submit"),
        ({"executor": InPlace(), "restarts": 1}, "but restarts=1"),
        ({"executor": InPlace(), "callbacks": [print]}, "callbacks= can't follow"),
        ({"executor": InPlace(), "checkpoint": "run.nc"}, "checkpoint= can't follow"),
    ],
)
def test_what_can_not_be_done_elsewhere(options: dict[str, Any], words: str) -> None:
    inference = pmf.NFVI("loc", model=conjugate_normal(np.ones(3)))
    with pytest.raises(ParameterError, match=words):
        inference.fit(**{**FAST, **options})


def test_the_ladder_has_no_starts_for_an_executor() -> None:
    with pytest.raises(ParameterError, match="executor= is for the starts of one flow"):
        pmf.fit(model=conjugate_normal(np.ones(3)), executor=InPlace())
