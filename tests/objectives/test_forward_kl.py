"""Flows fitted to draws of the posterior, beside what maximum likelihood must give."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
import xarray as xr
from models import gaussian

import pmflow as pmf
from pmflow.errors import ParameterError
from pmflow.graphs.evaluate import compile_once
from pmflow.objectives.forward_kl import ForwardKL
from pmflow.posterior.given import given_draws

HOW: dict[str, Any] = {"draws": 5, "estimator": "total", "anneal": False}
QUICK: dict[str, Any] = {"compile_kwargs": {"mode": "FAST_COMPILE"}, "progressbar": False}
JAX = {"backend": "jax", "progressbar": False} if importlib.util.find_spec("jax") else QUICK


def as_draws(**arrays: np.ndarray) -> xr.Dataset:
    """Arrays of shape (chains, draws, ...) as a posterior."""
    made = {}
    for name, array in arrays.items():
        more = [f"{name}_dim_{i}" for i in range(array.ndim - 2)]
        made[name] = (("chain", "draw", *more), array)
    return xr.Dataset(made)


def constrained() -> pm.Model:
    """Transforms of all kinds: one that depends on another variable, one that changes the shape."""
    with pm.Model() as model:
        low = pm.Normal("low")
        pm.Uniform("u", low, low + 2.0)
        pm.HalfNormal("s", shape=2)
        pm.Dirichlet("p", np.ones(3))
    return model


def prior(model: pm.Model, draws: int = 50) -> xr.DataTree:
    return pm.sample_prior_predictive(draws, model=model, random_seed=1)


class TestGivenDraws:
    @pytest.mark.parametrize(
        "x",
        [np.full((1, 20, 2), 0.5), np.arange(20.0)[None, :, None] * np.ones(2)],
        ids=["all the same", "one follows from the other"],
    )
    def test_a_frame_needs_draws_that_differ_in_every_direction(self, x: np.ndarray) -> None:
        with pm.Model() as model:
            pm.Normal("x", shape=2)
        with pytest.raises(ParameterError, match="their covariance is singular"):
            pmf.Frame.of_draws(as_draws(x=x), model)

    def test_they_are_where_the_models_own_transforms_put_them(self) -> None:
        model = constrained()
        found = prior(model)["prior"].to_dataset()
        names = [v.name for v in model.value_vars]
        latent = given_draws(model, names, found)
        low, u, s, p = (found[name].values[0] for name in ("low", "u", "s", "p"))
        share = (u - low) / 2
        by_hand = [
            low[:, None],
            np.log(share / (1 - share))[:, None],
            np.log(s),
            (np.log(p) - np.log(p).mean(-1, keepdims=True))[:, :2],
        ]
        np.testing.assert_allclose(latent, np.concatenate(by_hand, 1), rtol=1e-8, atol=1e-8)

    def test_the_order_is_the_one_asked_for(self) -> None:
        model = constrained()
        found = prior(model)["prior"].to_dataset()
        names = [v.name for v in model.value_vars]
        back = given_draws(model, names[::-1], found)
        np.testing.assert_array_equal(back[:, -1], found["low"].values[0])

    @pytest.mark.parametrize(
        ("changed", "words"),
        [
            (lambda d: d.drop_vars("s"), "'s' is missing"),
            (lambda d: d.assign(s=d["s"].isel(s_dim_0=0)), r"'s' in the shape \(2,\)"),
            (lambda d: d.assign(s=-d["s"]), "inside of the support"),
            (lambda d: d.isel(draw=slice(3)), "10 at least"),
            (lambda d: d.mean("chain"), "'chain' and 'draw'"),
            (lambda _: np.zeros((10, 6)), "but is ndarray"),
        ],
    )
    def test_others_are_refused(self, changed: Any, words: str) -> None:
        model = constrained()
        draws = changed(prior(model)["prior"].to_dataset())
        with pytest.raises(ParameterError, match=words):
            given_draws(model, [v.name for v in model.value_vars], draws)


class TestFit:
    @pytest.mark.slow
    def test_the_best_gaussian_has_the_moments_of_the_draws(self) -> None:
        rng = np.random.default_rng(1)
        draws = rng.multivariate_normal([1.0, -2.0], [[2.0, 0.6], [0.6, 0.5]], size=(2, 2000))
        model = gaussian([1.0, -2.0], [[2.0, 0.6], [0.6, 0.5]])
        found = as_draws(**{model.free_RVs[0].name: draws})
        approx = pmf.fit(
            method="nfvi=tril-loc",
            model=model,
            objective=pmf.ForwardKL(found),
            random_seed=1,
            verdict=False,
            **QUICK,
        )
        flat = draws.reshape(-1, 2)
        se = np.sqrt(np.diag(np.cov(flat.T)) / len(flat))
        assert np.all(np.abs(approx.mean.eval() - flat.mean(0)) < 3 * se)
        np.testing.assert_allclose(approx.cov.eval(), np.cov(flat.T), rtol=0.08)
        assert approx.fit_state is not None
        assert approx.fit_state.ended == "converged"
        assert "mean log density" in approx.fit_state.message

    @pytest.mark.slow
    def test_both_modes_of_the_draws_are_covered(self) -> None:
        rng = np.random.default_rng(1)
        draws = rng.choice([-4.0, 4.0], size=(2, 2000)) + rng.normal(size=(2, 2000))
        with pm.Model() as model:
            pm.NormalMixture("x", [0.5, 0.5], [-4.0, 4.0], 1.0)
        found = as_draws(x=draws)
        approx = pmf.fit(
            500,
            method="nfvi=spline[hidden=0]*2-scale-loc",
            model=model,
            objective=pmf.ForwardKL(found),
            inf_kwargs={"frame": pmf.Frame.of_draws(found, model)},
            obj_n_mc=300,
            obj_optimizer=pm.adam(learning_rate=0.03),
            random_seed=1,
            **JAX,
        )
        judged = pmf.diagnose(approx, random_seed=1)
        assert abs(judged.log_evidence) < 0.05  # all of both modes
        assert judged.kl < 0.05

    def test_the_loss_is_minus_the_mean_log_density(self) -> None:
        model = gaussian([0.0], [[1.0]])
        draws = as_draws(**{model.free_RVs[0].name: np.full((1, 20, 1), 0.7)})
        approx = pmf.NormalizingFlow("scale-loc", model=model, random_seed=1)
        objective = ForwardKL(draws)
        loss = objective.function(approx, 1.0, **HOW)(5)
        (value,) = compile_once([], [loss])()
        expected = -approx.log_prob(np.array([0.7]))
        assert value == pytest.approx(float(expected), rel=1e-10)
        kept = objective.measure(approx, 1.0)
        np.testing.assert_allclose(kept.values(1), -expected, rtol=1e-10)

    def test_its_gradient_is_that_of_finite_differences(self) -> None:
        model = gaussian([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]])
        draws = as_draws(**{model.free_RVs[0].name: np.full((1, 20, 2), [0.7, -0.4])})
        approx = pmf.NormalizingFlow("planar-scale-loc", model=model, random_seed=1, jitter=0.5)
        loss = ForwardKL(draws).function(approx, 1.0, **HOW)(5)
        param = approx.params[0]
        function = compile_once([], [loss, pt.grad(loss, param)])
        gradient, at, step = function()[1], param.get_value(), 1e-6
        for place in np.ndindex(at.shape):
            moved = []
            for sign in (1, -1):
                new = at.copy()
                new[place] += sign * step
                param.set_value(new)
                moved.append(float(function()[0]))
            param.set_value(at)
            slope = (moved[0] - moved[1]) / (2 * step)
            assert gradient[place] == pytest.approx(slope, rel=1e-5, abs=1e-8)


class TestWrong:
    @pytest.fixture
    def model(self) -> pm.Model:
        return gaussian([0.0], [[1.0]])

    @pytest.fixture
    def draws(self, model: pm.Model) -> xr.Dataset:
        return as_draws(**{model.free_RVs[0].name: np.zeros((1, 20, 1))})

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"estimator": "path"}, "Leave estimator out"),
            ({"anneal": True}, "Leave anneal out"),
            ({"qmc": True}, "Leave qmc out"),
            ({"checkpoint": "x.safetensors"}, "Leave checkpoint= out"),
        ],
    )
    def test_options_that_are_about_draws_of_the_flow(
        self, model: pm.Model, draws: xr.Dataset, options: dict[str, Any], words: str
    ) -> None:
        with pytest.raises(ParameterError, match=words):
            pmf.fit(3, model=model, objective=pmf.ForwardKL(draws), **options, **QUICK)

    def test_a_weight_of_the_prior(self, model: pm.Model, draws: xr.Dataset) -> None:
        inference = pmf.NFVI("scale-loc", model=model, beta=2.0)
        with pytest.raises(ParameterError, match="Leave beta at 1"):
            inference.fit(3, objective=pmf.ForwardKL(draws), **QUICK)

    def test_an_automatic_fit(self, model: pm.Model, draws: xr.Dataset) -> None:
        with pytest.raises(ParameterError, match="Leave objective out"):
            pmf.fit(model=model, objective=pmf.ForwardKL(draws))

    def test_what_is_no_objective(self, model: pm.Model) -> None:
        with pytest.raises(ParameterError, match=r"pmflow.ForwardKL\(draws\)"):
            pmf.fit(3, model=model, objective="forward")

    def test_a_group_without_a_density(self, model: pm.Model) -> None:
        with pm.Model() as two:
            x = pm.Normal("x")
            pm.Normal("y")
            groups = [pmf.Group([x], "planar"), pmf.Group(None, "mean_field")]
        draws = as_draws(x=np.zeros((1, 20)), y=np.zeros((1, 20)))
        inference = pmf.NFVI(pmf.Approximation(groups, model=two))
        with pytest.raises(ParameterError, match="needs a flow for every group"):
            inference.fit(3, objective=pmf.ForwardKL(draws), **QUICK)
