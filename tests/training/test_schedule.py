"""The schedule, with a loop that is made up: what it tries, keeps and returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pmflow.records import Elbo
from pmflow.training.course import Handles
from pmflow.training.schedule import Schedule
from pmflow.training.schedule_state import ScheduleSettings

GOAL = np.array([3.0, -1.0])


class FakeLoop:
    """Gradient descent on half the squared distance from `GOAL`, with noise on the gradient."""

    def __init__(self, noise: float = 0.3) -> None:
        self.params: NDArray[np.floating] = np.zeros(2)
        self.learning_rate = 0.01
        self.annealed = 1.0
        self.accumulate = 8  # as the last stage of a fit before would leave it
        self.noise, self.restarts = noise, 0
        self._losses: list[float] = []
        self.log: list[tuple[int, float, int]] = []
        self.restart()
        self.restarts = 0

    def put(self, params: NDArray[np.floating]) -> None:
        self.params = params

    def set(self, **handles: float) -> None:
        vars(self).update(handles)

    def restart(self) -> None:
        self.restarts += 1
        self._rng = np.random.default_rng(1)
        self.begin_average()

    def begin_average(self) -> None:
        self._sum, self._count = np.zeros(2), 0

    @property
    def average(self) -> np.ndarray:
        return self._sum / max(self._count, 1)

    @property
    def losses(self) -> np.ndarray:
        return np.array(self._losses)

    def run(self, steps: int) -> None:
        self.log.append((steps, self.learning_rate, self.accumulate))
        for _ in range(max(1, steps // self.accumulate)):
            noise = self.noise * self._rng.normal(size=2) / self.accumulate**0.5
            self._losses += [self.loss + noise[0]] * self.accumulate
            self.params = self.params - 10 * self.learning_rate * (self.params - GOAL + noise)
            self._sum, self._count = self._sum + self.params, self._count + 1

    @property
    def loss(self) -> float:
        return float(((self.params - GOAL) ** 2).sum() / 2)


class FakeElbo:
    """Minus the exact loss, with a spread over draws that all states share."""

    name = "ELBO"

    def __init__(self, loop: FakeLoop) -> None:
        self.loop = loop
        self.seen: list[NDArray[np.floating]] = []
        self.at_call: Callable[[int], None] = lambda _: None

    def values(self, seed: int) -> np.ndarray:
        self.at_call(len(self.seen))
        self.seen.append(self.loop.params.copy())
        return np.random.default_rng(seed).normal(size=50) - self.loop.loss


def made(
    settings: ScheduleSettings | None = None, **loop: Any
) -> tuple[FakeLoop, FakeElbo, Schedule]:
    fake = FakeLoop(**loop)
    elbo = FakeElbo(fake)
    settings = settings or ScheduleSettings(window=40, most_windows=10)
    schedule = Schedule(elbo, 2, 5, settings)
    return fake, elbo, schedule


def run(loop: FakeLoop, schedule: Schedule, most: int = 10_000) -> None:
    for _ in range(most):
        steps = schedule.next(loop)
        if steps is None:
            break
        loop.run(steps)


def test_the_loop_of_the_tests_is_one() -> None:
    handles: Handles = FakeLoop()
    assert handles.accumulate == 8


def test_the_best_step_size_goes_on() -> None:
    # 10 times the rate is the share of the way that a step goes: 2.5 diverges, 0.01 crawls
    loop, _, schedule = made(
        ScheduleSettings(rates=(0.25, 0.03, 0.001), window=40, most_windows=10)
    )
    run(loop, schedule)
    trials, stages = loop.log[1:7], loop.log[7:]
    assert [(n, rate) for n, rate, _ in trials] == [
        *((12, 0.025), (48, 0.25)),
        *((12, 0.003), (48, 0.03)),
        *((12, 0.0001), (48, 0.001)),
    ]
    rates = list(dict.fromkeys(rate for _, rate, _ in stages))
    np.testing.assert_allclose(rates, 0.03 * 0.3 ** np.arange(len(rates)))
    assert len(rates) >= 2


def test_every_trial_is_of_single_steps_from_the_same_start() -> None:
    loop, elbo, schedule = made()
    run(loop, schedule, most=7)
    assert {accumulate for _, _, accumulate in loop.log[1:]} == {1}
    lone = FakeLoop()
    lone.run(1)
    start = lone.params
    np.testing.assert_array_equal(elbo.seen[0], start)
    for number, rate in enumerate((0.03, 0.01), 1):
        lone.restart()
        lone.params, lone.accumulate = start, 1
        for steps, share in ((12, 0.1), (48, 1.0)):
            lone.learning_rate = share * rate
            lone.run(steps)
        np.testing.assert_allclose(elbo.seen[number], lone.params)


def test_it_stops_when_nothing_is_gained() -> None:
    loop, _, schedule = made()
    run(loop, schedule)
    assert schedule.ended == "converged"
    assert np.abs(loop.params - GOAL).max() < 0.05
    assert len({rate for _, rate, _ in loop.log[7:]}) < ScheduleSettings().stages


def test_later_stages_average_gradients_over_steps() -> None:
    loop, _, schedule = made(ScheduleSettings(window=40, most_windows=3, tolerance=-1.0, stages=5))
    run(loop, schedule)
    by_rate = dict((rate, accumulate) for _, rate, accumulate in loop.log[7:])
    assert list(by_rate.values()) == [1, 1, 2, 4, 4]


def test_at_the_limit_of_its_stages_it_has_not_converged() -> None:
    loop, _, schedule = made(ScheduleSettings(window=40, most_windows=3, tolerance=-1.0, stages=3))
    run(loop, schedule)
    assert schedule.ended == "limit"
    assert np.isfinite(schedule.best.value)


def test_the_state_it_ends_with_is_the_best_that_was_seen() -> None:
    loop, elbo, schedule = made(noise=2.0)
    run(loop, schedule)
    losses = [((state - GOAL) ** 2).sum() / 2 for state in elbo.seen]
    assert loop.loss == min(losses)
    loop_weights = np.random.default_rng(5).normal(size=50) - loop.loss
    assert schedule.best == Elbo.of(loop_weights)


def test_the_average_wins_where_the_iterates_are_noisy() -> None:
    loop, elbo, schedule = made(ScheduleSettings(window=40, most_windows=10, stages=1), noise=3.0)
    run(loop, schedule)
    last, average = elbo.seen[-4:-2] if schedule.ended == "limit" else elbo.seen[-2:]
    assert ((average - GOAL) ** 2).sum() < ((last - GOAL) ** 2).sum()
    np.testing.assert_array_equal(loop.params, average)


class TestInterrupts:
    """After each of them `finish` is what the inference calls."""

    @pytest.mark.parametrize("segments", [2, 5, 9, 30])
    def test_the_best_state_is_kept(self, segments: int) -> None:
        loop, elbo, schedule = made(noise=2.0)
        run(loop, schedule, most=segments)
        left = loop.params.copy()
        schedule.finish(loop)
        assert any(np.array_equal(left, state) for state in elbo.seen)
        losses = [((state - GOAL) ** 2).sum() / 2 for state in elbo.seen]
        assert loop.loss == min(losses)
        assert schedule.best.value == pytest.approx(
            np.random.default_rng(5).normal(size=50).mean() - loop.loss
        )
        assert schedule.ended == "limit"

    def test_in_the_middle_of_an_evaluation(self) -> None:
        loop, elbo, schedule = made()

        def interrupt(call: int) -> None:
            if call == 2:
                raise KeyboardInterrupt

        elbo.at_call = interrupt
        with pytest.raises(KeyboardInterrupt):
            run(loop, schedule)
        elbo.at_call = lambda _: None
        schedule.finish(loop)
        assert loop.loss == min(((state - GOAL) ** 2).sum() / 2 for state in elbo.seen)

    @pytest.mark.parametrize("losses", ["lower", "higher"])
    def test_a_second_one_while_it_finishes(self, losses: str) -> None:
        """No draws are looked at: the losses of the last steps say whether the last state stays."""
        loop, elbo, schedule = made()
        run(loop, schedule, most=30)
        last, best = loop.params, min(elbo.seen, key=lambda state: ((state - GOAL) ** 2).sum())
        assert not np.array_equal(last, best)
        trial = ScheduleSettings().trial
        loop._losses[-trial:] = [-9.0 if losses == "lower" else 9.0] * trial

        def interrupt(_: int) -> None:
            raise KeyboardInterrupt

        elbo.at_call = interrupt
        schedule.finish(loop)
        np.testing.assert_array_equal(loop.params, last if losses == "lower" else best)

    def test_before_the_first_step(self) -> None:
        loop, _, schedule = made()
        schedule.finish(loop)
        assert schedule.message == ""


class TestGoingOn:
    """From a state between two segments, in a schedule of its own."""

    @pytest.mark.parametrize("segments", [1, 2, 3, 5, 7, 8, 20, 45, 70])
    def test_it_is_as_if_nothing_had_happened(self, segments: int) -> None:
        settings = ScheduleSettings(window=40, most_windows=4, stages=4)
        whole, _, schedule = made(settings)
        run(whole, schedule)
        loop, elbo, broken = made(settings)
        run(loop, broken, most=segments)
        other = Schedule(elbo, 2, 5, settings)
        other.go_to(broken.to_state())
        loop.learning_rate, loop.accumulate = 99.0, 99  # what no state of the loop has
        other.resume(loop)
        run(loop, other)
        np.testing.assert_array_equal(loop.params, whole.params)
        assert loop.log == whole.log
        assert (other.ended, other.message) == (schedule.ended, schedule.message)


def test_states_without_a_finite_elbo_are_left_for_those_with_one() -> None:
    loop, elbo, schedule = made()

    def log_weights(seed: int) -> np.ndarray:
        weights = FakeElbo.values(elbo, seed)
        weights[0] = -np.inf if loop.loss > 1 else weights[0]
        return weights

    elbo.values = log_weights  # type: ignore[method-assign]
    run(loop, schedule)
    assert np.isfinite(schedule.best.value)
    assert schedule.ended == "converged"


def test_an_elbo_that_is_nowhere_finite_is_no_message() -> None:
    loop, elbo, schedule = made()
    elbo.values = lambda seed: np.full(50, -np.inf)  # type: ignore[method-assign]
    run(loop, schedule)
    assert schedule.message == ""
    assert schedule.ended == "limit"
    assert np.isfinite(loop.params).all()


def test_a_summary_has_the_mean_and_its_error() -> None:
    weights = np.array([1.0, 2.0, 3.0, 6.0])
    assert Elbo.of(weights) == pytest.approx(Elbo(3.0, np.sqrt(14 / 3) / 2))
    assert Elbo.of(np.array([1.0, -np.inf]))[0] == -np.inf
