"""The compiled loop: the same steps on each backend, however many of them go into one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from models import conjugate_normal, gaussian
from pymc.variational.inference import KLqp
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

import pmflow as pmf
from pmflow.errors import NonFiniteError

PYTHON: dict[str, Any] = {"compile_kwargs": {"mode": "FAST_COMPILE"}, "progressbar": False}
DATA = np.random.default_rng(1).normal(2.0, 1.0, size=50)
BACKENDS = ["numba", "c", "jax"]

# the C backend looks for a BLAS that pip does not install; nothing here needs one
pytestmark = pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS")


def settings(backend: str) -> dict[str, Any]:
    if backend == "python":
        return PYTHON
    if backend == "jax":
        pytest.importorskip("jax", reason="jax is an optional extra")
    return {"backend": backend, "progressbar": False}


def inference(flow: str = "scale-loc", **kwargs: Any) -> pmf.NFVI:
    return pmf.NFVI(flow, model=conjugate_normal(DATA, **kwargs), random_seed=1)


class Every:
    """A callback that is due once in so many steps."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.seen: list[int] = []

    def __call__(self, approx: Any, hist: Any, i: int) -> None:
        assert len(hist) == i
        self.seen.append(i)


class TestChunks:
    @pytest.mark.parametrize("backend", BACKENDS)
    def test_the_losses_are_the_same_for_any_chunks(self, backend: str) -> None:
        # 1: a chunk each step; 7: chunks of 7; none: as many steps as the clock allows
        hists = []
        for callbacks in ([lambda a, h, i: None], [Every(7)], []):
            vi = inference("scale-planar-loc")
            vi.fit(300, obj_n_mc=3, callbacks=callbacks, **settings(backend))
            hists.append(vi.hist)
        np.testing.assert_array_equal(hists[0], hists[1])
        np.testing.assert_array_equal(hists[0], hists[2])

    @pytest.mark.parametrize("backend", ["numba", "c"])
    def test_the_loop_does_what_pymcs_own_loop_does(self, backend: str) -> None:
        ours = inference("scale-planar-loc")
        ours.fit(60, obj_n_mc=3, **settings(backend))
        theirs = KLqp(inference("scale-planar-loc").approx)
        theirs.fit(60, obj_n_mc=3, obj_optimizer=pm.adam(learning_rate=0.01), **PYTHON)
        np.testing.assert_allclose(ours.hist, theirs.hist, rtol=1e-9)
        for mine, yours in zip(ours.approx.params, theirs.approx.params, strict=True):
            np.testing.assert_allclose(mine.get_value(), yours.get_value(), rtol=1e-9)

    @pytest.mark.parametrize("backend", BACKENDS)
    def test_every_step_has_draws_of_its_own(self, backend: str) -> None:
        vi = inference()
        vi.fit(350, obj_optimizer=pm.sgd(learning_rate=0.0), **settings(backend))
        vi.refine(650, progressbar=False)
        # of a scale-loc flow at rest the loss is a parabola in one standard normal draw
        assert len(np.unique(vi.hist)) == 1_000
        exact = inference().approx
        stats = exact.sample(20_000, random_seed=2)["sample_stats"]
        terms = (stats["log_q"] - stats["log_p"]).values
        error = 5 * terms.std() / np.sqrt(1_000)
        assert vi.hist.mean() == pytest.approx(terms.mean(), abs=error)
        assert vi.hist.std() == pytest.approx(terms.std(), rel=0.3)

    @pytest.mark.numba
    def test_minibatches_too(self) -> None:
        ours, theirs = inference(batch=10), inference(batch=10)
        ours.fit(40, **settings("numba"))
        theirs.fit(40, **PYTHON)
        np.testing.assert_allclose(ours.hist, theirs.hist, rtol=1e-9)

    @pytest.mark.parametrize("backend", ["python", "numba"])
    def test_a_callback_with_every_is_due_first_and_then_at_multiples(self, backend: str) -> None:
        callback = Every(40)
        vi = inference()
        vi.fit(100, callbacks=[callback], **settings(backend))
        vi.refine(30, progressbar=False)
        assert callback.seen == [1, 40, 80, 101, 120]

    def test_pymcs_convergence_check_stops_as_in_pymcs_loop(self) -> None:
        check = {"every": 20, "tolerance": 0.2, "diff": "absolute"}
        ours, theirs = inference(), KLqp(inference().approx)
        rate = {"obj_optimizer": pm.sgd(learning_rate=1e-3)}
        for vi in (ours, theirs):
            callback = pm.variational.callbacks.CheckParametersConvergence(**check)
            vi.fit(2_000, callbacks=[callback], **rate, **PYTHON)
        assert 20 < len(ours.hist) < 2_000
        # PyMC forgets the loss of the step at which it was stopped
        assert len(ours.hist) == len(theirs.hist) + 1
        np.testing.assert_allclose(ours.hist[:-1], theirs.hist, rtol=1e-9)

    def test_parameters_set_in_a_callback_are_those_of_the_next_step(self) -> None:
        def freeze(approx: Any, hist: Any, i: int) -> None:
            approx.params[0].set_value(np.full_like(approx.params[0].get_value(), -1.0))

        vi = inference()
        tracker = pmf.Tracker(vi)
        optimizer = pm.sgd(learning_rate=0.01)
        vi.fit(5, obj_optimizer=optimizer, callbacks=[tracker, freeze], **PYTHON)
        np.testing.assert_allclose(
            tracker["rho_0"][1:], -1.0 - 0.01 * tracker["grad_rho_0"][1:], rtol=1e-12
        )

    @pytest.mark.slow
    def test_a_fit_stopped_by_a_callback_can_go_on(self) -> None:
        def stop(approx: Any, hist: Any, i: int) -> None:
            if i in (1, 5):
                raise StopIteration

        whole, parts = inference(), inference()
        whole.fit(9, **PYTHON)
        parts.fit(9, callbacks=[stop], **PYTHON)
        assert len(parts.hist) == 1
        parts.refine(8, progressbar=False)
        assert len(parts.hist) == 5
        parts.refine(4, progressbar=False)
        np.testing.assert_array_equal(whole.hist, parts.hist)


OPTIMIZERS = [
    *(pm.adadelta, pm.adagrad, pm.adagrad_window, pm.adam, pm.adamax),
    *(pm.momentum, pm.nesterov_momentum, pm.rmsprop, pm.sgd),
]


class TestOptimizers:
    @pytest.mark.slow
    @pytest.mark.parametrize("make", OPTIMIZERS, ids=lambda make: make.__name__)
    def test_one_vector_gives_what_separate_parameters_give(self, make: Any) -> None:
        # wrapped, an optimiser is not known to work on each number alone
        wrapped = lambda grads, params: make(learning_rate=0.01)(grads, params)  # noqa: E731
        vector, separate = inference("scale-planar-loc"), inference("scale-planar-loc")
        vector.fit(30, obj_optimizer=make(learning_rate=0.01), **PYTHON)
        separate.fit(30, obj_optimizer=wrapped, **PYTHON)
        np.testing.assert_allclose(vector.hist, separate.hist, rtol=1e-9)
        for one, other in zip(vector.approx.params, separate.approx.params, strict=True):
            np.testing.assert_allclose(one.get_value(), other.get_value(), rtol=1e-9)

    def test_an_optimiser_may_mix_parameters(self) -> None:
        def normalized(grads: list[Any], params: list[Any]) -> dict[Any, Any]:
            norm = pt.sqrt(sum((g**2).sum() for g in grads))
            return {p: p - 0.1 * g / norm for p, g in zip(params, grads, strict=True)}

        vi = inference("scale-planar-loc")
        tracker = pmf.Tracker(vi)
        vi.fit(10, obj_optimizer=normalized, callbacks=[tracker], **PYTHON)
        values = [v for n, v in tracker.hist.items() if not n.startswith("grad_")]
        path = np.concatenate([v.reshape(10, -1) for v in values], axis=1)
        lengths = np.linalg.norm(np.diff(path, axis=0), axis=1)
        np.testing.assert_allclose(lengths, 0.1, rtol=1e-6)

    def test_a_parameter_may_be_updated_by_hand(self) -> None:
        vi = inference()
        loc = vi.approx.params[1]
        before = loc.get_value()
        vi.fit(4, more_updates={loc: loc + 1.0}, **PYTHON)
        np.testing.assert_allclose(loc.get_value(), before + 4)


class TestReuse:
    def test_another_learning_rate_needs_no_compilation(self, compilations: list[Any]) -> None:
        vi = inference()
        vi.fit(3, obj_optimizer=pm.sgd(learning_rate=0.1), **PYTHON)
        tracker = pmf.Tracker(vi)
        vi.fit(3, obj_optimizer=pm.sgd(learning_rate=0.01), **PYTHON)
        assert len(compilations) == 1
        vi.fit(5, obj_optimizer=pm.sgd(learning_rate=0.01), callbacks=[tracker], **PYTHON)
        vi.fit(5, obj_optimizer=pm.sgd(learning_rate=0.03), callbacks=[tracker], **PYTHON)
        assert len(compilations) == 2  # one that records
        np.testing.assert_allclose(
            np.diff(tracker["loc_1"][5:], axis=0), -0.03 * tracker["grad_loc_1"][6:], rtol=1e-9
        )

    def test_a_second_fit_has_a_fresh_optimiser_and_fresh_draws(
        self, compilations: list[Any]
    ) -> None:
        reused, anew = inference(), inference()
        reused.fit(5, **PYTHON)
        reused.fit(5, **PYTHON)
        assert len(compilations) == 1
        anew.fit(5, **PYTHON)
        anew._trainer._loops.clear()
        anew.fit(5, **PYTHON)
        assert len(compilations) == 3
        np.testing.assert_array_equal(reused.hist, anew.hist)
        assert not np.allclose(reused.hist[:5], reused.hist[5:])

    @pytest.mark.parametrize(
        "change",
        [{"obj_n_mc": 2}, {"obj_optimizer": pm.sgd}, {"total_grad_norm_constraint": 1.0}],
        ids=lambda change: next(iter(change)),
    )
    def test_other_settings_are_compiled(
        self, compilations: list[Any], change: dict[str, Any]
    ) -> None:
        vi = inference()
        vi.fit(2, **PYTHON)
        vi.fit(2, **change, **PYTHON)
        assert len(compilations) == 2

    def test_no_steps_need_no_compilation(self, compilations: list[Any]) -> None:
        vi = inference()
        vi.fit(0, **PYTHON)
        assert not compilations
        vi.refine(2, progressbar=False)
        assert len(vi.hist) == 2

    @pytest.mark.parametrize("backend", ["python", "jax"])
    def test_data_of_another_length_are_compiled_anew(
        self, compilations: list[Any], backend: str
    ) -> None:
        with pm.Model() as model:
            data = pm.Data("data", DATA)
            mu = pm.Normal("mu", 0.0, 2.0)
            pm.Normal("y", mu, 1.0, observed=data)
        vi = pmf.NFVI("scale-loc", model=model, random_seed=1)
        vi.fit(2, **settings(backend))
        data.set_value(DATA + 1.0)
        vi.fit(2, **settings(backend))
        assert len(compilations) == 1
        data.set_value(np.repeat(DATA, 2) + 100.0)
        vi.fit(2, **settings(backend))
        assert len(compilations) == 2
        assert vi.hist[-1] > 100 * vi.hist[0]  # the new data are far from the prior


class TestFailures:
    @staticmethod
    def failing(at: int, lasting: int) -> tuple[pmf.NFVI, dict[Any, Any]]:
        """A loss that is NaN at some steps, counted by an update of its own."""
        count = pytensor.shared(0, "count")
        with pm.Model() as model:
            mu = pm.Normal("mu")
            is_bad = (count >= at) & (count < at + lasting)
            pm.Potential("trap", pt.switch(is_bad, np.nan, 0.0) * mu)
        return pmf.NFVI("scale-loc", model=model, random_seed=1), {count: count + 1}

    @pytest.mark.parametrize("backend", ["python", *BACKENDS])
    def test_failed_steps_change_nothing_and_are_counted(self, backend: str) -> None:
        vi, count = self.failing(20, 7)
        tracker = pmf.Tracker(vi)
        vi.fit(40, more_updates=count, callbacks=[tracker], **settings(backend))
        assert vi.skipped == 7
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(vi.hist)), np.arange(20, 27))
        moved = np.flatnonzero(np.diff(tracker["loc_1"][:, 0])) + 1
        np.testing.assert_array_equal(moved, [*range(1, 20), *range(27, 40)])

    @pytest.mark.parametrize("backend", ["python", *BACKENDS])
    @pytest.mark.parametrize("callbacks", [[], [lambda a, h, i: None]], ids=["chunks", "steps"])
    def test_a_hundred_in_a_row_end_the_fit_there(
        self, backend: str, callbacks: list[Callable[..., Any]]
    ) -> None:
        # the model recovers at step 250, which a chunk that ran on would reach
        vi, count = self.failing(50, 200)
        with pytest.raises(NonFiniteError, match="from step 51 on") as caught:
            vi.fit(1_000, more_updates=count, callbacks=callbacks, **settings(backend))
        assert caught.value.step == 51
        assert len(vi.hist) == 150
        assert vi.skipped == 100
        assert all(np.isfinite(p.get_value()).all() for p in vi.approx.params)

    @pytest.mark.slow
    def test_a_parameter_out_of_range_is_an_infinite_loss(self) -> None:
        # PyMC checks sigma > 0: an error in a compiled loop, unless rewritten before
        with pm.Model() as model:
            mu = pm.Normal("mu")
            pm.Normal("y", 0.0, mu, observed=1.0)
        vi = pmf.NFVI("scale-loc", model=model, random_seed=1, start={"mu": 1.0})
        vi.fit(200, **settings("numba"))
        assert 0 < vi.skipped < 200
        assert np.isposinf(vi.hist[~np.isfinite(vi.hist)]).all()


class Twice(Op):
    """A user's Op in Python, which JAX can't convert."""

    def make_node(self, x: Any) -> Apply:
        x = pt.as_tensor(x)
        return Apply(self, [x], [x.type()])

    def perform(self, node: Apply, inputs: list[Any], output_storage: list[Any]) -> None:
        output_storage[0][0] = np.asarray(2 * inputs[0])

    def infer_shape(self, node: Apply, shapes: list[Any]) -> list[Any]:
        return shapes

    def pullback(self, inputs: list[Any], outputs: list[Any], cotangents: list[Any]) -> list[Any]:
        return [2 * cotangents[0]]


@pytest.mark.filterwarnings("ignore:Numba will use object mode")
@pytest.mark.jax
def test_what_jax_cannot_compile_goes_on_elsewhere_with_a_warning() -> None:
    pytest.importorskip("jax", reason="jax is an optional extra")
    with pm.Model() as model:
        mu = pm.Normal("mu", shape=2)
        pm.Normal("y", Twice()(mu), 1.0, observed=[2.0, 4.0])
    ours = pmf.NFVI("scale-loc", model=model, random_seed=1)
    with pytest.warns(UserWarning, match=r"can't be compiled by jax \(NotImpl.*goes on with numba"):
        ours.fit(20, **settings("jax"))
    theirs = pmf.NFVI("scale-loc", model=model, random_seed=1)
    theirs.fit(20, **PYTHON)
    np.testing.assert_allclose(ours.hist, theirs.hist, rtol=1e-9)


def test_what_nothing_can_run_is_the_error_of_the_first_attempt() -> None:
    class Broken(Twice):
        def perform(self, node: Apply, inputs: list[Any], output_storage: list[Any]) -> None:
            raise ValueError("broken on purpose")

    with pm.Model() as model:
        mu = pm.Normal("mu", shape=2)
        pm.Normal("y", Broken()(mu), 1.0, observed=[2.0, 4.0])
    with pytest.raises(ValueError, match="broken on purpose"):
        pmf.NFVI("scale-loc", model=model, random_seed=1).fit(2, **PYTHON)


def test_a_recording_costs_no_more_than_its_share_of_memory() -> None:
    model = gaussian([0.0, 1.0], [[2.0, -1.0], [-1.0, 3.0]])
    vi = pmf.NFVI("planar*2", model=model, random_seed=1)
    vi.fit(1, callbacks=[pmf.Tracker(vi)], **PYTHON)
    loop = vi._trainer._loops[-1][1]
    assert loop is not None
    assert loop.most_steps * 2 * loop.step.size * 8 < 2**26
