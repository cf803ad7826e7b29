"""Blocks of local variables that are independent of each other: against integrals on a grid."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pymc as pm
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import gammaln, logsumexp
from scipy.stats import norm

import pmflow as pmf
from pmflow.embedded.blocks import Blocks, BlockWeights, chosen, relative_weights
from pmflow.embedded.choices import chosen_at
from pmflow.embedded.factor import SparseFactor
from pmflow.embedded.factors import Factors
from pmflow.embedded.globals import with_hubs
from pmflow.embedded.weighing import missed_by
from pmflow.ladder.climb import Climb
from pmflow.ladder.nested import NestedRung
from pmflow.training.options import FitOptions
from pmflow.watch import watching

GROUPS, EACH = 40, 4
type Floats = NDArray[np.float64]


def data() -> tuple[Floats, Floats]:
    """Counts of groups with an intercept and a slope each, and what they depend on."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(GROUPS, EACH))
    u = rng.normal([-0.5, 0.3], [0.8, 0.5], (GROUPS, 2))
    return x, rng.poisson(np.exp(u[:, :1] + u[:, 1:] * x)).astype(float)


@cache
def fitted() -> tuple[Any, pm.Model]:
    x, y = data()
    with pm.Model() as model:
        tau = pm.HalfNormal("tau", 1.0, shape=2)
        mu = pm.Normal("mu", 0.0, 2.0, shape=2)
        u = pm.Normal("u", mu, tau, shape=(GROUPS, 2))
        pm.Poisson("y", pm.math.exp(u[:, :1] + u[:, 1:] * x), observed=y)
    with watching(progressbar=False):
        return NestedRung().climb(Climb(model, 1, None, FitOptions()), None, None), model


def log_joint(group: int, u: Floats, mu: Floats, tau: Floats) -> Floats:
    """Of one group, at points of shape (n, 2)."""
    x, y = data()
    eta = u[:, :1] + u[:, 1:] * x[group]
    counts = (y[group] * eta - np.exp(eta) - gammaln(y[group] + 1)).sum(1)
    return norm.logpdf(u, mu, tau).sum(1) + counts


def of_grid(group: int, mu: Floats, tau: Floats) -> tuple[float, Floats, Floats]:
    """Log of the integral, mean and sds of the intercept and the slope of one group."""
    side = np.linspace(-9, 9, 401)
    points = np.stack([np.repeat(side, 401), np.tile(side, 401)], 1) * tau * 0.8 + mu
    log = log_joint(group, points, mu, tau)
    total = float(logsumexp(log))
    shares = np.exp(log - total)
    mean = shares @ points
    cell = float(np.prod(tau * 0.8 * (side[1] - side[0])))
    return total + np.log(cell), mean, np.sqrt(shares @ (points - mean) ** 2)


@pytest.mark.slow
def test_the_marginal_is_that_of_the_integrals() -> None:
    made, _ = fitted()
    assert sorted(made.global_names) == ["mu", "tau_log__"]
    assert made.nested.locals_by == "weights"
    places = made.drawn_points(40, 3)[0][:6][:, made._nested.conditional.globals]
    order = {n: place for n, place, *_ in made.ordering.values()}
    assert order["tau_log__"].start == 0  # mu comes after tau
    given = list(made._nested.each(places))
    wanted = []
    for place in places:
        tau, mu = np.exp(place[:2]), place[2:]
        prior = norm.logpdf(mu, 0, 2).sum() + (np.log(2) + norm.logpdf(tau) + np.log(tau)).sum()
        wanted.append(prior + sum(of_grid(g, mu, tau)[0] for g in range(GROUPS)))
    y = made.nested.unit.standardised(places)
    conditional = made._nested.conditional
    assert made._nested.weighed_by is conditional.blocks
    missed = missed_by(conditional, given, y, np.random.default_rng(1), conditional.blocks)
    off = np.array([g.log_marginal[0] for g in given]) + missed.together - wanted
    assert off == pytest.approx(0.0, abs=0.1)
    # a constant moves nothing
    assert off.std() < 0.03


@pytest.mark.slow
def test_draws_have_the_moments_of_each_group() -> None:
    made, _ = fitted()
    place = made.drawn_points(40, 3)[0][:1][:, made._nested.conditional.globals]
    (given,) = made._nested.each(place)
    rng = np.random.default_rng(2)
    draws = np.concatenate(
        [chosen_at(made._nested.conditional, given, 16, rng).z for _ in range(500)]
    )
    u = draws[:, made._nested.conditional.locals].reshape(-1, GROUPS, 2)
    for group in (0, 7, 23):
        _, mean, sd = of_grid(group, place[0, 2:], np.exp(place[0, :2]))
        assert (u[:, group].mean(0) - mean) / sd == pytest.approx(0.0, abs=0.06)
        assert u[:, group].std(0) == pytest.approx(sd, rel=0.05)


@pytest.mark.slow
def test_where_a_scale_is_small_local_variables_stay_where_it_lets_them() -> None:
    made, _ = fitted()
    place = np.array([[-0.5, -4.7, -0.6, 0.1]])  # tau, as logs, and mu: slopes have an sd of 0.01
    (given,) = made._nested.each(place)
    _, mean, sd = of_grid(7, place[0, 2:], np.exp(place[0, :2]))
    middle = given.z[0, made._nested.conditional.locals].reshape(GROUPS, 2)[7]
    assert (middle - mean) / sd == pytest.approx(0.0, abs=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 3, 5, 7])  # the last two by more places than the first
def test_it_is_judged_reliable(seed: int) -> None:
    made, _ = fitted()
    assert pmf.diagnose(made, random_seed=seed).verdict == "reliable"


@pytest.mark.slow
def test_it_is_kept() -> None:
    made, model = fitted()
    drawn = made.draw(50, 1)
    assert drawn.log_q is not None
    assert drawn.log_p - drawn.log_q == pytest.approx(made.nested.log_evidence, abs=1e-9)
    points, log_q = made.drawn_points(50, 1)
    assert made.log_prob(points) == pytest.approx(log_q, abs=1e-9)
    again = pmf.Approximation.from_state(made.to_state(), model)
    np.testing.assert_array_equal(again.drawn_points(50, 1)[0], points)


def test_blocks_are_read_from_the_pattern() -> None:
    pairs = csr_array(np.kron(np.eye(10), np.ones((2, 2))))
    found = Blocks.of_pattern(pairs)
    assert found is not None
    assert found.labels.tolist() == np.repeat(np.arange(10), 2).tolist()
    assert Blocks.of_pattern(csr_array(np.kron(np.eye(7), np.ones((2, 2))))) is None
    assert Blocks.of_pattern(csr_array(np.kron(np.eye(10), np.ones((33, 33))))) is None


def test_mean_weights_are_free_of_what_their_noise_adds() -> None:
    rng = np.random.default_rng(1)
    sums = [BlockWeights.of(0.5 * rng.normal(size=(1, 8, 400))).missed()[0] for _ in range(200)]
    exact = 400 * 0.5**2 / 2  # of log-normal weights
    assert np.mean(sums) == pytest.approx(exact, rel=0.02)
    many = sum(
        (BlockWeights.of(0.5 * rng.normal(size=(1, 8, 400))) for _ in range(199)),
        start=BlockWeights.of(0.5 * rng.normal(size=(1, 8, 400))),
    )
    assert many.missed()[0] == pytest.approx(exact, rel=0.01)
    assert many.unevenness == pytest.approx(np.expm1(0.5**2), rel=0.5)


def test_draws_are_chosen_by_their_weights() -> None:
    weights = relative_weights(np.log([[1.0, 5.0], [3.0, 1.0], [4.0, 2.0]]))
    assert weights.mean(0) == pytest.approx(1.0)
    found = chosen(weights, 4_000, np.random.default_rng(1))
    for block in range(2):
        shares = np.bincount(found[:, block], minlength=3) / 4_000
        assert shares == pytest.approx(weights[:, block] / 3, abs=1e-3)
    both = np.bincount(3 * found[:, 0] + found[:, 1], minlength=9).reshape(3, 3) / 4_000
    assert both == pytest.approx(np.outer(*weights.T) / 9, abs=0.03)  # independent


def test_variables_by_which_blocks_meet_are_made_global() -> None:
    pattern = np.ones((26, 26))
    pattern[2:, 2:] = np.kron(np.eye(12), np.ones((2, 2)))
    places = {"scale": slice(0, 1), "mean": slice(1, 2), "u": slice(2, 26)}
    scale = np.arange(26) == 0
    assert with_hubs(csr_array(pattern), places, scale).tolist() == (np.arange(26) < 2).tolist()


def blocks_of_three() -> tuple[Blocks, SparseFactor, Floats]:
    """Forty blocks of three that lie among each other, with the precision of all."""
    rng = np.random.default_rng(3)
    half = rng.normal(size=(40, 3, 3))
    precision = np.zeros((120, 120))
    for k, block in enumerate(half @ half.transpose(0, 2, 1) + np.eye(3)):
        precision[np.ix_(k + 40 * np.arange(3), k + 40 * np.arange(3))] = block
    factors = Factors(csr_array(precision != 0))
    factor = factors.of(precision[factors.rows, factors.columns])
    assert isinstance(factor, SparseFactor)
    return Blocks(np.tile(np.arange(40, dtype=np.int32), 3)), factor, precision


def test_weights_of_a_gaussian_are_equal_in_each_block() -> None:
    blocks, factor, precision = blocks_of_three()
    assert factor.order.tolist() != list(range(120))

    def value_and_slope(z: Floats) -> tuple[Floats, Floats]:
        return np.zeros(len(z)), -z[:, 1:] @ precision

    e = np.random.default_rng(4).normal(size=(5, 120))
    deviation, found = blocks.log_weights(
        value_and_slope, np.zeros(121), np.arange(1, 121), factor, e
    )
    np.testing.assert_allclose(deviation, factor.coloured(e))
    assert found == pytest.approx(0.0, abs=1e-9)


def test_the_way_to_a_draw_has_the_change_of_the_log_density() -> None:
    blocks, factor, precision = blocks_of_three()

    def value_and_slope(z: Floats) -> tuple[Floats, Floats]:
        u = z[:, 1:]
        return np.zeros(len(z)), -u @ precision - np.exp(u)

    e = np.random.default_rng(4).normal(size=(5, 120))
    deviation, found = blocks.log_weights(
        value_and_slope, np.zeros(121), np.arange(1, 121), factor, e
    )
    # what is not of the Gaussian: 1 - exp(u)
    by_hand = (1 - np.exp(deviation)).reshape(5, 3, 40).sum(1)
    assert found == pytest.approx(by_hand, abs=1e-5)


def test_draws_beyond_the_density_have_no_weight() -> None:
    blocks, factor, precision = blocks_of_three()

    def value_and_slope(z: Floats) -> tuple[Floats, Floats]:
        is_within = z[:, 1] < 1.0  # elsewhere there is no slope either
        value = np.where(is_within, 0.0, -np.inf)
        return value, np.where(is_within[:, None], -z[:, 1:] @ precision, 0.0)

    e = np.zeros((4, 120))
    e[:, factor.order == 0] = np.array([[0.1], [-0.1], [9.0], [-9.0]]) * precision[0, 0] ** 0.5
    deviation, found = blocks.log_weights(
        value_and_slope, np.zeros(121), np.arange(1, 121), factor, e
    )
    is_lost = deviation[:, 0] >= 1.0
    assert is_lost.sum() == 1
    assert np.isnan(found[is_lost]).all()
    assert found[~is_lost] == pytest.approx(0.0, abs=1e-9)
    weights = relative_weights(found)
    assert (weights[is_lost] == 0).all()
    assert not is_lost[chosen(weights, 40, np.random.default_rng(1))].any()
    assert np.isnan(BlockWeights.of(found[None]).missed()).all()
