"""Many global variables by the scores of their marginal: against exact marginals on grids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

import pmflow as pmf
from pmflow.embedded.bent import Bent
from pmflow.embedded.check_scores import check_by_scores
from pmflow.embedded.marginal import NoCentreError
from pmflow.embedded.nested import Nested
from pmflow.embedded.values import with_values
from pmflow.ladder.climb import Climb
from pmflow.ladder.nested import NestedRung
from pmflow.training.options import FitOptions
from pmflow.watch import watching

SCALES, EACH, SEEN = 14, 12, 4
PRIOR = 0.7
RNG = np.random.default_rng(8)
X = RNG.uniform(-1, 1, (EACH, SCALES, SEEN))
TRUE = np.exp(RNG.normal(-0.3, 0.4, SCALES))[:, None] * RNG.normal(size=(EACH, SCALES, 2))
TRUE = np.clip(TRUE, -1.2, 1.2)  # so that no posterior is narrower than the grid is fine
Y = RNG.poisson(np.exp(0.5 + TRUE[..., :1] + TRUE[..., 1:] * X)).astype(float)
COUNTS = RNG.poisson(np.exp(0.5 + 0.7 * RNG.normal(size=(34, SCALES)))).astype(float)
type Floats = NDArray[np.float64]


def slopes() -> pm.Model:
    """Each scale has groups of its own, of an intercept and a slope each."""
    with pm.Model() as model:
        log_tau = pm.Normal("log_tau", 0.0, PRIOR, shape=SCALES)
        u = pm.Normal("u", 0.0, pt.exp(log_tau)[:, None], shape=(EACH, SCALES, 2))
        pm.Poisson("y", pt.exp(0.5 + u[..., :1] + u[..., 1:] * X), observed=Y)
    return model


def levels() -> pm.Model:
    """Each scale has many groups of one number each, independent given it."""
    with pm.Model() as model:
        log_tau = pm.Normal("log_tau", 0.0, PRIOR, shape=SCALES)
        u = pm.Normal("u", 0.0, pt.exp(log_tau), shape=COUNTS.shape)
        pm.Poisson("y", pt.exp(0.5 + u), observed=COUNTS)
    return model


@cache
def fitted(make: Callable[[], pm.Model] = slopes) -> tuple[Any, pm.Model]:
    model = make()
    with watching(progressbar=False):
        return NestedRung().climb(Climb(model, 1, None, FitOptions()), None, None), model


@cache
def exact() -> tuple[Floats, Floats]:
    """Log scales on a grid, shape (n,), and the log marginal of each there, shape (n, SCALES)."""
    side = np.linspace(-6, 6, 121)
    e = np.stack([np.repeat(side, 121), np.tile(side, 121)])
    log_normal = -(e**2).sum(0) / 2 - np.log(2 * np.pi) + 2 * np.log(side[1] - side[0])
    grid = np.linspace(-3.5, 1.5, 101)
    log_p = np.empty((len(grid), SCALES))
    for i, log_tau in enumerate(grid):
        u = np.exp(log_tau) * e
        eta = 0.5 + u[0] + X[..., None] * u[1]
        counts = Y[..., None] * eta - np.exp(eta) - gammaln(Y[..., None] + 1)
        integrals = logsumexp(counts.sum(2) + log_normal, axis=-1)
        log_p[i] = integrals.sum(0) - (log_tau / PRIOR) ** 2 / 2
    return grid, log_p


@cache
def exact_levels() -> tuple[Floats, Floats]:
    """The same of the model of levels."""
    e = np.linspace(-8, 8, 1_601)
    log_normal = -(e**2) / 2 - np.log(2 * np.pi) / 2 + np.log(e[1] - e[0])
    grid = np.linspace(-3.5, 1.5, 101)
    log_p = np.empty((len(grid), SCALES))
    for i, log_tau in enumerate(grid):
        eta = 0.5 + np.exp(log_tau) * e
        counts = COUNTS[..., None] * eta - np.exp(eta)
        integrals = logsumexp(counts + log_normal, axis=-1) - gammaln(COUNTS + 1)
        log_p[i] = integrals.sum(0) - (log_tau / PRIOR) ** 2 / 2
    return grid, log_p


def moments(of: Callable[[], tuple[Floats, Floats]] = exact) -> tuple[Floats, Floats]:
    grid, log_p = of()
    p = np.exp(log_p - logsumexp(log_p, axis=0))
    mean = grid @ p
    return mean, np.sqrt(grid**2 @ p - mean**2)


def evidence(of: Callable[[], tuple[Floats, Floats]] = exact) -> float:
    grid, log_p = of()
    log_p = log_p - np.log(2 * np.pi) / 2 - np.log(PRIOR) + np.log(grid[1] - grid[0])
    return float(logsumexp(log_p, axis=0).sum())


def test_scores_are_slopes_of_the_exact_marginal() -> None:
    made, _ = fitted()
    nested = made._nested
    grid, log_p = exact()
    mean, sd = moments()
    rng = np.random.default_rng(1)
    # an sd below and above, in turn
    at = np.searchsorted(grid, mean + np.where(np.arange(SCALES) % 2, sd, -sd))
    ends = np.take_along_axis(log_p, np.stack([at - 1, at + 1]), axis=0)
    slope = (ends[1] - ends[0]) / (grid[at + 1] - grid[at - 1])
    (given,) = nested.each(grid[None, at])
    for choices, error in ((4, 0.06), (64, 0.015)):
        scores = [nested.scorer.at(given, choices, rng, choices)[1].of_globals for _ in range(20)]
        assert (np.mean(scores, axis=0) - slope) * sd == pytest.approx(0.0, abs=error)
        # without what Stein's identity adds they vary by 0.8, of 64 draws by 0.4
        assert (np.std(scores, axis=0) * sd).max() < 0.2


def test_means_sds_and_the_evidence_are_exact() -> None:
    made, _ = fitted()
    assert isinstance(made, pmf.EmbeddedLaplace)
    assert made.global_names == ["log_tau"]
    assert made.nested.marginal is not None
    mean, sd = moments()
    theta = made.nested.marginal.draws(8_192, 1)
    assert np.abs((theta.mean(0) - mean) / sd).max() < 0.08
    assert theta.std(0) / sd == pytest.approx(1.0, abs=0.08)
    found = pmf.diagnose(made, random_seed=3)
    assert found.verdict == "reliable"
    assert found.log_evidence == pytest.approx(evidence(), abs=0.3)
    assert "to first order" in found.reasons[0]


def test_values_without_noise_weigh_what_scores_propose() -> None:
    made, model = fitted(levels)
    assert made.global_names == ["log_tau"]
    assert made.nested.marginal is not None
    assert made.nested.locals_by == "curves"
    mean, sd = moments(exact_levels)
    theta = made.sample(4_000, random_seed=1).posterior["log_tau"].values[0]
    assert np.abs((theta.mean(0) - mean) / sd).max() < 0.08
    assert theta.std(0) / sd == pytest.approx(1.0, abs=0.06)
    found = pmf.diagnose(made, random_seed=3)
    assert found.verdict == "reliable"
    assert found.log_evidence == pytest.approx(evidence(exact_levels), abs=0.1)
    again = pmf.Approximation.from_state(made.to_state(), model)
    np.testing.assert_array_equal(again.drawn_points(9, 1)[0], made.drawn_points(9, 1)[0])
    marginal: Bent = made.nested.marginal
    away = replace(marginal, mean=marginal.mean + 3 * np.sqrt(np.diag(marginal.covariance)))
    elsewhere = Nested(made._nested.conditional, replace(made.nested, marginal=away))
    assert with_values(elsewhere, "curves", 1) is None


def test_local_variables_follow() -> None:
    made, _ = fitted()
    u = made.sample(1_000, random_seed=4).posterior["u"].values[0]
    # of the first scale's groups, on a grid of the scale and of both effects
    grid, log_p = exact()
    shares = np.exp(log_p[:, 0] - logsumexp(log_p[:, 0]))
    side = np.linspace(-6, 6, 121)
    e = np.stack([np.repeat(side, 121), np.tile(side, 121)])
    mean = np.zeros((EACH, 2))
    for log_tau, share in zip(grid, shares, strict=True):
        of_scale = np.exp(log_tau) * e
        eta = 0.5 + of_scale[0] + X[:, 0, :, None] * of_scale[1]
        log_q = (Y[:, 0, :, None] * eta - np.exp(eta)).sum(1) - (e**2).sum(0) / 2
        weights = np.exp(log_q - logsumexp(log_q, axis=1)[:, None])
        mean += share * weights @ of_scale.T
    assert np.abs((u[:, :, 0].mean(0) - mean) / u[:, :, 0].std(0)).max() < 0.15


def wrong(**changes: Any) -> Nested:
    """The fit with another marginal."""
    made, _ = fitted()
    marginal = replace(made.nested.marginal, **changes)
    return Nested(made._nested.conditional, replace(made.nested, marginal=marginal))


def test_a_marginal_that_is_off_is_seen_to_be() -> None:
    made, _ = fitted()
    outer = made._nested.conditional.globals
    marginal: Bent = made.nested.marginal
    sds = np.sqrt(np.diag(marginal.covariance))
    shifted = check_by_scores(wrong(mean=marginal.mean + 0.25 * sds), 1)
    assert shifted.shift[outer] == pytest.approx(-0.25, abs=0.1)
    widened = check_by_scores(wrong(root=1.2 * marginal.root), 1)
    assert widened.growth[outer] == pytest.approx(-0.44, abs=0.2)
    as_it_is = check_by_scores(wrong(), 1)
    assert np.abs(as_it_is.shift).max() < 0.08


def test_it_is_kept() -> None:
    made, model = fitted()
    points, log_q = made.drawn_points(40, 1)
    assert np.isfinite(log_q).all()
    again = pmf.Approximation.from_state(made.to_state(), model)
    np.testing.assert_array_equal(again.drawn_points(40, 1)[0], points)
    assert pmf.diagnose(again, random_seed=3).verdict == "reliable"


def test_third_derivatives_are_those_of_differences() -> None:
    made, _ = fitted()
    nested = made._nested
    conditional = nested.conditional
    (given,) = nested.each(made.nested.centre.z[None, conditional.globals])
    z, outer, inner = given.z[0], conditional.globals, conditional.locals
    lengths = np.full(SCALES, 1e-3)
    crossed = conditional.third.crossed(z, lengths)
    _, (here,) = conditional.density.value_and_gradient(z[None])
    (values,) = conditional.precisions(z[None])
    factor = conditional.factors.of(values)
    assert factor is not None
    moved = factor.solve(crossed)
    traces = conditional.third.traces(z, here, factor, moved)
    rng = np.random.default_rng(2)
    a, b = factor.coloured(rng.normal(size=(2, len(inner))))[:, None]
    products = conditional.third.products(z, here, a, b, moved)
    for k in (0, 5):
        ends = []
        for sign in (-1, 1):
            point = z.copy()
            point[outer[k]] += sign * 1e-3
            point[inner] += sign * 1e-3 * moved[k]
            (there,) = conditional.precisions(point[None])
            matrix = conditional.factors.matrix(there)
            slope = conditional.density.value_and_gradient(point[None])[1][0, inner]
            log_det = np.linalg.slogdet(matrix.toarray())[1]
            ends.append((log_det, float((a @ (matrix @ b.T))[0, 0]), slope))
        assert traces[k] == pytest.approx((ends[1][0] - ends[0][0]) / 2e-3, rel=1e-3)
        assert products[0, k] == pytest.approx((ends[1][1] - ends[0][1]) / 2e-3, rel=1e-2, abs=1e-3)
        # the gradient changes by what the global variable does and by the precision of the way
        change = (ends[1][2] - ends[0][2]) / 2e-3
        assert change == pytest.approx(crossed[k] - conditional.times(z, moved[k]), abs=1e-2)


def test_without_a_marginal_by_scores_there_is_that_by_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = []

    def none(*_: Any) -> None:
        tried.append(1)
        raise NoCentreError("they are far from Gaussian")

    monkeypatch.setattr("pmflow.ladder.nested._FEW_BY_VALUES", 3)
    monkeypatch.setattr("pmflow.ladder.nested.fit_by_scores", none)
    rng = np.random.default_rng(5)
    x, seen = rng.normal(size=(20, 4)), rng.poisson(1.0, (20, 4))
    with pm.Model() as model:
        tau = pm.HalfNormal("tau", 1.0, shape=2)
        mu = pm.Normal("mu", 0.0, 1.0, shape=2)
        u = pm.Normal("u", mu, tau, shape=(20, 2))
        pm.Poisson("y", pt.exp(u[:, :1] + u[:, 1:] * x), observed=seen)
    with watching(progressbar=False):
        made: Any = NestedRung().climb(Climb(model, 1, None, FitOptions()), None, None)
    assert tried == [1]
    assert made.nested.marginal is None
    assert made.nested.locals_by in {"gaussian", "weights"}
