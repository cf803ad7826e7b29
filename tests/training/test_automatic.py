"""A fit without a number of steps, as the inference runs it: how it ended, what is kept."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pymc as pm
import pytest
from models import conjugate_normal, gaussian

import pmflow as pmf
from pmflow.errors import FitWarning, NonFiniteError

pytestmark = pytest.mark.slow

SHORT = pmf.ScheduleSettings(rates=(0.03,), trial=5, window=20, most_windows=3, stages=1)
PYTHON: dict[str, Any] = {"compile_kwargs": {"mode": "FAST_COMPILE"}, "progressbar": False}
QUICK: dict[str, Any] = {"schedule": SHORT, **PYTHON}


@pytest.fixture
def inference() -> Iterator[pmf.NFVI]:
    found = pmf.NFVI(
        "scale-loc", model=gaussian([1.0, 2.0], [[1.0, 0.0], [0.0, 4.0]]), random_seed=1
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        yield found


def state(inference: pmf.NFVI) -> pmf.FitState:
    assert inference.approx.fit_state is not None
    return inference.approx.fit_state


def test_at_the_limit_of_its_schedule_it_says_so(inference: pmf.NFVI) -> None:
    inference.fit(**QUICK)
    found = state(inference)
    assert found.ended == "limit"
    assert found.steps == len(inference.hist) == 1 + 5 + 60
    assert "limit of its schedule" in str(found)
    assert found.message.startswith("ELBO ")


def test_without_score_the_steps_are_counted_and_the_fit_is_the_same(inference: pmf.NFVI) -> None:
    inference.fit(score=False, **QUICK)
    assert inference.hist.shape == (0,)
    assert state(inference).steps == 66
    other = pmf.NFVI("scale-loc", model=inference.approx.model, random_seed=1)
    other.fit(**QUICK)
    for one, two in zip(inference.approx.params, other.approx.params, strict=True):
        np.testing.assert_array_equal(one.get_value(), two.get_value())


@pytest.mark.parametrize(
    ("error", "ended"), [(KeyboardInterrupt, "interrupted"), (StopIteration, "callback")]
)
@pytest.mark.parametrize("at", [1, 4, 30])
def test_what_ends_it_early(
    inference: pmf.NFVI, error: type[BaseException], ended: str, at: int
) -> None:
    def stop(approx: object, losses: object, step: int) -> None:
        if step == at:
            raise error("enough")

    inference.fit(callbacks=[stop], **QUICK)
    assert state(inference).ended == ended
    assert state(inference).steps == at
    assert all(np.isfinite(p.get_value()).all() for p in inference.approx.params)


def test_losses_that_are_never_finite_are_a_failure() -> None:
    with pm.Model() as model:
        x = pm.Normal("x")
        pm.Potential("nowhere", -np.inf + 0 * x)
    inference = pmf.NFVI("scale-loc", model=model, random_seed=1)
    with pytest.raises(NonFiniteError):
        inference.fit(200, **PYTHON)
    assert state(inference).ended == "failed"
    assert state(inference).steps == 0  # refused before the first one


def test_refine_counts_its_own_steps(inference: pmf.NFVI) -> None:
    inference.fit(5, **PYTHON)
    assert state(inference).ended == "steps"
    inference.refine(3, progressbar=False)
    assert state(inference).steps == 3
    assert len(inference.hist) == 8


def test_a_tracker_sees_every_step(inference: pmf.NFVI) -> None:
    tracker = pmf.Tracker(inference)
    inference.fit(callbacks=[tracker], total_grad_norm_constraint=1.0, **QUICK)
    assert tracker["loc_1"].shape == (66, 2)


def test_data_may_be_named_as_the_handles_are() -> None:
    with pm.Model() as model:
        rate, average = pm.Data("learning_rate", 3.0), pm.Data("average", [1.0, 2.0])
        pm.Normal("x", rate * average, 1.0, shape=2)
    inference = pmf.NFVI("scale-loc", model=model, random_seed=1)
    inference.fit(verdict=False, **QUICK)
    assert float(model["learning_rate"].get_value()) == 3.0
    np.testing.assert_array_equal(model["average"].get_value(), [1.0, 2.0])


def test_minibatches(inference: pmf.NFVI) -> None:
    data = np.random.default_rng(1).normal(3, 1, size=40)
    finals = []
    for _ in range(2):
        found = pmf.NFVI("scale-loc", model=conjugate_normal(data, batch=8), random_seed=1)
        found.fit(**QUICK)
        finals.append(found.approx.params[0].get_value())
    np.testing.assert_array_equal(*finals)


def test_a_fit_that_is_not_good_warns(inference: pmf.NFVI) -> None:
    model = gaussian([0.0, 0.0], [[1.0, 0.95], [0.95, 1.0]])
    narrow = pmf.NFVI("scale-loc", model=model, random_seed=1)
    with pytest.warns(FitWarning, match="The fit is not reliable|usable after"):
        narrow.fit(**QUICK)
