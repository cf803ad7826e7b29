"""Draws of a step in chunks: the same losses, parameters and random numbers in less memory."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from models import conjugate_normal, gaussian

import pmflow as pmf
from pmflow.errors import ParameterError

PYTHON: dict[str, Any] = {"compile_kwargs": {"mode": "FAST_COMPILE"}, "progressbar": False}
DATA = np.random.default_rng(1).normal(2.0, 1.0, size=50)

# the C backend looks for a BLAS that pip does not install; nothing here needs one
pytestmark = pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS")


def fitted(
    chunk: int | None,
    *,
    flow: str = "scale-planar-loc",
    model: pm.Model | None = None,
    batch: int | None = 10,
    made: dict[str, Any] | None = None,
    **settings: Any,
) -> pmf.NFVI:
    model = model or conjugate_normal(DATA, batch=batch)
    vi = pmf.NFVI(flow, model=model, random_seed=1, **(made or {}))
    vi.fit(**{"n": 12, "obj_n_mc": 12, "chunk_draws": chunk, **PYTHON, **settings})
    return vi


def numbers(vi: pmf.NFVI) -> np.ndarray:
    return np.concatenate([p.get_value().ravel() for p in vi.approx.params])


def assert_same(one: pmf.NFVI, other: pmf.NFVI) -> None:
    np.testing.assert_allclose(one.hist, other.hist, rtol=1e-8)
    np.testing.assert_allclose(numbers(one), numbers(other), rtol=1e-8, atol=1e-10)
    assert one.skipped == other.skipped


def two_groups() -> pmf.Approximation:
    with pm.Model() as model:
        x = pm.Normal("x", shape=2)
        y = pm.Normal("y", x.sum(), 1.0)
        pm.Normal("seen", y, 1.0, observed=[0.5, 1.0])
    groups = [
        pmf.Group([x], "planar-scale-loc", model=model, random_seed=1),
        pmf.Group(None, "mf", model=model, random_seed=2),
    ]
    return pmf.Approximation(groups, model=model)


@pytest.mark.slow
class TestTheSame:
    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"batch": None},
            {"estimator": "path"},
            {"qmc": True, "obj_n_mc": 16},
            {"total_grad_norm_constraint": 0.05},
            {"obj_optimizer": pm.adagrad_window(learning_rate=0.02)},
            {"made": {"base": "student_t"}},
            {"made": {"frame": pmf.Frame(np.array([2.0]), np.array([0.1]))}},
            {"made": {"beta": 0.3}, "batch": None},
            {"anneal": True, "n": 2, "batch": None},
        ],
        ids=lambda settings: "-".join(settings) or "default",
    )
    def test_with_chunks_and_without(self, settings: dict[str, Any]) -> None:
        assert_same(fitted(4, **settings), fitted(None, **settings))

    @pytest.mark.parametrize("chunk", [1, 2, 6])
    def test_whatever_their_length(self, chunk: int) -> None:
        assert_same(fitted(chunk), fitted(None))

    @pytest.mark.parametrize(
        ("backend", "draws"), [("numba", {}), ("c", {"qmc": True})], ids=["numba", "c, qmc"]
    )
    def test_compiled(self, backend: str, draws: dict[str, Any]) -> None:
        settings = draws | {"backend": backend, "compile_kwargs": None, "flow": "scale-loc"}
        parts = fitted(3, **settings)
        assert_same(parts, fitted(None, **settings))
        assert_same(parts, fitted(3, flow="scale-loc", **draws))

    @pytest.mark.jax
    def test_on_jax_a_sobol_set_is_the_same(self) -> None:
        pytest.importorskip("jax", reason="jax is an optional extra")
        settings: dict[str, Any] = {"backend": "jax", "compile_kwargs": None, "qmc": True}
        settings |= {"flow": "scale-loc", "batch": None}
        assert_same(fitted(4, **settings), fitted(None, **settings))

    @pytest.mark.jax
    def test_on_jax_other_draws_of_the_same_law(self) -> None:
        pytest.importorskip("jax", reason="jax is an optional extra")
        rest: dict[str, Any] = {
            "n": 400,
            "obj_optimizer": pm.sgd(learning_rate=0.0),
            "flow": "scale-loc",
        }
        rest |= {"backend": "jax", "compile_kwargs": None, "batch": None}
        parts, whole = fitted(3, **rest).hist, fitted(None, **rest).hist
        assert len(np.unique(parts)) == 400
        error = np.hypot(parts.std(), whole.std()) / np.sqrt(400)
        assert parts.mean() == pytest.approx(whole.mean(), abs=4 * error)
        assert parts.std() == pytest.approx(whole.std(), rel=0.25)

    def test_several_groups(self) -> None:
        fits = []
        for chunk in (4, None):
            vi = pmf.NFVI(two_groups())
            vi.fit(12, obj_n_mc=12, chunk_draws=chunk, **PYTHON)
            fits.append(vi)
        assert_same(*fits)

    def test_what_a_tracker_sees(self) -> None:
        seen = []
        for chunk in (4, None):
            vi = pmf.NFVI("planar-loc", model=conjugate_normal(DATA), random_seed=1)
            tracker = pmf.Tracker(vi)
            vi.fit(9, obj_n_mc=12, chunk_draws=chunk, callbacks=[tracker], **PYTHON)
            seen.append(tracker["grad_u_0"])
        assert len(seen[0]) == 9
        np.testing.assert_allclose(seen[0], seen[1], rtol=1e-8)

    def test_one_bad_draw_spoils_the_step_not_the_fit(self) -> None:
        with pm.Model() as model:
            x = pm.Normal("x")
            pm.Potential("hole", pt.switch(x > 1.8, np.nan, 0.0))
        fits = [fitted(chunk, model=model, flow="loc", n=40) for chunk in (4, None)]
        np.testing.assert_array_equal(np.isnan(fits[0].hist), np.isnan(fits[1].hist))
        assert 0 < fits[0].skipped < 40
        assert_same(*fits)

    def test_data_of_another_length(self) -> None:
        fits = []
        for chunk in (4, None):
            with pm.Model() as model:
                mu = pm.Normal("mu")
                pm.Normal("y", mu, 1.0, observed=pm.Data("data", DATA))
            vi = pmf.NFVI("scale-loc", model=model, random_seed=1)
            for length in (50, 7, 7):
                with model:
                    pm.set_data({"data": DATA[:length]})
                vi.fit(5, obj_n_mc=12, chunk_draws=chunk, **PYTHON)
            fits.append(vi)
        assert_same(*fits)

    def test_large_data_are_passed_not_embedded(self) -> None:
        vi = fitted(4, model=conjugate_normal(np.linspace(-1, 1, 2**16)), n=2)
        loop = vi._trainer._loops[-1][1]
        assert loop is not None
        assert 2**16 in [np.size(v.get_value()) for v in loop.step.constants]

    def test_a_fit_that_chooses_its_steps(self) -> None:
        fits = []
        for chunk in (16, None):
            vi = pmf.NFVI("scale-loc", model=conjugate_normal(DATA), random_seed=1)
            short = pmf.ScheduleSettings(
                rates=(0.03,), trial=10, window=20, most_windows=2, stages=1
            )
            vi.fit(chunk_draws=chunk, schedule=short, verdict=False, **PYTHON)
            fits.append(vi)
        assert_same(*fits)


class TestChunkDraws:
    def test_as_many_as_there_are_is_no_chunk(self, compilations: list[Any]) -> None:
        vi = fitted(None)
        for chunk in (12, 1000):
            vi.fit(3, obj_n_mc=12, chunk_draws=chunk, **PYTHON)
        assert len(compilations) == 1
        vi.fit(3, obj_n_mc=12, chunk_draws=6, **PYTHON)
        assert len(compilations) == 2

    @pytest.mark.parametrize(
        ("draws", "chunk", "says"),
        [
            (100, 30, r"divide obj_n_mc=100.*is 30. Give chunk_draws=25 or 50, or obj_n_mc=120"),
            (7, 2, "chunk_draws=1 or 7, or obj_n_mc=8"),
            (10**30 + 1, 10**29, "must divide"),
        ],
    )
    def test_only_a_divisor(self, draws: int, chunk: int, says: str) -> None:
        with pytest.raises(ParameterError, match=says):
            fitted(chunk, obj_n_mc=draws)

    @pytest.mark.slow
    def test_a_mixture_needs_two_draws_to_compare(self) -> None:
        with pytest.raises(ParameterError, match=r"chunk_draws=1 is not for a mixture.*2 at least"):
            fitted(1, made={"base": "mixture"})
        fitted(1, made={"base": "mixture[trained=false]"}, n=2)

    @pytest.mark.slow
    def test_the_weights_of_a_mixture_are_trained_without_bias(self) -> None:
        # gradients at rest
        means, errors = [], []
        for chunk in (4, None):
            model = gaussian([0.3, 0.0], [[1.0, 0.5], [0.5, 1.0]])
            vi = pmf.NFVI("loc", model=model, random_seed=1, base="mixture[k=2]")
            tracker = pmf.Tracker(vi)
            settings = {"obj_optimizer": pm.sgd(learning_rate=0.0), "callbacks": [tracker]}
            vi.fit(200, obj_n_mc=16, chunk_draws=chunk, **settings, **PYTHON)
            (name,) = [n for n in vi.watched_names if n.startswith("grad") and "logits" in n]
            gradients = np.asarray(tracker[name])
            means.append(gradients.mean(0))
            errors.append(gradients.std(0) / np.sqrt(200))
        assert np.all(np.abs(means[0]) > 3 * errors[0])
        assert np.all(np.abs(means[0] - means[1]) < 4 * np.hypot(*errors))


@pytest.mark.slow
def test_memory_is_that_of_a_chunk() -> None:
    with pm.Model() as model:
        pm.Normal("x", shape=20)
    peaks = []
    for chunk in (1_000, None):
        vi = fitted(chunk, model=model, flow="planar-scale-loc", n=1, obj_n_mc=50_000)
        tracemalloc.start()
        vi.refine(2, progressbar=False)
        peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
        tracemalloc.stop()
    assert peaks[1] > 15  # one array of all draws has 7.6 MiB
    assert peaks[0] < 2
