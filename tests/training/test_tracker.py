"""Tracker: the parameters and gradients of every step."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pymc as pm
import pytest
from models import gaussian

import pmflow as pmf
from pmflow.errors import ParameterError

FAST: dict[str, Any] = {"compile_kwargs": {"mode": "FAST_COMPILE"}, "progressbar": False}


@pytest.fixture
def inference() -> pmf.NFVI:
    model = gaussian([0.0, 1.0], [[2.0, -1.0], [-1.0, 3.0]])
    return pmf.NFVI("planar*2", model=model, random_seed=1)


def test_names_are_those_of_the_parameters_by_layer(inference: pmf.NFVI) -> None:
    assert pmf.Tracker(inference).watched_names == (
        *("b_0", "u_0", "w_0", "b_1", "u_1", "w_1"),
        *("grad_b_0", "grad_u_0", "grad_w_0", "grad_b_1", "grad_u_1", "grad_w_1"),
    )


def test_parameters_are_those_after_the_step(inference: pmf.NFVI) -> None:
    tracker = pmf.Tracker(inference)
    seen: list[np.ndarray] = []
    follow = lambda approx, h, i: seen.append(approx.params[1].get_value())  # noqa: E731
    inference.fit(4, callbacks=[tracker, follow], **FAST)
    np.testing.assert_array_equal(tracker["u_0"], seen)


def test_gradients_are_those_the_step_used(inference: pmf.NFVI) -> None:
    tracker = pmf.Tracker(inference)
    start = [p.get_value() for p in inference.approx.params]
    inference.fit(5, obj_optimizer=pm.sgd(learning_rate=0.1), callbacks=[tracker], **FAST)
    for name, before in zip(("b_0", "u_0", "w_0"), start, strict=False):
        path = np.concatenate([before[None], tracker[name]])
        np.testing.assert_allclose(
            np.diff(path, axis=0), -0.1 * tracker[f"grad_{name}"], atol=1e-12
        )


@pytest.mark.slow
def test_every_thins_the_record(inference: pmf.NFVI) -> None:
    all_steps, some = pmf.Tracker(inference), pmf.Tracker(inference, every=3)
    inference.fit(10, callbacks=[all_steps, some], **FAST)
    assert some.steps == [3, 6, 9]
    np.testing.assert_array_equal(some["w_1"], all_steps["w_1"][[2, 5, 8]])


@pytest.mark.slow
def test_gradients_can_be_left_out(inference: pmf.NFVI) -> None:
    tracker = pmf.Tracker(inference, gradients=False)
    inference.fit(2, callbacks=[tracker], **FAST)
    assert not [name for name in tracker.hist if name.startswith("grad")]


def test_refine_goes_on_recording(inference: pmf.NFVI) -> None:
    tracker = pmf.Tracker(inference)
    inference.fit(3, callbacks=[tracker], **FAST)
    inference.refine(2, progressbar=False)
    assert tracker["u_0"].shape == (5, 2)
    assert tracker.steps == [1, 2, 3, 4, 5]


def test_pymc_style_callables_are_recorded_without_an_inference(inference: pmf.NFVI) -> None:
    tracker = pmf.Tracker(time=time.time, loss=lambda approx, hist, i: hist[-1], two=lambda: 2)
    inference.fit(3, callbacks=[tracker], **FAST)
    assert tracker["loss"] == list(inference.hist)
    assert tracker["two"] == [2, 2, 2]
    assert tracker["time"] == sorted(tracker["time"])


def test_an_exception_of_a_statistic_reaches_the_user_unchanged(inference: pmf.NFVI) -> None:
    def broken() -> None:
        raise LookupError("mine")

    tracker = pmf.Tracker(broken=broken)
    with pytest.raises(LookupError, match=r"^'?mine'?$") as caught:
        inference.fit(3, callbacks=[tracker], **FAST)
    assert caught.value.__cause__ is None


@pytest.mark.slow
def test_a_failing_statistic_is_called_once(inference: pmf.NFVI) -> None:
    calls: list[tuple[object, ...]] = []

    def broken(*args: object) -> None:
        calls.append(args)
        raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        inference.fit(3, callbacks=[pmf.Tracker(broken=broken)], **FAST)
    assert len(calls) == 1


def test_the_dataset_is_labelled_by_step(inference: pmf.NFVI) -> None:
    tracker = pmf.Tracker(inference, every=2, loss=lambda approx, hist, i: hist[-1])
    inference.fit(6, callbacks=[tracker], **FAST)
    dataset = tracker.to_dataset()
    assert dataset["step"].values.tolist() == [2, 4, 6]
    assert dataset["u_0"].dims == ("step", "u_0_dim_0")
    assert dataset["b_1"].dims == ("step",)
    np.testing.assert_array_equal(dataset["loss"], inference.hist[[1, 3, 5]])


def test_clear_forgets(inference: pmf.NFVI) -> None:
    tracker = pmf.Tracker(inference, two=lambda: 2)
    inference.fit(2, callbacks=[tracker], **FAST)
    tracker.clear()
    assert tracker["u_0"].shape[0] == len(tracker["two"]) == len(tracker.steps) == 0


def test_an_untracked_name_lists_the_tracked_ones(inference: pmf.NFVI) -> None:
    with pytest.raises(KeyError, match="'u_9' is not tracked; tracked are: b_0, u_0"):
        _ = pmf.Tracker(inference)["u_9"]


def test_a_tracker_of_another_inference_is_refused(inference: pmf.NFVI) -> None:
    other = pmf.NFVI("planar*2", model=inference.approx.model, random_seed=2)
    with pytest.raises(ParameterError, match="belongs to another inference"):
        inference.fit(3, callbacks=[pmf.Tracker(other)], **FAST)


BAD = {
    "every 0": ({"every": 0}, "every must be an integer >= 1, but is 0"),
    "not callable": ({"x": 3}, "The statistic 'x' must be callable, but is 3"),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_bad_arguments_are_refused(case: tuple[dict[str, Any], str]) -> None:
    arguments, message = case
    with pytest.raises(ParameterError, match=message):
        pmf.Tracker(**arguments)


def test_a_statistic_can_not_take_the_name_of_a_parameter(inference: pmf.NFVI) -> None:
    with pytest.raises(ParameterError, match="name of a parameter"):
        pmf.Tracker(inference, u_0=lambda: 1)


def test_pymc_inferences_are_refused_with_the_remedy() -> None:
    with pm.Model():
        pm.Normal("x")
        advi = pm.ADVI()
    with pytest.raises(ParameterError, match="must be an NFVI, but is of type ADVI"):
        pmf.Tracker(advi)
