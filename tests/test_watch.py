"""The watch over a fit: Ctrl-C, the budget, times, and what is shown."""

from __future__ import annotations

import gc
import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from pmflow.watch import (
    Interrupted,
    OutOfTime,
    Stopped,
    grace,
    is_watched,
    piece,
    result_exists,
    show,
    stage,
    tick,
    watching,
    why_stopped,
)


def press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def quiet(seconds: float | None = None) -> Any:
    return watching(seconds, progressbar=False)


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    assert not is_watched()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert threading.active_count() == 1


class TestCtrlC:
    def test_the_first_one_waits_for_a_tick(self) -> None:
        with quiet() as watch:
            press_ctrl_c()
            assert watch.why == "interrupted"
            with pytest.raises(Interrupted):
                tick()

    def test_what_keeps_the_best_so_far_sees_it(self) -> None:
        with quiet():
            press_ctrl_c()
            with pytest.raises(KeyboardInterrupt):
                tick()
        assert issubclass(OutOfTime, KeyboardInterrupt)

    def test_the_second_one_does_not_wait(self) -> None:
        with quiet(), piece("compiling"):
            press_ctrl_c()
            with pytest.raises(KeyboardInterrupt):
                press_ctrl_c()

    def test_work_without_effects_is_cut(self) -> None:
        with quiet(), piece("evaluating", can_be_cut=True), pytest.raises(Interrupted):
            press_ctrl_c()

    def test_a_piece_within_work_without_effects_is_not_cut(self) -> None:
        with quiet(), piece("evaluating", can_be_cut=True):
            with piece("compiling"):
                press_ctrl_c()
            with pytest.raises(Interrupted):
                tick()

    @pytest.mark.slow
    def test_it_is_not_lost_in_a_callback_of_the_garbage_collector(
        self, recwarn: pytest.WarningsRecorder
    ) -> None:
        def callback(phase: str, info: dict[str, int]) -> None:
            if phase == "start":
                press_ctrl_c()  # what is raised here is ignored, as in JAX's callback

        gc.callbacks.append(callback)
        try:
            with quiet(), piece("evaluating", can_be_cut=True):
                gc.collect()
                gc.callbacks.remove(callback)
                with pytest.raises(Interrupted):
                    tick()
        finally:
            if callback in gc.callbacks:
                gc.callbacks.remove(callback)
        assert not recwarn.list  # nor was anything raised there

    def test_no_piece_begins_after_it(self) -> None:
        with quiet():
            press_ctrl_c()
            with pytest.raises(Interrupted), piece("compiling"):
                pytest.fail("it was begun")

    def test_it_goes_on_until_the_watch_ends(self) -> None:
        with quiet():
            press_ctrl_c()
            for _ in range(2):
                with pytest.raises(Interrupted):
                    tick()
            assert why_stopped() == "interrupted"
        assert why_stopped() is None
        tick()

    def test_a_handler_of_the_users_own_is_left_alone(self) -> None:
        seen: list[int] = []
        before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
        try:
            with quiet():
                press_ctrl_c()
                tick()
            assert seen == [signal.SIGINT]
        finally:
            signal.signal(signal.SIGINT, before)

    def test_a_handler_set_meanwhile_stays(self) -> None:
        seen: list[int] = []
        with quiet():
            signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
        press_ctrl_c()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        assert seen == [signal.SIGINT]

    def test_other_threads_leave_signals_alone(self) -> None:
        found: list[Any] = []

        def work() -> None:
            with quiet():
                found.append(signal.getsignal(signal.SIGINT))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert found == [signal.default_int_handler]

    def test_a_watch_of_another_thread_is_not_stopped(self) -> None:
        found: list[str | None] = []

        def work() -> None:
            with quiet():
                tick()
                found.append(why_stopped())

        with quiet():
            press_ctrl_c()
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        assert found == [None]

    def test_an_inner_watch_joins_the_outer_one(self) -> None:
        with quiet() as outer:
            with quiet() as inner:
                press_ctrl_c()
            assert inner is outer
            assert outer.is_stopped

    def test_of_a_part_that_ran_out_nothing_is_said(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "pmflow")
        with quiet():
            result_exists()
            with quiet(0.0), pytest.raises(OutOfTime):
                tick()
            tick()
        assert not caplog.records


class TestGrace:
    def test_what_is_there_can_be_put_in_order(self) -> None:
        with quiet():
            press_ctrl_c()
            with grace():
                tick()
                with piece("evaluating", can_be_cut=True):
                    tick()
            with pytest.raises(Interrupted):
                tick()

    def test_but_nothing_long_begins(self) -> None:
        with quiet():
            press_ctrl_c()
            with grace(), pytest.raises(Interrupted), piece("compiling"):
                pytest.fail("it was begun")

    def test_it_is_half_a_second_in_all(self) -> None:
        with quiet():
            press_ctrl_c()
            with grace():
                time.sleep(0.3)
                tick()
            with grace():
                time.sleep(0.3)
                with pytest.raises(Interrupted):
                    tick()

    def test_a_second_ctrl_c_ends_it(self) -> None:
        with quiet():
            press_ctrl_c()
            with grace():
                with pytest.raises(Interrupted):
                    press_ctrl_c()
                with pytest.raises(Interrupted):
                    tick()

    def test_before_a_stop_it_is_nothing(self) -> None:
        with quiet():
            with grace():
                press_ctrl_c()
                with pytest.raises(Interrupted):
                    tick()


class TestBudget:
    def test_it_ends_a_fit_that_has_a_result(self) -> None:
        with quiet(seconds=0.0) as watch:
            tick()
            assert watch.why is None
            result_exists()
            assert watch.why == "time"
            with pytest.raises(OutOfTime):
                tick()

    def test_without_one_there_is_no_end(self) -> None:
        with quiet() as watch:
            result_exists()
            tick()
            assert watch.left == float("inf")

    def test_a_part_has_a_budget_of_its_own(self) -> None:
        with quiet(seconds=60.0) as watch:
            result_exists()
            with quiet(seconds=0.0), pytest.raises(OutOfTime):
                tick()
            tick()
            assert not watch.is_stopped
            assert 59.0 < watch.left < 60.0

    def test_a_part_has_no_longer_one(self) -> None:
        with quiet(seconds=0.0), quiet(seconds=60.0) as watch:
            assert watch.left <= 0.0

    def test_a_part_that_one_can_do_without_ends_without_a_result(self) -> None:
        with quiet(seconds=60.0):
            with watching(0.0, is_needed=False) as watch:
                assert watch.why == "time"
                with watching(0.0), pytest.raises(OutOfTime):  # nor is what is in it needed
                    tick()
            tick()
            assert watch.why is None

    def test_the_result_of_a_part_that_failed_is_none(self) -> None:
        with quiet(seconds=0.0) as watch:
            with suppress(ValueError), watching(0.0):
                result_exists()
                raise ValueError
            assert watch.why is None
            tick()

    def test_ctrl_c_comes_first(self) -> None:
        with quiet(seconds=0.0) as watch:
            result_exists()
            press_ctrl_c()
            assert watch.why == "interrupted"
            with pytest.raises(Interrupted):
                tick()

    def test_it_works_in_other_threads(self) -> None:
        raised: list[type[BaseException]] = []

        def work() -> None:
            with quiet(seconds=0.0):
                result_exists()
                try:
                    tick()
                except Stopped as stop:
                    raised.append(type(stop))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert raised == [OutOfTime]


class TestTimes:
    def test_stages_of_a_name_are_added_up(self) -> None:
        with quiet() as watch:
            for _ in range(2):
                with stage("waiting"):
                    time.sleep(0.05)
        assert list(watch.times) == ["waiting"]
        assert 0.1 <= watch.times["waiting"] < 1.0

    def test_a_stage_is_without_those_within(self) -> None:
        with quiet() as watch, stage("outer"):
            with stage("inner"):
                time.sleep(0.1)
        assert watch.times["inner"] >= 0.1
        assert watch.times["outer"] < 0.05

    def test_a_stage_that_fails_has_its_time_too(self) -> None:
        with pytest.raises(ZeroDivisionError), quiet() as watch, stage("failing"):
            raise ZeroDivisionError
        assert "failing" in watch.times


class TestWhatIsSaid:
    def test_of_an_interrupt(self, caplog: pytest.LogCaptureFixture) -> None:
        with quiet(), stage("Waiting"):
            press_ctrl_c()
            with pytest.raises(Interrupted):
                tick()
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        said = "Interrupted (Waiting): what was found so far is returned, 0.0 s after Ctrl-C."
        assert record.getMessage() == said

    def test_of_a_piece_that_made_it_late(self, caplog: pytest.LogCaptureFixture) -> None:
        with quiet():
            with piece("compiling by hand"):
                press_ctrl_c()
                time.sleep(0.6)
            with pytest.raises(Interrupted):
                tick()
        assert "; compiling by hand took 0.6 s of it and can't be cut." in caplog.text

    def test_of_ctrl_c_that_was_heard_when_machine_code_came_back(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with quiet():
            with piece("compiling by hand"):
                time.sleep(0.6)
                press_ctrl_c()
            with pytest.raises(Interrupted):
                tick()
        said = "; compiling by hand can't be cut, and may have heard of it late."
        assert said in caplog.text

    def test_of_ctrl_c_that_came_too_late(self, caplog: pytest.LogCaptureFixture) -> None:
        with quiet():
            press_ctrl_c()
        assert "the result is complete" in caplog.text

    def test_of_the_end_of_a_budget(self, caplog: pytest.LogCaptureFixture) -> None:
        with quiet(seconds=0.01):
            result_exists()
            with piece("a long one"):
                time.sleep(0.6)
            with pytest.raises(OutOfTime):
                tick()
        assert "Out of the 0.01 s given: what was found so far is returned, 0.6 s" in caplog.text
        assert "a long one took 0.6 s of it" in caplog.text

    def test_nothing_where_nothing_is_returned(self, caplog: pytest.LogCaptureFixture) -> None:
        def interrupted() -> None:
            with quiet():
                press_ctrl_c()
                tick()

        with pytest.raises(Interrupted):
            interrupted()
        assert not caplog.text


class TestWhatIsShown:
    def test_a_stage_longer_than_a_second(self, capsys: pytest.CaptureFixture[str]) -> None:
        with watching(), stage("Counting", total=10):
            tick(3, what="sheep")
            time.sleep(1.3)
            show(4)
        (line,) = capsys.readouterr().out.strip().splitlines()
        assert line.split()[0] == "Counting"
        assert "4/10  sheep" in line
        assert line.endswith("0:00:01")

    def test_nothing_of_a_shorter_one(self, capsys: pytest.CaptureFixture[str]) -> None:
        with watching(), stage("Counting"):
            time.sleep(0.3)
        assert capsys.readouterr().out == ""

    def test_nothing_where_it_is_not_wanted(self, capsys: pytest.CaptureFixture[str]) -> None:
        with watching(progressbar=False), stage("Counting"):
            time.sleep(1.3)
        assert capsys.readouterr().out == ""

    @pytest.mark.slow
    def test_only_those_of_the_stages_that_are_long(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with watching():
            with stage("Short"):
                pass
            with stage("Long"):
                time.sleep(1.2)
        assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["Long"]

    def test_without_a_watch_nothing_happens(self, capsys: pytest.CaptureFixture[str]) -> None:
        with stage("Counting", total=3), piece("one"), grace():
            tick(1, what="sheep")
            show(2)
            result_exists()
        assert capsys.readouterr().out == ""
