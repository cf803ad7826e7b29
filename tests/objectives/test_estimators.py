"""Gradients along the draws: on average the total ones, and without noise at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from models import conjugate_normal, gaussian

import pmflow as pmf
from pmflow.errors import ParameterError
from pmflow.graphs.evaluate import compile_once
from pmflow.objectives import estimators
from pmflow.objectives.estimators import ReverseKL

FAST = {"mode": "FAST_COMPILE"}
PYTHON: dict[str, Any] = {"compile_kwargs": FAST, "progressbar": False}
MEAN, COV = [0.5, -1.0], [[2.0, -1.0], [-1.0, 3.0]]

# the C backend looks for a BLAS that pip does not install; nothing here needs one
pytestmark = pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS")


def gradients(
    approx: pmf.Approximation, estimator: str, beta: float = 1.0
) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Loss, and its gradient by all parameters in one vector, at given normal numbers."""
    objective = ReverseKL().function(approx, beta, draws=2, estimator=estimator, anneal=False)
    noise = [pt.matrix() for _ in approx.groups]
    given = dict(zip([g.symbolic_initial for g in approx.groups], noise, strict=True))
    loss = objective(2, more_replacements=given)
    grads = pt.grad(loss, approx.params, disconnected_inputs="ignore")
    outputs = [loss, pt.concatenate([g.ravel() for g in grads])]
    return compile_once(noise, outputs, random_seed=1)  # of minibatches


def noise_for(approx: pmf.Approximation, draws: int, rng: np.random.Generator) -> list[np.ndarray]:
    lengths = [g.symbolic_initial.type.shape[-1] for g in approx.groups]
    return [rng.standard_normal((draws, n)) for n in lengths]


def set_params(approx: pmf.Approximation, values: dict[str, np.ndarray]) -> None:
    for name, param in zip(approx.param_names, approx.params, strict=True):
        param.set_value(np.asarray(values[name]))


def exact_fit(flow: str) -> pmf.NormalizingFlow:
    """A flow that is its target: the Cholesky factor, or the scales, put in by hand."""
    cov = np.array(COV) if flow == "tril-loc" else np.diag([2.0, 0.1])
    approx = pmf.NormalizingFlow(flow, model=gaussian(MEAN, cov.tolist()), random_seed=1)
    factor = np.linalg.cholesky(cov)
    sigma = np.diag(factor)
    values = {"rho_0": np.log(np.expm1(sigma)), "loc_1": np.array(MEAN)}
    if flow == "tril-loc":
        values["lower_0"] = np.array([factor[1, 0] / sigma[0] * np.sqrt(2)])
    set_params(approx, values)
    return approx


class TestNoise:
    @pytest.mark.slow
    @pytest.mark.parametrize("flow", ["tril-loc", "scale-loc"])
    def test_at_the_exact_posterior_every_draw_has_the_gradient_zero(self, flow: str) -> None:
        approx = exact_fit(flow)
        path, total = gradients(approx, "path"), gradients(approx, "total")
        rng = np.random.default_rng(1)
        for _ in range(50):
            (noise,) = noise_for(approx, 1, rng)
            assert np.abs(path(noise)[1]).max() < 1e-10
            assert np.abs(total(noise)[1]).max() > 1e-3

    def test_near_the_posterior_path_gradients_have_less_noise(self) -> None:
        approx = exact_fit("tril-loc")
        for param in approx.params:
            param.set_value(param.get_value() + 0.02)
        spread = {}
        for name in ("path", "total"):
            rng = np.random.default_rng(1)
            fn = gradients(approx, name)
            spread[name] = np.std([fn(*noise_for(approx, 10, rng))[1] for _ in range(100)], axis=0)
        # the standard deviations go down with the distance from the posterior
        assert np.all(spread["path"] < 0.1 * spread["total"])


CASES: dict[str, dict[str, Any]] = {
    "planar*4": {},
    "radial*2": {},
    "maf": {},
    "iaf": {},
    "coupling": {},
    "sylvester": {},
    "lu-sinh-lowrank[rank=1]": {},
    "scale-planar-loc": {"base": "student_t[df=20]"},
    "planar-scale-loc": {"base": "mixture[k=3]"},
}


@pytest.mark.parametrize("flow", CASES)
@pytest.mark.slow
def test_path_and_total_gradients_have_the_same_mean(flow: str) -> None:
    approx = pmf.NormalizingFlow(
        flow, model=gaussian(MEAN, COV), random_seed=2, jitter=0.3, **CASES[flow]
    )
    path, total = gradients(approx, "path"), gradients(approx, "total")
    rng, differences, sizes = np.random.default_rng(3), [], []
    for _ in range(200):
        noise = noise_for(approx, 100, rng)
        (loss, along), (loss_too, whole) = path(*noise), total(*noise)
        np.testing.assert_allclose(loss, loss_too, rtol=1e-12)
        differences.append(along - whole)
        sizes.append(whole)
    # on the same draws, so that the noise that both have is taken out
    error = np.std(differences, axis=0, ddof=1) / np.sqrt(200)
    assert np.all(np.abs(np.mean(differences, axis=0)) <= 4 * error + 1e-12)
    assert np.abs(np.mean(sizes, axis=0)).max() > 10 * np.median(error)  # there is a gradient


def test_beta_and_minibatches_weigh_both_gradients_alike() -> None:
    data = np.random.default_rng(1).normal(2.0, 1.0, size=50)
    model = conjugate_normal(data, batch=10)
    approx = pmf.NormalizingFlow("scale-planar-loc", model=model, random_seed=1, jitter=0.3)
    path, total = gradients(approx, "path", beta=3.0), gradients(approx, "total", beta=3.0)
    rng, differences = np.random.default_rng(3), []
    for _ in range(200):
        (noise,) = noise_for(approx, 100, rng)
        differences.append(path(noise)[1] - total(noise)[1])
    error = np.std(differences, axis=0, ddof=1) / np.sqrt(200)
    assert np.all(np.abs(np.mean(differences, axis=0)) <= 4 * error)


def two_groups(*families: str) -> pmf.Approximation:
    with gaussian(MEAN, COV) as model:
        x = pm.Normal("x", 1.0, 0.5)
        first = pmf.Group([x], families[0], random_seed=1)
        return pmf.Approximation([first, pmf.Group(None, families[1])], model=model)


@pytest.mark.slow
def test_two_flows_each_have_their_own_score() -> None:
    approx = two_groups("scale-loc", "tril-loc")
    cov = np.array(COV)
    factor = np.linalg.cholesky(cov)
    sigma = np.diag(factor)
    set_params(
        approx,
        {
            "group0_rho_0": np.log(np.expm1([0.5])),
            "group0_loc_1": np.array([1.0]),
            "group1_rho_0": np.log(np.expm1(sigma)),
            "group1_lower_0": np.array([factor[1, 0] / sigma[0] * np.sqrt(2)]),
            "group1_loc_1": np.array(MEAN),
        },
    )
    fn, rng = gradients(approx, "path"), np.random.default_rng(1)
    found = [np.abs(fn(*noise_for(approx, 1, rng))[1]).max() for _ in range(20)]
    assert max(found) < 1e-10


@pytest.mark.slow
class TestFit:
    def fit(self, estimator: str, flow: str = "scale-loc", **settings: Any) -> pmf.NFVI:
        vi = pmf.NFVI(flow, model=gaussian(MEAN, COV), random_seed=1)
        vi.fit(20, obj_n_mc=4, estimator=estimator, progressbar=False, **settings)
        return vi

    @pytest.mark.parametrize("backend", ["numba", "jax"])
    def test_the_first_loss_is_the_same_and_the_next_ones_are_pythons(self, backend: str) -> None:
        if backend == "jax":
            pytest.importorskip("jax", reason="jax is an optional extra")
        path = self.fit("path", "iaf-tril", backend=backend)
        # JAX has random numbers of its own, the other backends have NumPy's
        same = {"backend": "jax"} if backend == "jax" else {"compile_kwargs": FAST}
        total = self.fit("total", "iaf-tril", **same)
        assert path.hist[0] == pytest.approx(total.hist[0], rel=1e-12)
        assert not np.allclose(path.hist[1:], total.hist[1:])
        if backend != "jax":
            python = self.fit("path", "iaf-tril", **same)
            np.testing.assert_allclose(path.hist, python.hist, rtol=1e-8)

    def test_it_ends_nearer_to_an_exact_posterior(self) -> None:
        distances = {}
        for estimator in ("path", "total"):
            vi = pmf.NFVI("tril-loc", model=gaussian(MEAN, COV), random_seed=1)
            settings = {"obj_n_mc": 4, "obj_optimizer": pm.adam(learning_rate=0.05), **PYTHON}
            vi.fit(1_500, estimator=estimator, **settings)
            cov = vi.approx.cov.eval(mode="FAST_COMPILE")
            distances[estimator] = np.abs(cov - COV).max()
        assert distances["path"] < 1e-4 < distances["total"]

    def test_another_estimator_is_compiled_anew_and_kept(self, compilations: list[Any]) -> None:
        vi = pmf.NFVI("scale-loc", model=gaussian(MEAN, COV), random_seed=1)
        for estimator in ("total", "path", "path", "total"):
            vi.fit(2, estimator=estimator, **PYTHON)
        assert len(compilations) == 2

    def test_an_unknown_estimator_is_refused(self) -> None:
        with pytest.raises(ParameterError, match=r"one of total, path, but is 'score'"):
            self.fit("score", compile_kwargs=FAST)

    def test_pymcs_families_are_refused_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        vi = pmf.NFVI(two_groups("planar", "mean_field"))
        monkeypatch.setattr(vi, "_trainer", None)  # nothing is begun
        with pytest.raises(ParameterError, match=r"MeanFieldGroup\[2\] is none.*estimator='total'"):
            vi.fit(2, estimator="path")

    def test_the_list_of_estimators_is_what_objectives_are_made_for(self) -> None:
        approx = exact_fit("scale-loc")
        made = [
            ReverseKL().function(approx, 1.0, draws=1, estimator=name, anneal=False).op
            for name in estimators.ESTIMATORS
        ]
        assert [type(op).__name__ for op in made] == ["KL", "PathKL"]
