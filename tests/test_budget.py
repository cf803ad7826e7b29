"""A fit with a budget of time: what comes back when it is over, and how it says so."""

from __future__ import annotations

import logging
import time
import warnings
from dataclasses import dataclass
from typing import Any, override

import numpy as np
import pymc as pm
import pytest
from models import gaussian

import pmflow as pmf
from pmflow.errors import FitWarning, ParameterError
from pmflow.ladder import climb
from pmflow.ladder.rungs import RUNGS, FlowRung, GaussianRung
from pmflow.ladder.structured import AbstractStructuredRung
from pmflow.watch import tick

PYTHON: dict[str, Any] = {"compile_kwargs": {"mode": "FAST_COMPILE"}, "progressbar": False}


def inference() -> pmf.NFVI:
    return pmf.NFVI("scale-loc", model=gaussian([1.0, 2.0], np.eye(2).tolist()), random_seed=1)


def ended(approx: pmf.Approximation) -> str:
    assert approx.fit_state is not None
    return approx.fit_state.ended


@pytest.mark.slow
def test_steps_end_when_it_is_over() -> None:
    vi = inference()
    began = time.perf_counter()
    approx = vi.fit(10**9, seconds=2.0, **PYTHON)
    # no machine code is made here: there is no piece of many seconds
    assert time.perf_counter() - began < 60
    assert ended(approx) == "time"
    assert 0 < len(vi.hist) < 10**9
    assert np.isfinite(approx.sample(10)["posterior"]["z"]).all()
    # the next fit has no budget
    assert ended(vi.fit(3, **PYTHON)) == "steps"


def test_a_fit_that_is_done_sooner_does_not_use_it_up() -> None:
    assert ended(inference().fit(5, seconds=1000.0, **PYTHON)) == "steps"


@pytest.mark.slow
def test_an_automatic_fit_comes_back_judged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = (rung for rung in RUNGS if isinstance(rung, GaussianRung | FlowRung))
    monkeypatch.setattr(climb, "RUNGS", tuple(kept))
    with pm.Model() as model:
        scale = pm.HalfNormal("scale", 2.0)
        pm.Normal("x", 0.0, scale, shape=6)

    def slow(*_: Any) -> None:
        time.sleep(0.05)  # a flow of this model takes longer than there is time

    with warnings.catch_warnings(), caplog.at_level(logging.INFO, "pmflow"):
        warnings.simplefilter("ignore", FitWarning)
        approx = pmf.fit(
            model=model, seconds=16.0, random_seed=1, restarts=2, callbacks=[slow], **PYTHON
        )
    assert ended(approx) == "time"
    assert "out of the seconds given" in str(approx.fit_state)
    assert approx.diagnosis is not None
    assert approx.diagnosis.fit_state.ended == "time"
    times = approx.ladder.times
    assert times["Finding the mode"] > 0
    longest = max(times, key=lambda name: times[name])
    assert f"{longest.lower()} {times[longest]:.1f} s" in str(approx.ladder)


@dataclass(frozen=True)
class NeverDone(AbstractStructuredRung):
    """A rung that looks whether it is to end, and has nothing to return."""

    name = "never done"

    @override
    def applies(self, ground: Any) -> bool:
        return True

    @override
    def fitted(self, flow: Any, held: Any, seed: int) -> pmf.Approximation:
        began = time.perf_counter()
        while time.perf_counter() < began + 60:
            tick()
        pytest.fail("it was not ended")


@pytest.mark.slow
def test_a_first_rung_without_an_end_leaves_time_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rungs = (NeverDone(), GaussianRung(), NeverDone())
    monkeypatch.setattr(climb, "RUNGS", rungs)
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)  # on a busy machine there is no time to judge
        approx = pmf.fit(
            model=gaussian([1.0, 2.0], np.eye(2).tolist()), seconds=4.0, random_seed=1, **PYTHON
        )
    assert time.perf_counter() - began < 30
    assert approx.ladder.rungs[0].left_out == "no time was left for it"
    assert approx.ladder.taken == 1
    np.testing.assert_allclose(approx.mean.eval(), [1.0, 2.0], atol=0.1)


@pytest.mark.slow
def test_a_budget_that_is_over_at_once_still_has_a_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(climb, "RUNGS", (NeverDone(), GaussianRung()))
    model = gaussian([1.0, 2.0], np.eye(2).tolist())
    with pytest.warns(FitWarning, match="out of the seconds given"):
        approx = pmf.fit(model=model, seconds=1e-6, random_seed=1, **PYTHON)
    assert approx.ladder.rungs[0].left_out == "no time was left for it"
    assert approx.ladder.taken == 1


@pytest.mark.parametrize("seconds", [0, -1.0, np.inf, np.nan, True, "60"])
def test_what_is_no_budget_is_refused_first(seconds: Any) -> None:
    with pytest.raises(ParameterError, match="seconds must be a number of seconds > 0"):
        pmf.fit(model=gaussian([0.0], [[1.0]]), seconds=seconds)
    with pytest.raises(ParameterError, match="seconds must be a number of seconds > 0"):
        inference().fit(3, seconds=seconds)
