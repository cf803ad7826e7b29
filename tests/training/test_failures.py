"""What ends a fit, or should not: infinities, exceptions, Ctrl-C; with and without `n`."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from scipy.stats import norm

import pmflow as pmf
from pmflow.errors import FitWarning, NonFiniteError
from pmflow.training import trainer
from pmflow.training.blame import check_beginning
from pmflow.training.loops.loop import StepLoop

FAST: dict[str, Any] = {"compile_kwargs": {"mode": "FAST_COMPILE"}, "progressbar": False}
LENGTHS = {"n": {"n": 400}, "automatic": {}}

pytestmark = pytest.mark.filterwarnings("ignore:The fit is:pmflow.errors.FitWarning")

both = pytest.mark.parametrize("length", LENGTHS.values(), ids=LENGTHS.keys())


def model_with(term: Callable[[Any], Any]) -> pm.Model:
    with pm.Model() as model:
        x = pm.Normal("x", shape=2)
        pm.Normal("fine", x.sum(), 1.0, observed=0.3)
        pm.Potential("trouble", term(x))
    return model


def nfvi(term: Callable[[Any], Any] = lambda x: 0.0 * x.sum()) -> pmf.NFVI:
    return pmf.NFVI("scale-loc", model=model_with(term), random_seed=1)


def at_steps(bad: Callable[[Any], Any], value: float = np.nan) -> tuple[pmf.NFVI, dict[Any, Any]]:
    """A loss that is not finite at some steps, counted by an update of its own."""
    count = pytensor.shared(0, "count")
    inference = nfvi(lambda x: pt.switch(bad(count), value, 0.0) * x[0])
    return inference, {count: count + 1}


def stop_at(step: int, error: type[BaseException]) -> Callable[..., None]:
    def callback(approx: object, losses: object, i: int) -> None:
        if i == step:
            raise error("enough")

    return callback


def is_usable(inference: pmf.NFVI, steps: int) -> None:
    """The history is complete, parameters are finite, and the approximation draws and goes on."""
    assert len(inference.hist) == len(inference.approx.hist) == steps
    assert all(np.isfinite(p.get_value()).all() for p in inference.approx.params)
    draws = inference.approx.sample(20, random_seed=1)["posterior"]["x"]
    assert np.isfinite(draws).all()
    assert inference.approx.log_prob(np.zeros(2)).shape == ()


class TestAtTheStart:
    @pytest.mark.slow
    @both
    @pytest.mark.parametrize("value", [np.nan, -np.inf, np.inf], ids=["nan", "-inf", "inf"])
    def test_it_is_said_before_steps_are_compiled(
        self, value: float, length: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*args: Any, **kwargs: Any) -> Any:
            raise AssertionError("compiled")

        monkeypatch.setattr(trainer, "compile_loop", refuse)
        monkeypatch.setattr(trainer, "build_step", refuse)
        inference = nfvi(lambda x: pt.switch(x[0] > 1e9, 0.0, value))
        with pytest.raises(
            NonFiniteError, match=rf"'trouble': its log-prob.* is {value}"
        ) as caught:
            inference.fit(**length, **FAST)
        assert caught.value.variables == ("trouble",)
        assert caught.value.step == 1
        is_usable(inference, 0)
        assert inference.approx.fit_state is not None
        assert inference.approx.fit_state.ended == "failed"

    def test_an_observed_variable_is_named(self) -> None:
        with pm.Model() as model:
            mu = pm.Normal("mu")
            pm.Uniform("y", mu, mu + 1.0, observed=[0.0, 5.0])
        with pytest.raises(NonFiniteError, match=r"'y': its log-probability is -inf in 100 of"):
            pmf.NFVI("scale-loc", model=model, random_seed=1).fit(5, **FAST)

    def test_one_good_draw_of_a_hundred_is_enough_to_begin(self) -> None:
        # 2 % of the draws are above 2: steps of one draw are nearly all skipped, but counted
        inference = nfvi(lambda x: pt.switch(x[0] > 1.5, 0.0, -np.inf))
        inference.fit(50, **FAST)
        assert 0 < inference.skipped == np.isinf(inference.hist).sum()

    def test_the_check_changes_no_random_state(self) -> None:
        one, two = nfvi(), nfvi()
        check_beginning(one.approx, 1)
        for inference in (one, two):
            inference.fit(5, **FAST)
        np.testing.assert_array_equal(one.hist, two.hist)


@pytest.mark.slow
class TestInTheMiddle:
    @both
    @pytest.mark.parametrize("value", [np.nan, np.inf], ids=["nan", "inf"])
    def test_bad_steps_are_skipped_and_counted(self, value: float, length: dict[str, Any]) -> None:
        inference, count = at_steps(lambda i: (i >= 20) & (i < 27), value)
        stop = stop_at(40, StopIteration)
        inference.fit(**length, more_updates=count, callbacks=[stop], **FAST)
        assert inference.skipped == 7
        np.testing.assert_array_equal(np.flatnonzero(~np.isfinite(inference.hist)), range(20, 27))
        assert inference.approx.fit_state is not None
        assert inference.approx.fit_state.skipped == 7
        is_usable(inference, 40)

    @both
    def test_a_hundred_in_a_row_end_it_with_the_last_good_state(
        self, length: dict[str, Any]
    ) -> None:
        inference, count = at_steps(lambda i: i >= 30)
        with pytest.raises(
            NonFiniteError, match=r"from step 31 on\. 'trouble': .* is nan"
        ) as caught:
            inference.fit(**length, more_updates=count, **FAST)
        assert caught.value.step == 31
        assert caught.value.variables[0] == "trouble"
        assert inference.approx.fit_state is not None
        assert inference.approx.fit_state.ended == "failed"
        # where a schedule goes on to another trial in between, the chunk of the hundredth ends it
        assert 100 <= inference.skipped <= (100 if length else 160)
        is_usable(inference, 30 + inference.skipped)

    @both
    def test_a_bad_gradient_alone_is_counted_too(self, length: dict[str, Any]) -> None:
        # the value is 0, its derivative infinity times 0
        count = pytensor.shared(0, "count")

        def root(x: Any) -> Any:
            is_bad = (count >= 10) & (count < 15)
            return pt.sqrt(pt.switch(is_bad, pt.maximum(-abs(x[0]), 0.0), 1.0 + x[0] ** 2))

        inference = nfvi(lambda x: 0.0 * x[1] - root(x))
        stop = stop_at(30, StopIteration)
        inference.fit(**length, more_updates={count: count + 1}, callbacks=[stop], **FAST)
        assert np.isfinite(inference.hist).all()
        assert inference.skipped == 5
        is_usable(inference, 30)

    def test_one_bad_draw_of_a_hundred_costs_its_step_alone(self) -> None:
        # about 5 draws of 1,000 are above 2.6 at the start: one step in three has one of them
        inference = nfvi(lambda x: pt.switch(x[0] > 2.6, -np.inf, 0.0))
        inference.fit(150, obj_n_mc=100, **FAST)
        assert 0 < inference.skipped == np.isinf(inference.hist).sum() < 75
        is_usable(inference, 150)


class TestOutOfRange:
    """A draw out of a parameter's range, where PyMC would check all draws of a batch at once."""

    @staticmethod
    def approx(**kwargs: Any) -> pmf.NormalizingFlow:
        with pm.Model(**kwargs) as model:
            mu = pm.Normal("mu")
            pm.Normal("y", 0.0, mu, observed=[1.0, 2.0])
        return pmf.NormalizingFlow("scale-loc", model=model, random_seed=1, start={"mu": 0.5})

    def test_it_spoils_its_own_log_p_alone(self) -> None:
        drawn = self.approx().sample(200, random_seed=1)
        mu = np.asarray(drawn["posterior"]["mu"])
        log_p = np.asarray(drawn["sample_stats"]["log_p"])
        likelihood = norm.logpdf([[[1.0]], [[2.0]]], 0, abs(mu)).sum(0)
        expected = np.where(mu > 0, norm.logpdf(mu) + likelihood, -np.inf)
        assert 0.1 < (mu > 0).mean() < 0.9
        np.testing.assert_allclose(log_p, expected, rtol=1e-10)

    def test_without_checks_it_is_what_the_formula_gives(self) -> None:
        drawn = self.approx(check_bounds=False).sample(200, random_seed=1)
        mu = np.asarray(drawn["posterior"]["mu"])
        log_p = np.asarray(drawn["sample_stats"]["log_p"])
        with np.errstate(invalid="ignore"):
            terms = [-0.5 * (y / mu) ** 2 - np.log(mu * np.sqrt(2 * np.pi)) for y in (1.0, 2.0)]
        np.testing.assert_allclose(log_p, norm.logpdf(mu) + sum(terms), rtol=1e-10)

    def test_training_skips_it(self) -> None:
        inference = pmf.NFVI(self.approx())
        inference.fit(200, obj_n_mc=2, **FAST)
        assert 0 < inference.skipped == np.isposinf(inference.hist).sum() < 200


class TestExceptions:
    @both
    def test_a_callbacks_arrives_unchanged_after_the_state_is_kept(
        self, length: dict[str, Any]
    ) -> None:
        inference = nfvi()
        error = ZeroDivisionError("mine")

        def fail(approx: object, losses: object, i: int) -> None:
            if i == 15:
                raise error

        with pytest.raises(ZeroDivisionError) as caught:
            inference.fit(**length, callbacks=[fail], **FAST)
        assert caught.value is error
        is_usable(inference, 15)
        assert inference.approx.fit_state is not None
        assert inference.approx.fit_state.ended == "failed"
        inference.refine(5, progressbar=False)
        is_usable(inference, 20)

    @both
    @pytest.mark.parametrize(
        ("error", "ended"),
        [(KeyboardInterrupt, "interrupted"), (StopIteration, "callback")],
        ids=["ctrl-c", "stop"],
    )
    def test_a_callback_may_end_the_fit(
        self, error: type[BaseException], ended: str, length: dict[str, Any]
    ) -> None:
        inference = nfvi()
        approx = inference.fit(**length, callbacks=[stop_at(15, error)], **FAST)
        assert approx is inference.approx
        assert approx.fit_state is not None
        assert approx.fit_state.ended == ended
        is_usable(inference, 15)


def said_to_be_stopped(*, warns: bool) -> Any:
    """A fit that judges itself warns where there was no time to."""
    if not warns:
        return nullcontext()
    return pytest.warns(FitWarning, match=r"stopped before it was judged .*interrupted")


@pytest.mark.slow
class TestCtrlC:
    @both
    @pytest.mark.parametrize("is_signal", [True, False], ids=["signal", "exception"])
    def test_in_compilation(
        self, is_signal: Any, length: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(*args: Any, **kwargs: Any) -> Any:
            if is_signal:
                signal.raise_signal(signal.SIGINT)
            raise KeyboardInterrupt

        inference = nfvi()
        warns = is_signal and not length
        with monkeypatch.context() as patch, said_to_be_stopped(warns=warns):
            patch.setattr(trainer, "compile_loop", interrupt)
            approx = inference.fit(**length, **FAST)
        assert approx.fit_state is not None
        assert approx.fit_state.ended == "interrupted"
        is_usable(inference, 0)
        inference.refine(5, progressbar=False)
        is_usable(inference, 5)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    @both
    def test_in_a_chunk_waits_for_its_end(
        self, length: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        chunks: list[int] = []
        advance = StepLoop.advance

        def interrupted(loop: StepLoop, n: int) -> Any:
            chunks.append(n)
            if len(chunks) == 4:
                signal.raise_signal(signal.SIGINT)
            return advance(loop, n)

        monkeypatch.setattr(StepLoop, "advance", interrupted)
        inference = nfvi()
        with said_to_be_stopped(warns=not length):
            inference.fit(**length, **FAST)
        assert len(chunks) == 4
        is_usable(inference, sum(chunks))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_in_sampling_leaves_the_approximation_as_it_was(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        approx = nfvi().fit(3, **FAST)
        whole = approx.sample(50, random_seed=1)["posterior"]["x"].values

        def interrupt(*_: Any) -> Any:
            signal.raise_signal(signal.SIGINT)

        with monkeypatch.context() as patch:
            patch.setattr(approx._draw_function, "_function", (interrupt, []))
            with pytest.raises(KeyboardInterrupt):
                approx.sample(50, random_seed=1)
        np.testing.assert_array_equal(
            approx.sample(50, random_seed=1)["posterior"]["x"].values, whole
        )

    @pytest.mark.parametrize("where", ["family.functions", "posterior.at_points"])
    def test_in_the_compilation_of_sampling_leaves_nothing_half_done(
        self, where: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        approx = nfvi().approx

        def interrupt(*args: Any, **kwargs: Any) -> Any:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(f"pmflow.{where}.compile_once", interrupt)
            with pytest.raises(KeyboardInterrupt):
                approx.sample(50, random_seed=1)
        assert approx.sample(50, random_seed=1)["posterior"]["x"].shape == (1, 50, 2)
