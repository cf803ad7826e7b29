"""What a model may contain: in the compiled loop it gives what PyMC's own loop gives."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pymc.variational.inference import KLqp
from scipy.stats import ks_2samp, mannwhitneyu

import pmflow as pmf
from pmflow.training import step as step_module
from pmflow.training.loops.loop import ScanLoop, StepLoop

PYTHON: dict[str, Any] = {"compile_kwargs": {"mode": "FAST_COMPILE"}, "progressbar": False}
RNG = np.random.default_rng(1)

# PyTensor looks for a BLAS that pip does not install; nothing here needs one
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS"),
]


def counts() -> pm.Model:
    """Data that may be exchanged, discrete observations, a potential, dims."""
    with pm.Model(coords={"group": ["a", "b", "c"]}) as model:
        group = pm.Data("group_of", RNG.integers(0, 3, size=20))
        rate = pm.Normal("rate", 0.0, 1.0, dims="group")
        pm.Poisson("y", pt.exp(rate[group]), observed=RNG.poisson(2.0, size=20))
        pm.Potential("sum", -10 * rate.sum() ** 2)
    return model


def with_scan() -> pm.Model:
    """A recursion written as a scan."""
    with pm.Model() as model:
        a = pm.Normal("a", 0.5, 0.1)
        noise = pm.HalfNormal("noise", 1.0)
        path = pytensor.scan(
            lambda past, a: a * past + 1.0,
            outputs_info=[pt.zeros(())],
            non_sequences=[a],
            n_steps=15,
            return_updates=False,
        )
        pm.Normal("y", path, noise, observed=np.linspace(1.0, 2.0, 15))
    return model


def with_scan_from_a_value() -> pm.Model:
    """A recursion that is joined to its first value: the gradient is a batched split."""
    with pm.Model() as model:
        a = pm.Normal("a", 0.5, 0.1)
        first = pt.constant(1.0, dtype=pytensor.config.floatX)
        later = pytensor.scan(
            lambda past, a: pt.tanh(a) * past + 1.0,
            outputs_info=[first],
            non_sequences=[a],
            n_steps=4,
            return_updates=False,
        )
        path = pt.concatenate([first[None], later])
        pm.Normal("y", path, 1.0, observed=np.linspace(1.0, 2.0, 5))
    return model


def correlated() -> pm.Model:
    """A Cholesky factor, a simplex, and an interval."""
    with pm.Model() as model:
        chol, _, _ = pm.LKJCholeskyCov("chol", n=2, eta=2.0, sd_dist=pm.HalfNormal.dist(1.0))
        shares = pm.Dirichlet("shares", np.ones(3))
        bound = pm.Uniform("bound", 0.0, 4.0)
        pm.MvNormal("y", bound * shares[:2], chol=chol, observed=RNG.normal(size=(10, 2)))
    return model


MODELS: dict[str, Callable[[], pm.Model]] = {
    "counts": counts,
    "scan": with_scan,
    "correlated": correlated,
}


@pytest.mark.parametrize("name", ["counts", "scan"])  # a Cholesky factor takes it two minutes
@pytest.mark.numba
def test_numba_takes_the_steps_of_pymcs_own_loop(name: str) -> None:
    model = MODELS[name]()
    ours = pmf.NFVI("scale-planar-loc", model=model, random_seed=1)
    ours.fit(200, obj_n_mc=5, backend="numba", progressbar=False)
    assert isinstance(ours._trainer._loops[-1][1], ScanLoop)
    theirs = KLqp(pmf.NFVI("scale-planar-loc", model=model, random_seed=1).approx)
    theirs.fit(200, obj_n_mc=5, obj_optimizer=pm.adam(learning_rate=0.01), **PYTHON)
    np.testing.assert_allclose(ours.hist, theirs.hist, rtol=1e-7)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.jax
def test_jax_has_the_same_loss_and_gradients_in_distribution(name: str) -> None:
    # its random numbers are others: the parameters rest, and distributions are compared
    pytest.importorskip("jax", reason="jax is an optional extra")
    model, found = MODELS[name](), []
    for settings in ({"backend": "jax", "progressbar": False}, PYTHON):
        vi = pmf.NFVI("scale-planar-loc", model=model, random_seed=1)
        tracker = pmf.Tracker(vi)
        rest = pm.sgd(learning_rate=0.0)
        vi.fit(600, obj_n_mc=5, obj_optimizer=rest, callbacks=[tracker], **settings)
        gradients = [v for n, v in tracker.hist.items() if n.startswith("grad_")]
        found.append(np.concatenate([x.reshape(600, -1) for x in (vi.hist, *gradients)], axis=1))
    # by ranks: some gradients have tails in which no mean settles
    assert mannwhitneyu(*found).pvalue.min() > 1e-5
    assert ks_2samp(*found).pvalue.min() > 1e-5
    assert isinstance(vi._trainer._loops[-1][1], StepLoop)


@pytest.mark.jax
def test_jax_splits_the_gradient_of_a_recursion_and_its_first_value() -> None:
    pytest.importorskip("jax", reason="jax is an optional extra")
    losses = []
    for settings in ({"backend": "jax"}, {"compile_kwargs": PYTHON["compile_kwargs"]}):
        vi = pmf.NFVI("coupling[hidden=2]-loc", model=with_scan_from_a_value(), random_seed=1)
        vi.fit(2, obj_n_mc=2_000, estimator="path", progressbar=False, **settings)
        losses.append(vi.hist)
    assert type(vi._trainer._loops[-1][1]) is StepLoop
    jax, python = losses
    np.testing.assert_allclose(jax, python, rtol=0.05)


@pytest.mark.parametrize("backend", ["numba", "jax"])
def test_a_mixed_approximation_is_trained_in_the_loop(backend: str) -> None:
    if backend == "jax":
        pytest.importorskip("jax", reason="jax is an optional extra")
    with pm.Model() as model:
        x = pm.Normal("x", 3.0, 0.5, shape=2)
        pm.Normal("y", -1.0, 2.0)
        flow = pmf.Group([x], "planar*2-loc", random_seed=1)
        approx = pmf.Approximation([flow, pmf.Group(None, "scale-loc", random_seed=2)])
    vi = pmf.NFVI(approx)
    vi.fit(2_000, obj_n_mc=5, backend=backend, progressbar=False)
    draws = approx.sample(4_000, random_seed=1)["posterior"]
    np.testing.assert_allclose(draws["x"].mean(("chain", "draw")), [3.0, 3.0], atol=0.2)
    assert float(draws["y"].std()) == pytest.approx(2.0, rel=0.25)
    assert model.free_RVs


def test_large_data_are_passed_not_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = RNG.normal(2.0, 1.0, size=500)
    losses = []
    for large in (2**16, 100):
        monkeypatch.setattr(step_module, "_LARGE", large)
        with pm.Model() as model:
            mu = pm.Normal("mu", 0.0, 2.0)
            rows = pm.Minibatch(data, batch_size=10)
            pm.Normal("y", mu, 1.0, observed=rows, total_size=500)
        vi = pmf.NFVI("scale-loc", model=model, random_seed=1)
        vi.fit(20, **PYTHON)
        losses.append(vi.hist)
        assert vi._trainer._loops[-1][1] is not None
        sizes = [v.get_value(borrow=True).size for v in vi._trainer._loops[-1][1].step.constants]
        assert (500 in sizes) == (large == 100)
    np.testing.assert_array_equal(losses[0], losses[1])


FLOAT32 = """
import pytensor; pytensor.config.floatX = "float32"
import numpy as np, pymc as pm, pmflow as pmf
with pm.Model() as model:
    x = pm.Normal("x", 2.0, 0.5, shape=3)
for backend in ("numba", "jax"):
    vi = pmf.NFVI("scale-planar*2-loc", model=model, random_seed=1)
    tracker = pmf.Tracker(vi)
    vi.fit(2_000, obj_n_mc=10, backend=backend, callbacks=[tracker], progressbar=False)
    assert {p.get_value().dtype.name for p in vi.approx.params} == {"float32"}
    assert tracker["grad_u_1"].dtype == "float32", tracker["grad_u_1"].dtype
    draws = vi.approx.sample(2_000, random_seed=1)["posterior"]["x"].values
    assert abs(draws.mean() - 2.0) < 0.1 and abs(draws.std() - 0.5) < 0.1, (backend, draws.std())
"""


@pytest.mark.jax
@pytest.mark.numba
def test_the_loop_runs_in_float32() -> None:
    pytest.importorskip("jax", reason="jax is an optional extra")
    # in a process of its own: floatX is a global setting, read when a model is made
    result = subprocess.run([sys.executable, "-c", FLOAT32], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
