"""A fit that is stopped in the middle of a stage: the best so far comes back, nothing is broken."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytest

import pmflow as pmf
from pmflow.errors import FitWarning
from pmflow.frames import build_frame
from pmflow.ladder import climb, rungs
from pmflow.ladder.rungs import FlowRung, GaussianRung
from pmflow.training.schedule_state import ScheduleSettings
from pmflow.watch import Interrupted, OutOfTime, Watch, watching
from pmflow.watch.display import Line

pytestmark = pytest.mark.filterwarnings("ignore:The best of:pmflow.errors.FitWarning")

FAST: dict[str, Any] = {"compile_kwargs": {"mode": "FAST_COMPILE"}, "progressbar": False}


def banana() -> pm.Model:
    with pm.Model() as model:
        x = pm.Normal("x")
        pm.Normal("y", 0.5 * x**2, 0.5)
    return model


@pytest.fixture(autouse=True)
def _everything_is_put_back() -> Iterator[None]:
    flags = pytensor.config.cxx, pytensor.config.traceback__limit
    threads = threading.active_count()  # other tests may have left some
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert (pytensor.config.cxx, pytensor.config.traceback__limit) == flags
    assert threading.active_count() == threads


SHORT = ScheduleSettings(rates=(0.03,), trial=40, window=60, most_windows=3, stages=2, patience=1)


@pytest.fixture(autouse=True)
def _one_short_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(climb, "RUNGS", (GaussianRung(), FlowRung("planar*2-scale-loc")))
    monkeypatch.setattr(rungs, "_SCHEDULE", SHORT)


def at_stage(
    monkeypatch: pytest.MonkeyPatch, stages: list[str], do: Callable[[], Any], *, of_ticks: int = 0
) -> None:
    """Do something once, when stages of these names have begun one after the other."""
    begin, update, left, ticks = Line.begin, Line.update, list(stages), [0]

    def began(line: Line, total: int | None) -> None:
        begin(line, total)
        if left and line.name == left[0]:
            left.pop(0)
            if not left and not of_ticks:
                do()

    def updated(line: Line, done: int | None, shown: Any) -> None:
        update(line, done, shown)
        if not left and of_ticks and line.name == stages[-1]:
            ticks[0] += 1
            if ticks[0] == of_ticks:
                do()

    monkeypatch.setattr(Line, "begin", began)
    monkeypatch.setattr(Line, "update", updated)


def press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def fit(model: pm.Model, **kwargs: Any) -> Any:
    return pmf.fit(model=model, random_seed=1, **{"restarts": 2, **FAST, **kwargs})


class TestCtrlC:
    """`pmf.fit`, interrupted in each of its stages."""

    @pytest.mark.slow
    def test_before_there_is_anything(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model = banana()
        with monkeypatch.context() as patch:
            at_stage(patch, ["Finding the mode"], press_ctrl_c)
            with pytest.raises(KeyboardInterrupt):
                fit(model)
        assert np.isfinite(fit(model).diagnosis.elbo)  # the model is as it was

    @pytest.mark.parametrize(
        ("stages", "tried", "taken_is_judged"),
        [
            (["Finding the Gaussian"], 1, False),
            (["Finding the Gaussian", "Finding the mode"], 1, False),
            (["Judging"], 1, False),
            (["Judging", "Compiling"], 2, True),
            (["Judging", "Fitting"], 2, True),
        ],
        ids=["search", "second start", "judging", "compilation", "training"],
    )
    def test_the_best_so_far_comes_back(
        self,
        stages: list[str],
        tried: int,
        taken_is_judged: bool,  # noqa: FBT001
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        at_stage(monkeypatch, stages, press_ctrl_c)
        with pytest.warns(FitWarning, match=r"was stopped .*user"):
            approx = fit(banana())
        assert approx.fit_state.ended == "interrupted"
        assert len(approx.ladder.rungs) == tried
        assert approx.ladder.taken == 0
        assert (approx.diagnosis is not None) == taken_is_judged
        assert approx.sample(100, random_seed=1)["posterior"]["x"].shape == (1, 100)

    @pytest.mark.slow
    def test_a_flow_that_is_better_is_taken_unjudged(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pressed = []

        def late(approx: Any, losses: Any, step: int) -> None:
            if step == 200:
                pressed.append(step)
                press_ctrl_c()

        with pytest.warns(FitWarning, match="was stopped"):
            approx = fit(banana(), callbacks=[late], restarts=1)
        assert pressed
        assert approx.ladder.taken == 1
        assert approx.diagnosis is None
        assert approx.fit_state.ended == "interrupted"

    @pytest.mark.slow
    def test_of_a_plain_fit_with_several_starts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        inference = pmf.NFVI("scale-loc", model=banana(), random_seed=1)
        with monkeypatch.context() as patch:
            at_stage(patch, ["Fitting", "Fitting"], press_ctrl_c)
            approx = inference.fit(200, restarts=3, **FAST)
        assert approx.starts is not None
        assert len(approx.starts.elbo) == 2

    def test_a_frame_that_nobody_would_know_of(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patch:
            at_stage(patch, ["Finding the Gaussian"], press_ctrl_c)
            with pytest.raises(Interrupted):
                pmf.NFVI("scale-loc", model=banana(), frame="gaussian")


class TestSearch:
    """A search that is stopped gives the best frame so far, and says so."""

    def found(
        self, kind: str, stages: list[str], monkeypatch: pytest.MonkeyPatch, *, of_ticks: int = 0
    ) -> Any:
        group = pmf.NormalizingFlow("scale-loc", model=banana(), random_seed=1).groups[0]
        density, start = group.log_density, np.zeros(2)
        with monkeypatch.context() as patch, watching(progressbar=False):
            at_stage(patch, stages, press_ctrl_c, of_ticks=of_ticks)
            found = build_frame(kind, density, start, 1)
        return found and found.frame

    def test_by_natural_gradients(self, monkeypatch: pytest.MonkeyPatch) -> None:
        frame = self.found("gaussian", ["Finding the Gaussian"], monkeypatch, of_ticks=3)
        assert frame.kind == "gaussian"
        assert frame.note == "The search was interrupted: this is the best frame so far."

    def test_by_paths(self, monkeypatch: pytest.MonkeyPatch) -> None:
        frame = self.found("pathfinder", ["Following paths to a mode"], monkeypatch, of_ticks=3)
        assert frame.kind == "pathfinder"
        assert "interrupted" in frame.note

    def test_the_first_path_gives_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(Interrupted):
            self.found("pathfinder", ["Following paths to a mode"], monkeypatch)


class TestBudget:
    def fitted(self, seconds: float, **kwargs: Any) -> tuple[Any, Watch]:
        with watching(seconds, progressbar=False) as watch:
            return fit(banana(), **kwargs), watch

    @pytest.mark.slow
    def test_enough_time_changes_nothing(self) -> None:
        approx, watch = self.fitted(600.0)
        assert approx.fit_state.ended in ("converged", "limit")
        assert {"Finding the Gaussian", "Compiling", "Fitting", "Judging"} <= set(watch.times)
        np.testing.assert_array_equal(approx.hist, fit(banana()).hist)

    def test_too_little_gives_what_there_is(self) -> None:
        with pytest.warns(FitWarning, match="stopped .*out of the seconds given"):
            approx, _ = self.fitted(0.0)
        assert approx.fit_state.ended == "time"
        assert approx.sample(10)["posterior"]["x"].shape == (1, 10)

    def test_training_ends_in_time_to_judge(self, monkeypatch: pytest.MonkeyPatch) -> None:
        first = climb.Climb._judged

        def judged(self: Any, approx: Any) -> Any:
            found = first(self, approx)
            vars(self)["_seconds_to_judge"] = 1e6  # what is left is never enough but for judging
            return found

        monkeypatch.setattr(climb.Climb, "_judged", judged)
        with pytest.warns(FitWarning, match="out of the seconds"):
            approx, watch = self.fitted(600.0)
        assert approx.fit_state.ended == "time"
        assert approx.diagnosis is not None
        assert "Fitting" not in watch.times

    def test_of_a_plain_fit(self) -> None:
        inference = pmf.NFVI("scale-loc", model=banana(), random_seed=1)
        with watching(1.5, progressbar=False):
            approx = inference.fit(10**7, **FAST)
        assert approx.fit_state is not None
        assert approx.fit_state.ended == "time"
        assert 0 < len(approx.hist) == approx.fit_state.steps < 10**7

    def test_it_does_not_end_a_fit_that_has_nothing_yet(self) -> None:
        with watching(0.0, progressbar=False), pytest.raises(OutOfTime):
            pmf.NormalizingFlow("scale-loc", model=banana(), frame="gaussian").sample(10)
