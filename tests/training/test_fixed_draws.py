"""Fits on fixed draws: of posteriors that the flow contains, so that the evidence is reached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from models import gaussian

import pmflow as pmf
from pmflow.errors import NonFiniteError
from pmflow.training.fixed_draws import fit_on_fixed_draws
from pmflow.watch import Interrupted

HALF_LOG_2PI = 0.5 * np.log(2 * np.pi)


def banana() -> pm.Model:
    """z1 = y1, z2 = exp(0.5 y1) y2 + 0.7 (y1^2 - 1): a bend of N(0, I), with evidence 1."""
    with pm.Model() as model:
        z = pm.Flat("z", shape=2)
        y = (z[1] - 0.7 * (z[0] ** 2 - 1)) * pt.exp(-0.5 * z[0])
        pm.Potential("p", -0.5 * (z[0] ** 2 + y**2) - 0.5 * z[0] - 2 * HALF_LOG_2PI)
    return model


def flow_for(model: pm.Model, formula: str = "bend") -> pmf.NormalizingFlow:
    return pmf.NormalizingFlow(formula, model=model, random_seed=1, jitter=0.0)


def fitted(model: pm.Model, formula: str = "bend", seed: int = 1) -> pmf.NormalizingFlow:
    approx = flow_for(model, formula)
    group = approx.groups[0]
    outcome = fit_on_fixed_draws(group, group.log_density, seed)
    assert outcome.fit_state is not None
    assert outcome.fit_state.ended == "converged"
    assert outcome.fit_state.steps == len(outcome.losses) == outcome.steps
    return approx


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_posterior_that_the_flow_contains_is_found(seed: int) -> None:
    approx = fitted(banana(), seed=seed)
    found = pmf.diagnose(approx, random_seed=1)
    assert found.elbo == pytest.approx(0.0, abs=0.005)
    assert found.verdict == "reliable"
    (params,) = approx.layer_params
    linear, square = (params[name].get_value()[:, 0] / 2**0.5 for name in ("linear", "square"))
    np.testing.assert_allclose(linear, [0.5, 0.0], atol=0.05)
    np.testing.assert_allclose(square, [0.0, 0.7], atol=0.05)


def test_a_gaussian_is_found_without_bends() -> None:
    approx = fitted(gaussian([2.0, -1.0, 0.5], np.diag([4.0, 0.25, 1.0]).tolist()))
    np.testing.assert_allclose(approx.mean.eval(mode="FAST_COMPILE"), [2.0, -1.0, 0.5], atol=0.01)
    np.testing.assert_allclose(approx.std.eval(mode="FAST_COMPILE"), [2.0, 0.5, 1.0], rtol=0.03)


def test_only_parameters_that_matter_are_fitted() -> None:
    """Of 15 pairs of coordinates one bends: most of the others stay exactly where they were."""
    with pm.Model() as model:
        z = pm.Flat("z", shape=6)
        y = z[5] - 0.7 * (z[0] ** 2 - 1)
        pm.Potential("p", -0.5 * ((z[:5] ** 2).sum() + y**2) - 6 * HALF_LOG_2PI)
    (params,) = fitted(model).layer_params
    linear, square = (params[name].get_value() / 6**0.5 for name in ("linear", "square"))
    assert square.shape == (2, 15)
    assert square[1, 10] == pytest.approx(0.7, abs=0.05)  # the pair (5, 0)
    rest = np.delete(np.concatenate([square, linear]).ravel(), 15 + 10)
    assert (rest == 0).mean() > 0.8
    assert np.abs(rest).max() < 0.05


@pytest.mark.slow
def test_pairs_are_found_among_many() -> None:
    """A scale that all other coordinates share, in 60 dimensions: 3 of some 7,000 parameters."""
    with pm.Model() as model:
        z = pm.Flat("z", shape=60)
        inner = z[1:4] * pt.exp(-0.4 * z[0])
        log_p = -0.5 * (z[0] ** 2 + (inner**2).sum() + (z[4:] ** 2).sum())
        pm.Potential("p", log_p - 1.2 * z[0] - 60 * HALF_LOG_2PI)
    approx = flow_for(model, "sinh-bend")
    before = pmf.diagnose(approx, random_seed=1)
    fit_on_fixed_draws(approx.groups[0], approx.groups[0].log_density, 1)
    found = pmf.diagnose(approx, random_seed=1)
    assert found.elbo > before.elbo + 0.15
    assert found.elbo > -0.03
    assert found.verdict == "reliable"


def test_tails_are_fitted_too() -> None:
    with pm.Model() as model:
        pm.StudentT("t", 5.0)
    found = pmf.diagnose(fitted(model, "sinh-scale-loc"), random_seed=1)
    before = pmf.diagnose(fitted(model, "scale-loc"), random_seed=1)
    assert found.kl < before.kl / 3


def test_a_base_with_parameters_is_fitted() -> None:
    with pm.Model() as model:
        pm.StudentT("t", 4.0, mu=1.0, sigma=2.0)
    approx = pmf.NormalizingFlow(
        "scale-loc", model=model, random_seed=1, jitter=0.0, base="student_t"
    )
    group = approx.groups[0]
    fit_on_fixed_draws(group, group.log_density, 1)
    assert pmf.diagnose(approx, random_seed=1).kl < 0.005


def raising(density: Any, error: BaseException, call: int) -> Callable[..., Any]:
    """`value_and_gradient` that raises from its n-th call on."""
    calls = iter(range(1, 1_000))
    evaluate = density.value_and_gradient

    def at(z: Any) -> Any:
        if next(calls) >= call:
            raise error
        return evaluate(z)

    return at


@pytest.mark.parametrize("call", [2, 18, 19, 23])
def test_stopped_it_keeps_the_best_so_far(monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    approx = flow_for(banana())
    group = approx.groups[0]
    before = pmf.diagnose(approx, random_seed=1).elbo
    density = group.log_density
    monkeypatch.setattr(density, "value_and_gradient", raising(density, Interrupted(), call))
    outcome = fit_on_fixed_draws(group, density, 1)
    assert len(outcome.losses) < 12
    monkeypatch.undo()
    assert pmf.diagnose(approx, random_seed=1).elbo >= before - 1e-9


def test_stopped_before_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    approx = flow_for(banana())
    density = approx.groups[0].log_density
    monkeypatch.setattr(density, "value_and_gradient", raising(density, Interrupted(), 1))
    with pytest.raises(Interrupted):
        fit_on_fixed_draws(approx.groups[0], density, 1)


def test_no_density_where_it_begins() -> None:
    with pm.Model() as model:
        z = pm.Flat("z", shape=2)
        pm.Potential("p", pt.switch(z[0] > 50, 0.0, -np.inf))
    group = flow_for(model).groups[0]
    with pytest.raises(NonFiniteError, match="where it begins"):
        fit_on_fixed_draws(group, group.log_density, 1)


def test_it_gets_no_worse_at_fresh_draws() -> None:
    """A loss that a few draws can be fitted to, and nothing more."""
    rng = np.random.default_rng(1)
    with pm.Model() as model:
        z = pm.Normal("z", shape=3)
        waves = pt.sin(20 * (z @ rng.normal(size=(3, 8)))).sum()
        pm.Potential("p", 0.3 * waves)
    approx = flow_for(model)
    group = approx.groups[0]
    before = pmf.diagnose(approx, 20_000, random_seed=1).elbo
    fit_on_fixed_draws(group, group.log_density, 1)
    assert pmf.diagnose(approx, 20_000, random_seed=1).elbo > before - 0.02
