"""Independent local variables, each integrated by itself: against integrals that are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from latent import log_density
from scipy.integrate import quad
from scipy.sparse import csr_array
from scipy.stats import norm, poisson

import pmflow as pmf
from pmflow.embedded.curves import Curves
from pmflow.embedded.globals import with_hubs
from pmflow.embedded.slopes import curves_at
from pmflow.ladder.climb import Climb
from pmflow.ladder.nested import NestedRung
from pmflow.training.options import FitOptions
from pmflow.watch import watching

COUNTS = np.array([0, 1, 3, 9])


def counts() -> tuple[Curves, np.ndarray]:
    """Of u ~ N(0, 1) and counts with the mean exp(u), with the modes."""
    with pm.Model() as model:
        u = pm.Normal("u", shape=4)
        pm.Poisson("y", pt.exp(u), observed=COUNTS)
    mode = np.zeros(4)
    for _ in range(50):
        mode += (COUNTS - np.exp(mode) - mode) / (np.exp(mode) + 1)
    at = mode[None]
    ((found, here, is_all),) = curves_at(log_density(model), at, np.arange(4), np.exp(at) + 1)
    assert is_all
    assert here == pytest.approx((norm.logpdf(mode) + poisson.logpmf(COUNTS, np.exp(mode))).sum())
    return found, mode


def density(u: float, count: int) -> float:
    return float(norm.pdf(u) * poisson.pmf(count, np.exp(u)))


def test_masses_and_moments_are_those_of_the_integrals() -> None:
    found, mode = counts()
    mean, variance = found.moments()
    for k, count in enumerate(COUNTS):
        total = quad(density, -12, 6, args=(count,), epsabs=1e-14)[0]
        relative = np.log(total) - np.log(density(mode[k], count))
        assert found.log_masses[k] == pytest.approx(relative, abs=5e-5)
        first = quad(lambda u, c=count: u * density(u, c), -12, 6)[0] / total
        second = quad(lambda u, c=count: u**2 * density(u, c), -12, 6)[0] / total
        assert mode[k] + mean[k] == pytest.approx(first, abs=5e-5)
        assert variance[k] == pytest.approx(second - first**2, abs=5e-5)


def test_places_together_are_as_each_alone() -> None:
    with pm.Model() as model:
        u = pm.Normal("u", shape=4)
        scale = pm.Normal("scale")
        pm.Poisson("y", pt.exp(u * pt.exp(scale)), observed=COUNTS)
    density, inner = log_density(model), np.arange(4)
    scales = np.array([-2.0, 0.0, 2.0])[:, None]
    u = np.zeros((3, 4))
    for _ in range(200):
        rate = np.exp(u * np.exp(scales))
        slope = np.exp(scales) * (COUNTS - rate) - u
        u += 0.5 * slope / (1 + np.exp(2 * scales) * rate)
    z, precisions = np.hstack([u, scales]), 1 + np.exp(2 * scales) * rate
    together = curves_at(density, z, inner, precisions)
    # nearly Gaussian; skewed; and with ends, where a polynomial of few nodes is too rough
    assert [len(curves.logs) for curves, *_ in together] == [13, 13, 25]
    assert (together[2][0].half < 6 / np.sqrt(precisions[2])).any()
    for k, (curves, here, is_all) in enumerate(together):
        ((alone, *others),) = curves_at(density, z[k : k + 1], inner, precisions[k : k + 1])
        assert others == [pytest.approx(here, nan_ok=True), is_all]
        assert alone.logs == pytest.approx(curves.logs, abs=1e-9)
        assert alone.log_masses == pytest.approx(curves.log_masses, abs=1e-9)


def test_the_density_and_its_slope() -> None:
    found, mode = counts()
    away = np.random.default_rng(1).normal(size=(6, 4)) / np.sqrt(np.exp(mode) + 1)
    totals = [quad(density, -12, 6, args=(count,), epsabs=1e-14)[0] for count in COUNTS]
    points = mode + away
    by_hand = norm.logpdf(points) + poisson.logpmf(COUNTS, np.exp(points)) - np.log(totals)
    assert found.log_density(away) == pytest.approx(by_hand.sum(1), abs=1e-4)
    assert found.slope(away) == pytest.approx(COUNTS - np.exp(points) - points, abs=1e-3)
    assert found.log_density(10 * np.ones((1, 4))) == -np.inf


def test_draws_have_its_quantiles() -> None:
    found, mode = counts()
    at = norm.ppf(np.array([0.01, 0.2, 0.5, 0.9, 0.999]))
    drawn = mode + found.drawn(np.tile(at[:, None], 4))
    for k, count in enumerate(COUNTS):
        total = quad(density, -12, 6, args=(count,))[0]
        shares = [quad(density, -12, u, args=(count,))[0] / total for u in drawn[:, k]]
        assert shares == pytest.approx(norm.cdf(at), abs=1e-3)


def test_tails_that_are_too_heavy_are_no_curves() -> None:
    with pm.Model() as model:
        pm.StudentT("u", 3.0, shape=4)
    at = np.zeros((1, 4))
    ((*_, is_all),) = curves_at(log_density(model), at, np.arange(4), np.full((1, 4), 4 / 3))
    assert not is_all


def hierarchy() -> tuple[pm.Model, np.ndarray]:
    rng = np.random.default_rng(2)
    y = rng.poisson(np.exp(rng.normal(-0.5, 0.8, 60)))
    with pm.Model() as model:
        tau = pm.HalfNormal("tau", 1.0)
        mu = pm.Normal("mu", 0.0, 2.0)
        u = pm.Normal("u", mu, tau, shape=60)
        pm.Poisson("y", pm.math.exp(u), observed=y)
    return model, y


def fitted(model: pm.Model) -> Any:
    with watching(progressbar=False):
        return NestedRung().climb(Climb(model, 1, None, FitOptions()), None, None)


@pytest.mark.slow
def test_the_marginal_is_exact() -> None:
    model, y = hierarchy()
    made = fitted(model)
    assert sorted(made.global_names) == ["mu", "tau_log__"]
    assert made.nested.locals_by == "curves"
    places = np.array([[-0.7, -0.5], [-0.2, -0.3], [-0.4, 0.2], [-1.5, -0.9]])  # log tau, mu
    logs = np.array([given.log_marginal[0] for given in made._nested.each(places)])
    for (t, mu), found in zip(places, logs, strict=True):
        wanted = np.log(2) + norm.logpdf(np.exp(t)) + t + norm.logpdf(mu, 0, 2)
        for count in y:
            mass = quad(
                lambda u, c=count, m=mu, s=t: norm.pdf(u, m, np.exp(s)) * poisson.pmf(c, np.exp(u)),
                mu - 9 * np.exp(t), mu + 9 * np.exp(t), epsabs=1e-14, limit=200,
            )[0]  # fmt: skip
            wanted += np.log(mass)
        assert found == pytest.approx(wanted, abs=2e-4)
    diagnosed = pmf.diagnose(made, random_seed=1)
    assert diagnosed.verdict == "reliable"
    assert diagnosed.kl == pytest.approx(0.0, abs=1e-3)
    drawn = made.draw(300, 1)
    assert drawn.log_q is not None
    assert drawn.log_p - drawn.log_q == pytest.approx(made.nested.log_evidence, abs=2e-3)


def test_a_variable_that_all_others_meet_is_made_global() -> None:
    pattern = np.eye(30, dtype=bool)
    pattern[:, :2] = pattern[:2] = True
    places = {"scale": slice(0, 1), "mean": slice(1, 2), "u": slice(2, 30)}
    scale = np.arange(30) == 0
    assert with_hubs(csr_array(pattern), places, scale).tolist() == (np.arange(30) < 2).tolist()
    pattern[2:, 2:] |= np.eye(28, k=1, dtype=bool) | np.eye(28, k=-1, dtype=bool)  # a chain
    assert with_hubs(csr_array(pattern), places, scale).tolist() == scale.tolist()
