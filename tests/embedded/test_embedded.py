"""Global variables by their marginal: against integrals of hierarchies that are known exactly."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pymc as pm
import pytest
import scipy.sparse as sp
from latent import log_density
from scipy.stats import norm

import pmflow as pmf
from pmflow.embedded import check_locals, proposal, proposed
from pmflow.embedded.conditional import Conditional
from pmflow.embedded.globals import Held, choose_globals
from pmflow.embedded.structure import NoStructureError, read_pattern, verify_pattern
from pmflow.errors import FitWarning, UnsupportedError
from pmflow.ladder.climb import Climb
from pmflow.ladder.nested import NestedRung
from pmflow.ladder.rung import NothingGained
from pmflow.posterior.density import LogDensity
from pmflow.training.options import FitOptions
from pmflow.watch import watching

GROUPS = 60
SDS = np.random.default_rng(5).uniform(0.3, 1.5, GROUPS)
MEANS = np.random.default_rng(6).normal(1.0, np.hypot(0.7, SDS))


@cache
def hierarchy() -> pm.Model:
    """Centred, with a scale: given it, all others are Gaussian."""
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 3.0)
        tau = pm.HalfNormal("tau", 1.0)
        u = pm.Normal("u", mu, tau, shape=GROUPS)
        pm.Normal("y", u, SDS, observed=MEANS)
    return model


def exact() -> tuple[float, float, float]:
    """Mean and sd of log tau, and the log evidence, by quadrature over log tau."""
    at = np.linspace(-8.0, 3.0, 20_001)
    tau = np.exp(at)[:, None]
    variance = SDS**2 + tau**2
    # mu integrated out of y ~ N(mu, variance) with mu ~ N(0, 9)
    precision = 1 / 9 + (1 / variance).sum(1)
    weighted = (MEANS / variance).sum(1)
    log_likelihood = (
        norm.logpdf(MEANS, 0.0, np.sqrt(variance)).sum(1)
        + weighted**2 / precision / 2
        - np.log(precision) / 2
        - np.log(3.0)
    )
    log_prior = np.log(2) + norm.logpdf(tau[:, 0]) + at
    log_density = log_likelihood + log_prior
    weights = np.exp(log_density - log_density.max())
    step = at[1] - at[0]
    evidence = np.log(weights.sum() * step) + log_density.max()
    weights /= weights.sum()
    mean = weights @ at
    return mean, float(np.sqrt(weights @ (at - mean) ** 2)), float(evidence)


def fitted(model: pm.Model, seed: int = 1) -> Any:
    with watching(progressbar=False):
        return NestedRung().climb(Climb(model, seed, None, FitOptions()), None, None)


@cache
def approx() -> Any:
    return fitted(hierarchy())


def flow_of(model: pm.Model) -> pmf.NormalizingFlow:
    return pmf.NormalizingFlow("scale-loc", model=model, jitter=0.0, random_seed=1)


class TestExactConditionals:
    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_the_marginal_is_that_of_the_integral(self, seed: int) -> None:
        mean, sd, _ = exact()
        draws = fitted(hierarchy(), seed).draw(4_000, 1).unconstrained["tau_log__"]
        assert draws.mean() == pytest.approx(mean, abs=0.06 * sd)
        assert draws.std() == pytest.approx(sd, rel=0.06)
        assert len(np.unique(draws)) > 300

    def test_the_local_variables_follow(self) -> None:
        # given tau and mu the exact mean of u is a weighted one
        draws = approx().draw(4_000, 1, None)
        tau, mu = draws.constrained["tau"], draws.constrained["mu"]
        share = tau[:, None] ** 2 / (tau[:, None] ** 2 + SDS**2)
        wanted = mu[:, None] + share * (MEANS - mu[:, None])
        sds = np.sqrt(share) * SDS
        away = (draws.constrained["u"] - wanted) / sds
        assert np.abs(away.mean(0)).max() < 4.5 / 4_000**0.5
        np.testing.assert_allclose(away.std(0), 1, atol=0.06)

    def test_the_evidence(self) -> None:
        *_, evidence = exact()
        found = pmf.diagnose(approx(), random_seed=2)
        assert found.log_evidence == pytest.approx(evidence, abs=4 * found.log_evidence_se + 1e-3)
        assert found.kl == pytest.approx(0.0, abs=1e-4)
        assert found.verdict == "reliable"

    def test_the_density_is_that_of_the_posterior(self) -> None:
        *_, evidence = exact()
        made = approx().draw(200, 3)
        assert made.log_q is not None
        np.testing.assert_allclose(made.log_p - made.log_q, approx().nested.log_evidence, atol=1e-3)
        assert approx().nested.log_evidence == pytest.approx(evidence, abs=0.3)
        parts = [made.unconstrained[name].reshape(200, -1) for name in approx().ordering]
        found = approx().log_prob(np.concatenate(parts, axis=1))
        np.testing.assert_allclose(found, made.log_q, atol=2e-3)

    def test_it_is_no_graph(self) -> None:
        with pytest.raises(UnsupportedError, match="searches for a mode at each draw"):
            approx().sample_node(approx().model["tau"])


def counts(groups: int, rows: int) -> pm.Model:
    """Few counts in each group: given the scale, the others are skewed."""
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(groups), rows)
    rates = np.exp(rng.normal(-0.5, 0.8, groups))
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 2.0)
        tau = pm.HalfNormal("tau", 1.0)
        u = pm.Normal("u", mu, tau, shape=groups)
        pm.Poisson("y", pm.math.exp(u[group]), observed=rng.poisson(rates[group]))
    return model


@pytest.mark.slow
def test_skewed_local_variables_are_corrected() -> None:
    """The marginal of mu and tau, against one-dimensional integrals for each group."""
    model = counts(80, 2)
    y = model["y"].owner and model.rvs_to_values[model["y"]].data
    sums = np.asarray(y).reshape(80, 2).sum(1)
    nodes, shares = np.polynomial.hermite_e.hermegauss(60)
    shares = shares / shares.sum()
    log_tau, mu = np.meshgrid(np.linspace(-2.5, 1.2, 90), np.linspace(-2.5, 1.5, 80), indexing="ij")
    rate = mu[..., None] + np.exp(log_tau)[..., None] * nodes
    value = norm.logpdf(mu, 0, 2) + norm.logpdf(np.exp(log_tau)) + log_tau
    for total in sums:
        log_terms = total * rate - 2 * np.exp(rate) + np.log(shares)
        value = value + np.logaddexp.reduce(log_terms, axis=-1)
    weights = np.exp(value - value.max())
    weights /= weights.sum()
    made = fitted(model)
    draws = made.draw(4_000, 1, None)
    for wanted, found in (
        (log_tau, np.log(draws.constrained["tau"])),
        (mu, draws.constrained["mu"]),
    ):
        mean = (weights * wanted).sum()
        sd = np.sqrt((weights * (wanted - mean) ** 2).sum())
        assert found.mean() == pytest.approx(mean, abs=0.1 * sd)
        assert found.std() == pytest.approx(sd, rel=0.1)


def test_a_place_without_any_factor_has_no_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    with pm.Model() as model:
        pm.Normal("y", pm.Normal("u", shape=3), 1.0, observed=np.ones(3))
    density = log_density(model)
    conditional = Conditional(density, sp.csr_array(np.eye(3)), np.zeros(3, dtype=bool))

    def none(_: Any) -> Any:
        raise np.linalg.LinAlgError("no precision near it is positive definite")

    monkeypatch.setattr(conditional.factors, "damped", none)
    assert conditional.modes(np.zeros((2, 3)), 5).log_marginal.tolist() == [-np.inf, -np.inf]


def test_where_there_is_no_conditional_mode_it_is_left_out() -> None:
    rng = np.random.default_rng(2)
    with pm.Model() as model:
        tau = pm.HalfNormal("tau", 1.0)
        u = pm.Normal("u", 0.0, tau, shape=60)
        # the sign of each is not known
        pm.Normal("y", u**2, 0.5, observed=rng.normal(0.5, 0.7, 60))
    with pytest.raises(NothingGained, match="no conditional mode"):
        fitted(model)


class TestVerdict:
    """A fit that is exact, made wrong by a known amount."""

    @staticmethod
    def diagnosed(**changed: Any) -> pmf.Diagnosis:
        state = approx().to_state()
        wrong = replace(state, nested=replace(state.nested, **changed))
        return pmf.diagnose(pmf.EmbeddedLaplace.from_state(wrong, approx().model), random_seed=1)

    def test_of_local_variables_that_are_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(check_locals, "_PAIRS", 64)  # the largest of many errors is no noise
        nested = approx().nested
        pull = nested.pull.copy()
        precision = np.linalg.inv(nested.centre.factor.solve(np.eye(len(nested.sds))))
        pull[0] += 0.3 * precision @ nested.sds
        found = self.diagnosed(pull=pull)
        assert found.verdict == "not reliable"
        assert any("means may be off" in reason for reason in found.reasons)
        inner = found.shifts.drop("tau_log__")
        # 0.3 conditional sds, and the sd of all draws is larger
        assert inner["mean_shift"].between(-0.33, 0).all()
        assert inner["mean_shift"].min() == pytest.approx(-0.3, abs=0.03)

    def test_of_a_marginal_that_is_off(self) -> None:
        # a slope of log q moves a mean by itself times the variance, known from 128 places here
        found = self.diagnosed(correction=np.array([0.0, 0.3]))
        assert found.verdict == "not reliable"
        row = found.shifts.loc["tau_log__"]
        assert row["mean_shift"] == pytest.approx(-0.3, abs=0.08)
        assert found.shifts.drop("tau_log__")["mean_shift"].abs().max() < 0.01


def whole(density: LogDensity, pattern: sp.csr_array | None = None) -> Conditional:
    """All coordinates, none of them global."""
    pattern = read_pattern(density) if pattern is None else pattern
    return Conditional(density, pattern, np.zeros(density.dim, dtype=bool))


class TestStructure:
    def test_a_scale_is_global_and_a_mean_is_not(self) -> None:
        group = flow_of(hierarchy()).groups[0]
        places = {name: place for name, place, *_ in group.ordering.values()}
        chosen = choose_globals(Held(whole(group.log_density), places, np.zeros(group.ddim)))
        assert chosen[places["tau_log__"]].all()
        assert chosen.sum() == 1

    def test_a_missed_entry_is_seen(self) -> None:
        density = flow_of(hierarchy()).groups[0].log_density
        pattern = read_pattern(density)
        z = np.random.default_rng(1).normal(size=(2, density.dim)) * 0.3
        verify_pattern(whole(density, pattern), z, 1)
        less = pattern.toarray()
        less[0, 5] = less[5, 0] = False
        with pytest.raises(NoStructureError, match="has missed some"):
            verify_pattern(whole(density, sp.csr_array(less)), z, 1)

    def test_all_meet_all(self) -> None:
        with pm.Model() as model:
            pm.Normal("x", shape=4)
        with pytest.raises(NothingGained, match="no few of its variables govern the others"):
            fitted(model)


class TestClimb:
    def test_a_hierarchy_ends_there_at_once(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FitWarning)
            made = pmf.fit(model=hierarchy(), random_seed=1, progressbar=False)
        assert isinstance(made, pmf.EmbeddedLaplace)
        assert made.global_names == ["tau_log__"]
        (rung,) = made.ladder.rungs
        assert rung.formula == "embedded Laplace"
        assert "embedded Laplace" in str(made.sample(10)["posterior"].attrs)
        assert "tau" in made.state.mean

    def test_what_has_no_few_globals_is_a_sparse_gaussian(self) -> None:
        with pm.Model() as model:
            pm.Normal("x", shape=45)
        made = pmf.fit(model=model, random_seed=1, progressbar=False)
        tried = [rung.formula for rung in made.ladder.rungs]
        assert tried == ["embedded Laplace", "sparse Gaussian"]
        assert made.diagnosis.verdict == "reliable"
        assert isinstance(made, pmf.SparseGaussian)


def test_a_place_around_the_middle_may_have_no_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposal, "_WAY", 1e6)
    made = approx()
    found = proposed.Proposed.of(made._nested, np.random.default_rng(1))
    assert not found.around[1]
    assert pmf.diagnose(made, random_seed=1).verdict == "reliable"


@pytest.mark.parametrize(("sds", "says"), [(6, "is not known"), (1_000, None)])
def test_a_proposal_that_is_lost_is_not_reliable(sds: float, says: str | None) -> None:
    made = copy.deepcopy(approx())
    there = made.nested.proposal
    elsewhere = replace(there, mean=there.mean + sds * np.diag(there.factor))
    lost = pmf.EmbeddedLaplace.from_state(
        replace(made.to_state(), nested=replace(made.nested, proposal=elsewhere)), made.model
    )
    if says is None:
        with pytest.raises(UnsupportedError, match="can't be judged"):
            pmf.diagnose(lost, random_seed=1)
        return
    found = pmf.diagnose(lost, random_seed=1)
    assert found.verdict == "not reliable"
    assert any(says in reason for reason in found.reasons)
