"""NFVI and fit: what PyMC's inference objects promise, and what they get wrong today.

Defects are numbered as in the list kept with the project's design (D1 ...).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from models import conjugate_normal, eight_schools, gaussian
from pymc.variational import callbacks

import pmflow as pmf
from pmflow.errors import BackendError, FormulaError, NonFiniteError, ParameterError

FAST: dict[str, Any] = {"compile_kwargs": {"mode": "FAST_COMPILE"}, "progressbar": False}


@pytest.fixture
def model() -> pm.Model:
    return gaussian([0.0, 1.0], [[2.0, -1.0], [-1.0, 3.0]])


@pytest.fixture
def inference(model: pm.Model) -> pmf.NFVI:
    return pmf.NFVI("scale-loc", model=model, random_seed=1)


def params_of(inference: pmf.NFVI) -> list[np.ndarray]:
    return [np.array(p.get_value()) for p in inference.approx.params]


class TestFit:
    def test_fit_returns_the_approximation_it_trained(self, inference: pmf.NFVI) -> None:
        before = params_of(inference)
        approx = inference.fit(5, **FAST)
        assert approx is inference.approx
        assert not np.allclose(before[0], params_of(inference)[0])

    def test_hist_has_one_loss_a_step(self, inference: pmf.NFVI) -> None:
        inference.fit(7, **FAST)
        assert inference.hist.shape == (7,)
        assert np.isfinite(inference.hist).all()

    def test_the_loss_is_the_negative_elbo_before_the_step(self, model: pm.Model) -> None:
        inference = pmf.NFVI("scale-loc", model=model, random_seed=1)
        stats = inference.approx.sample(20_000, random_seed=2)["sample_stats"]
        terms = (stats["log_q"] - stats["log_p"]).values
        inference.fit(1, obj_n_mc=20_000, **FAST)
        # two independent means of 20,000 terms: five standard errors of their difference
        error = 5 * np.sqrt(2) * terms.std() / np.sqrt(20_000)
        assert inference.hist[0] == pytest.approx(terms.mean(), abs=error)

    def test_no_step_is_a_fit_too(self, inference: pmf.NFVI) -> None:
        before = params_of(inference)
        inference.fit(0, **FAST)
        assert inference.hist.shape == (0,)
        np.testing.assert_array_equal(before[0], params_of(inference)[0])

    def test_without_score_there_are_no_losses(self, inference: pmf.NFVI) -> None:
        seen: list[object] = []
        before = params_of(inference)
        inference.fit(3, score=False, callbacks=[lambda a, h, i: seen.append(h)], **FAST)
        assert seen == [None, None, None]
        assert inference.hist.shape == (0,)
        assert not np.allclose(before[0], params_of(inference)[0])

    def test_the_model_is_needed_in_no_context(self, model: pm.Model) -> None:
        approx = pmf.NFVI("planar", model=model, random_seed=1).fit(2, **FAST)
        assert approx.sample(3)["posterior"]["z"].shape == (1, 3, 2)

    def test_pm_fit_takes_the_inference(self, model: pm.Model, inference: pmf.NFVI) -> None:
        with model:
            approx = pm.fit(4, method=inference, **FAST)
        assert approx is inference.approx
        assert approx.hist.shape == (4,)

    @pytest.mark.slow
    def test_beta_weighs_the_divergence_from_the_prior(self) -> None:
        data = np.full(10, 3.0)
        means = []
        for beta in (1.0, 100.0):
            inference = pmf.NFVI(
                "scale-loc", model=conjugate_normal(data), random_seed=1, beta=beta
            )
            inference.fit(1_500, obj_n_mc=20, obj_optimizer=pm.adam(learning_rate=0.02), **FAST)
            means.append(float(inference.approx.mean.eval(mode="FAST_COMPILE")[0]))
        # precision-weighted means: 30 / (10 + 1/4) and 30 / (10 + 100/4)
        np.testing.assert_allclose(means, [30 / 10.25, 30 / 35], atol=0.05)

    def test_the_gradient_norm_is_constrained(self, model: pm.Model) -> None:
        inference = pmf.NFVI("scale-loc", model=model, random_seed=1, start={"z": [50.0, 50.0]})
        tracker = pmf.Tracker(inference)
        inference.fit(3, total_grad_norm_constraint=0.5, callbacks=[tracker], **FAST)
        norms = np.sqrt((tracker["grad_rho_0"] ** 2 + tracker["grad_loc_1"] ** 2).sum(-1))
        np.testing.assert_allclose(norms, 0.5, rtol=1e-5)

    def test_run_profiling_returns_a_profile(self, inference: pmf.NFVI) -> None:
        with pytensor.config.change_flags(mode="FAST_COMPILE"):
            profile = inference.run_profiling(n=3)
        assert profile.fct_callcount == 3

    def test_more_updates_are_carried_out(self, inference: pmf.NFVI) -> None:
        counter = pytensor.shared(0, "counter")
        inference.fit(4, more_updates={counter: counter + 1}, **FAST)
        assert counter.get_value() == 4

    def test_objective_gives_a_loss_graph(self, inference: pmf.NFVI) -> None:
        # as PyMC3's notebook takes gradients by hand
        loss = inference.objective(None)
        grads = pytensor.grad(loss, inference.approx.params)
        assert [g.type.shape for g in grads] == [(2,), (2,)]


class TestSeeds:
    def test_the_same_seed_gives_the_same_losses(self, model: pm.Model) -> None:
        hists = [
            pmf.NFVI("planar*2", model=model, random_seed=3).fit(5, **FAST).hist for _ in range(2)
        ]
        np.testing.assert_array_equal(hists[0], hists[1])

    def test_another_seed_gives_other_losses(self, model: pm.Model) -> None:
        hists = [pmf.NFVI(model=model, random_seed=s).fit(5, **FAST).hist for s in (1, 2)]
        assert not np.allclose(hists[0], hists[1])

    def test_the_global_state_is_neither_read_nor_changed(self, model: pm.Model) -> None:
        np.random.seed(5)  # noqa: NPY002 - the global state is the subject
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        pmf.NFVI("planar", model=model, random_seed=3).fit(2, **FAST).sample(3)
        np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


class TestRefine:
    def test_refine_goes_on_where_fit_ended(self, model: pm.Model) -> None:
        whole = pmf.NFVI(model=model, random_seed=3)
        whole.fit(8, **FAST)
        parts = pmf.NFVI(model=model, random_seed=3)
        parts.fit(5, **FAST)
        parts.refine(3, progressbar=False)
        np.testing.assert_array_equal(whole.hist, parts.hist)

    def test_refine_keeps_counting_and_shows_all_losses(self, inference: pmf.NFVI) -> None:  # D4
        seen: list[tuple[int, int]] = []
        inference.fit(3, callbacks=[lambda a, h, i: seen.append((i, len(h)))], **FAST)
        inference.refine(2, progressbar=False)
        assert seen == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]

    def test_refine_updates_the_history_of_the_approximation(  # D4
        self, inference: pmf.NFVI
    ) -> None:
        inference.fit(3, **FAST)
        inference.refine(2, progressbar=False)
        assert len(inference.approx.hist) == len(inference.hist) == 5

    def test_refine_before_fit_says_so(self, inference: pmf.NFVI) -> None:
        with pytest.raises(ParameterError, match="call `fit` first"):
            inference.refine(3)


def stop_at(step: int, error: type[BaseException]) -> Callable[..., None]:
    def callback(approx: object, losses: object, i: int) -> None:
        if i == step:
            raise error("enough")

    return callback


class TestEnds:
    @pytest.mark.parametrize("error", [StopIteration, KeyboardInterrupt], ids=["stop", "ctrl-c"])
    @pytest.mark.parametrize("n", [5, 50], ids=["short", "long"])
    def test_an_early_end_keeps_every_loss(  # D2: IndexError below 10 steps; D3: last loss lost
        self, inference: pmf.NFVI, error: type[BaseException], n: int
    ) -> None:
        approx = inference.fit(n, callbacks=[stop_at(3, error)], **FAST)
        assert len(inference.hist) == len(approx.hist) == 3
        assert np.isfinite(inference.hist).all()

    def test_an_exception_of_a_callback_arrives_after_the_history_is_kept(
        self, inference: pmf.NFVI
    ) -> None:
        with pytest.raises(ZeroDivisionError, match="enough"):
            inference.fit(9, callbacks=[stop_at(3, ZeroDivisionError)], **FAST)
        assert len(inference.hist) == 3

    def test_an_interrupted_fit_can_be_refined(self, inference: pmf.NFVI) -> None:
        inference.fit(9, callbacks=[stop_at(3, KeyboardInterrupt)], **FAST)
        inference.refine(4, progressbar=False)
        assert len(inference.hist) == 7


def model_with_term(term: Callable[[Any], Any]) -> pm.Model:
    with pm.Model() as model:
        x = pm.Normal("x", shape=2)
        pm.Normal("fine", x.sum(), 1.0, observed=0.3)
        pm.Potential("trouble", term(x))
    return model


class TestNonFinite:
    def test_a_nan_loss_names_the_variable_and_the_step(self) -> None:  # D5
        model = model_with_term(lambda x: pt.log(-1.0 - x[0] ** 2))
        with pytest.raises(NonFiniteError, match=r"'trouble': its log-prob.* is nan") as caught:
            pmf.NFVI(model=model, random_seed=1).fit(500, **FAST)
        assert caught.value.variables == ("trouble",)
        assert caught.value.step == 1

    def test_an_infinite_loss_does_not_run_to_the_end(self) -> None:  # D6
        model = model_with_term(lambda x: pt.switch(x[0] > 1e9, 0.0, -np.inf))
        inference = pmf.NFVI(model=model, random_seed=1)
        with pytest.raises(NonFiniteError, match="'trouble': its log-probability is -inf"):
            inference.fit(5_000, **FAST)
        assert len(inference.hist) == 0

    def test_a_bad_gradient_alone_is_found(self) -> None:
        # the value is 0, its derivative infinity times 0
        model = model_with_term(lambda x: pt.sqrt(pt.maximum(-abs(x[0]), 0.0)))
        with pytest.raises(NonFiniteError, match=r"gradient of .* respect to it is not finite"):
            pmf.NFVI(model=model, random_seed=1).fit(500, **FAST)

    def test_the_last_good_parameters_stay(self) -> None:
        model = model_with_term(lambda x: pt.log(-1.0 - x[0] ** 2))
        inference = pmf.NFVI(model=model, random_seed=1)
        before = params_of(inference)
        with pytest.raises(NonFiniteError):
            inference.fit(500, **FAST)
        for old, new in zip(before, params_of(inference), strict=True):
            np.testing.assert_array_equal(old, new)

    def test_single_bad_steps_are_skipped_and_counted(self) -> None:
        # infinite for about one draw in six, fine otherwise
        model = model_with_term(lambda x: pt.switch(x[0] > 1.0, -np.inf, 0.0))
        inference = pmf.NFVI(model=model, random_seed=1)
        inference.fit(200, **FAST)
        assert inference.skipped == (~np.isfinite(inference.hist)).sum() > 0
        assert all(np.isfinite(p).all() for p in params_of(inference))

    def test_the_optimiser_does_not_see_a_bad_step(self) -> None:
        model = model_with_term(lambda x: pt.switch(x[0] > 1.0, -np.inf, 0.0))
        inference = pmf.NFVI(model=model, random_seed=1)
        tracker = pmf.Tracker(inference)
        inference.fit(100, callbacks=[tracker], **FAST)
        bad = np.flatnonzero(~np.isfinite(inference.hist[1:])) + 1
        np.testing.assert_array_equal(tracker["rho_0"][bad], tracker["rho_0"][bad - 1])


class TestFunctionalForm:
    @pytest.mark.parametrize(
        ("method", "formula"),
        [("nfvi", "scale-loc"), ("NFVI", "scale-loc"), ("nfvi=Planar * 2", "planar*2")],
        ids=["default", "capitals", "formula"],
    )
    def test_nfvi_methods(self, model: pm.Model, method: str, formula: str) -> None:
        approx = pmf.fit(2, method=method, model=model, **FAST)
        assert str(approx.formula) == formula

    def test_inf_kwargs_reach_the_class(self, model: pm.Model) -> None:
        approx = pmf.fit(
            0, model=model, inf_kwargs={"flow": "loc", "jitter": 0.0}, start={"z": [1, 2]}, **FAST
        )
        np.testing.assert_allclose(approx.params[0].get_value(), [1.0, 2.0])

    def test_seed_and_start_reach_the_class(self, model: pm.Model) -> None:
        one, two = (pmf.fit(3, model=model, random_seed=4, **FAST) for _ in range(2))
        np.testing.assert_array_equal(one.hist, two.hist)

    def test_start_sigma_is_where_it_begins(self) -> None:
        with pm.Model() as model:
            pm.Normal("x", shape=2)
            pm.LogNormal("positive")
        sigma: dict[str, Any] = {"x": [0.1, 3.0], "positive": 0.5}
        begin: dict[str, Any] = {"start": {"x": 7.0, "positive": np.exp(2.0)}, "start_sigma": sigma}
        approx = pmf.fit(0, model=model, inf_kwargs={"jitter": 0.0}, **begin, **FAST)
        found = approx.sample(20_000, random_seed=1)
        x = found["posterior"]["x"].values
        np.testing.assert_allclose(x.mean((0, 1)), 7.0, atol=0.1)
        np.testing.assert_allclose(x.std((0, 1)), sigma["x"], rtol=0.03)
        other = np.log(found["posterior"]["positive"].values)
        np.testing.assert_allclose([other.mean(), other.std()], [2.0, 0.5], rtol=0.03)
        with pytest.raises(ParameterError, match=r"start_sigma must give 'x' the shape \(2,\)"):
            pmf.fit(0, model=model, start_sigma={"x": [1.0] * 3}, **FAST)

    def test_start_sigma_goes_to_pymc(self, model: pm.Model) -> None:
        approx = pmf.fit(0, "advi", model, start_sigma={"z": 2.0}, **FAST)
        np.testing.assert_allclose(approx.std.eval(), 2.0)

    def test_other_methods_go_to_pymc(self, model: pm.Model) -> None:
        approx = pmf.fit(3, method="ADVI", model=model, **FAST)
        assert isinstance(approx, pm.MeanField)

    def test_an_inference_can_be_given(self, inference: pmf.NFVI) -> None:
        assert pmf.fit(3, method=inference, **FAST) is inference.approx

    def test_what_can_not_be_honoured_is_refused(self, inference: pmf.NFVI) -> None:  # D13
        with pytest.raises(ParameterError, match="random_seed can't be honoured"):
            pmf.fit(3, method=inference, random_seed=1, **FAST)

    def test_a_formula_given_twice_is_refused(self, model: pm.Model) -> None:
        with pytest.raises(ParameterError, match="formula is given twice"):
            pmf.fit(3, method="nfvi=loc", model=model, inf_kwargs={"flow": "scale"}, **FAST)

    def test_a_wrong_formula_has_its_caret(self, model: pm.Model) -> None:
        with pytest.raises(FormulaError, match=r"Did you mean 'planar'"):
            pmf.fit(3, method="nfvi=panar", model=model, **FAST)


BAD_ARGUMENTS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "negative n": ({"n": -1}, ParameterError, "n must be an integer >= 0, but is -1"),
    "fractional n": ({"n": 1.5}, ParameterError, "n must be an integer"),
    "no draws": ({"obj_n_mc": 0}, ParameterError, "obj_n_mc must be an integer >= 1, but is 0"),
    "draws as text": ({"obj_n_mc": "10"}, ParameterError, "obj_n_mc must be an integer"),
    "norm 0": ({"total_grad_norm_constraint": 0}, ParameterError, "must be a positive number"),
    "backend": ({"backend": "julia"}, BackendError, "one of numba, c, jax, but is 'julia'"),
    "callback": ({"callbacks": [3]}, ParameterError, "callbacks must be callable, but one is 3"),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS.keys())
def test_bad_arguments_are_refused_before_compilation(
    inference: pmf.NFVI,
    case: tuple[dict[str, Any], type[Exception], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pm, "compile", lambda *a, **k: pytest.fail("compiled"))
    arguments, error, message = case
    with pytest.raises(error, match=message):
        inference.fit(**arguments, progressbar=False)


def test_backend_and_mode_together_are_refused(inference: pmf.NFVI) -> None:
    with pytest.raises(ParameterError, match="give only one"):
        inference.fit(3, backend="c", compile_kwargs={"mode": "FAST_COMPILE"})


def test_fixed_parameters_leave_nothing_to_train(model: pm.Model) -> None:
    group = pmf.Group(None, params={0: {"loc": [0.0, 1.0]}}, model=model)
    inference = pmf.NFVI(pmf.Approximation([group], model=model))
    with pytest.raises(ParameterError, match="nothing to train"):
        inference.fit(3, **FAST)


def test_a_mixed_approximation_is_fitted() -> None:
    model = eight_schools()
    groups = [
        pmf.Group([model["tau"], model["mu"]], "planar*2", model=model, random_seed=1),
        pmf.Group(None, "mf", model=model, random_seed=2),
    ]
    inference = pmf.NFVI(pmf.Approximation(groups, model=model))
    tracker = pmf.Tracker(inference)
    inference.fit(4, callbacks=[tracker], **FAST)
    assert tracker["grad_group0_u_1"].shape == (4, 2)
    assert tracker["group1_mu"].shape == (4, 8)


def test_a_quiet_fit_prints_nothing(
    inference: pmf.NFVI, capsys: pytest.CaptureFixture[str]
) -> None:
    inference.fit(3, **FAST)
    assert capsys.readouterr() == ("", "")


def test_the_progress_bar_shows_steps_speed_and_loss(
    inference: pmf.NFVI, capsys: pytest.CaptureFixture[str]
) -> None:
    # what takes less than a second is not worth a line
    wait = [lambda *_: time.sleep(0.5)]
    inference.fit(3, callbacks=wait, compile_kwargs={"mode": "FAST_COMPILE"})
    shown = capsys.readouterr().out
    assert "Fitting" in shown
    assert "3/3" in shown
    assert "steps/s" in shown
    assert "loss" in shown


class TestPymcCallbacks:
    def test_pymc_tracker_works(self, inference: pmf.NFVI) -> None:
        tracker = callbacks.Tracker(
            loc=lambda: inference.approx.params[1].get_value(), step=lambda a, h, i: (i, h[-1])
        )
        inference.fit(3, callbacks=[tracker], **FAST)
        assert [i for i, _ in tracker["step"]] == [1, 2, 3]
        assert [h for _, h in tracker["step"]] == list(inference.hist)
        np.testing.assert_array_equal(tracker["loc"][-1], inference.approx.params[1].get_value())

    def test_check_parameters_convergence_stops_the_fit(self, inference: pmf.NFVI) -> None:
        check = callbacks.CheckParametersConvergence(every=5, tolerance=1e9)
        inference.fit(50, callbacks=[check], **FAST)
        assert len(inference.hist) == 5
