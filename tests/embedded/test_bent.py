"""Bent and tilted Gaussians, and those that are matched to scores: against closed forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import digamma, polygamma
from scipy.stats import norm

from pmflow.embedded.bent import KNOTS, Bends, Bent
from pmflow.embedded.matched import matched
from pmflow.embedded.tilt import Tilt

type Floats = NDArray[np.float64]


def bent() -> Bent:
    """Two variables, one of them straight, the other exp."""
    values = np.stack([2 * KNOTS + 1, np.exp(KNOTS / 4)], axis=1)
    slopes = np.stack([np.full_like(KNOTS, 2.0), np.exp(KNOTS / 4) / 4], axis=1)
    root = np.linalg.cholesky(np.array([[1.0, 0.6], [0.6, 1.0]]))
    return Bent(np.array([0.2, -0.1]), root, Bends.through(values, slopes))


def test_bends_are_the_functions_they_go_through_and_are_undone() -> None:
    psi = np.random.default_rng(1).normal(0, 2, (50, 2))
    bends = bent().bends
    inside = np.abs(psi).max(1) < 5
    found = bends(psi)
    assert found[inside, 1] == pytest.approx(np.exp(psi[inside, 1] / 4), rel=1e-5)
    assert bends.undone(found) == pytest.approx(psi, abs=1e-9)
    far = np.array([[9.0, -9.0]])
    assert bends.undone(bends(far)) == pytest.approx(far, abs=1e-9)
    # straight beyond the last knot
    assert bends(far)[0, 1] == pytest.approx(np.exp(-5 / 4) * (1 - 4 / 4), abs=1e-9)


def test_bends_increase_where_the_slopes_asked_for_would_not() -> None:
    values = np.tanh(KNOTS)[:, None]
    bends = Bends.through(values, np.full_like(values, 9.0))
    fine = bends(np.linspace(-6, 6, 2_001)[:, None])[:, 0]
    assert (np.diff(fine) > -1e-15).all()


def test_the_density_is_that_of_the_draws() -> None:
    made = bent()
    theta = made.draws(2_000, 3)
    psi = made.bends.undone(theta)
    away = np.linalg.solve(made.root, (psi - made.mean).T).T
    slopes = np.stack([np.full(len(psi), 2.0), np.exp(psi[:, 1] / 4) / 4], axis=1)
    by_hand = norm.logpdf(away).sum(1) - np.log(slopes).sum(1) - np.log(made.root[1, 1])
    assert made.log_density(theta) == pytest.approx(by_hand, abs=1e-3)
    mean = np.exp(-0.1 / 4 + 1 / 32)  # of a log-normal variable
    assert theta[:, 1].mean() == pytest.approx(mean, abs=0.002)


def tilted() -> Bent:
    """With a third degree: how wide the first variable is depends on the second."""
    factors = np.array([[0, 2, 2], [0, 0, 1], [1, 1, 1]])
    return replace(bent(), tilt=Tilt(2, factors, np.array([0.1, 0.15, 0.05])))


@pytest.mark.parametrize("make", [bent, tilted])
def test_what_is_in_excess_is_the_gradient_of_the_ratio(make: Callable[[], Bent]) -> None:
    made = make()
    y = np.random.default_rng(4).normal(size=(6, 2))
    scores = np.random.default_rng(5).normal(size=2)  # of a log density that is a line

    def ratio(y: Floats) -> Floats:
        theta = made.placed(y)
        # of y, both have the same volume
        return np.asarray(theta @ scores - made.log_density(theta))

    wanted = np.empty_like(y)
    for k in range(2):
        step = 1e-5 * np.eye(2)[k]
        wanted[:, k] = (ratio(y + step) - ratio(y - step)) / 2e-5
    found = made.excess(made.placed(y), np.tile(scores, (len(y), 1)))
    assert found == pytest.approx(wanted, abs=1e-5)


def test_a_tilted_density_is_one_and_its_draws_are_of_it() -> None:
    made = tilted()
    side = np.linspace(-7, 7, 281)
    y = np.stack([np.repeat(side, 281), np.tile(side, 281)], axis=1)
    theta = made.placed(y)
    slopes = made.bends.log_slopes(made.bends.undone(theta)).sum(1) + np.log(made.root[1, 1])
    shares = np.exp(made.log_density(theta) + slopes) * (side[1] - side[0]) ** 2
    assert shares.sum() == pytest.approx(1.0, abs=0.01)
    draws = made.standard_draws(20_000, 2)
    assert draws.mean(0) == pytest.approx(shares @ y / shares.sum(), abs=0.03)
    products = (shares * y[:, 0] ** 2 * y[:, 1]).sum() / shares.sum()
    assert (draws[:, 0] ** 2 * draws[:, 1]).mean() == pytest.approx(products, abs=0.1)
    assert abs(products) > 0.2


def test_a_polynomial_is_found_by_its_gradients() -> None:
    truth = Tilt(3, np.array([[0, 3, 3], [0, 0, 2], [0, 1, 2]]), np.array([0.2, -0.1, 0.3]))
    y = np.random.default_rng(6).normal(size=(80, 3))
    found = Tilt.matched(y, truth.gradient(y))
    assert found is not None
    fresh = np.random.default_rng(7).normal(size=(80, 3))
    assert found.gradient(fresh) == pytest.approx(truth.gradient(fresh), abs=0.05)
    noise = np.random.default_rng(8).normal(size=(80, 3))
    assert Tilt.matched(y, noise) is None


def test_of_many_variables_those_products_are_kept_that_say_something() -> None:
    size = 50  # 3,825 products
    truth = Tilt(size, np.array([[7, 7, 31]]), np.array([0.3]))
    y = np.random.default_rng(9).normal(size=(200, size))
    found = Tilt.matched(y, truth.gradient(y))
    assert found is not None
    assert len(found.factors) == 2_000
    largest = found.factors[np.abs(found.coefficients).argmax()]
    assert sorted(largest) == [7, 7, 31]


def test_a_gaussian_is_matched_exactly() -> None:
    rng = np.random.default_rng(10)
    size = 12
    root = np.tril(rng.normal(0, 0.3, (size, size)), -1) + np.diag(rng.uniform(0.5, 2, size))
    covariance, mean = root @ root.T, rng.normal(size=size)
    found = Bent.gaussian(mean + 0.5, np.diag(np.diag(covariance)))
    for number in range(4):
        theta = found.placed(rng.normal(size=(32, size)))
        scores = np.linalg.solve(covariance, (mean - theta).T).T
        found = matched(found, theta, scores)
        assert np.isfinite(found.root).all(), number
    proposal = found.by_moments
    assert proposal.mean == pytest.approx(mean, abs=0.02)
    ratio = np.sqrt((proposal.factor**2).sum(1) / np.diag(covariance))
    assert ratio == pytest.approx(1.0, abs=0.02)


def test_skewed_marginals_are_matched() -> None:
    """Logs of gamma variables: their mean and sd are polygamma functions."""
    shape = np.array([0.7, 2.0, 9.0])
    rng = np.random.default_rng(11)
    found = Bent.gaussian(np.log(shape), np.diag(1 / shape))
    theta, scores = np.empty((0, 3)), np.empty((0, 3))
    for _ in range(8):
        new = found.placed(rng.normal(size=(96, 3)))
        theta = np.concatenate([theta, new])[-256:]
        scores = np.concatenate([scores, shape - np.exp(new)])[-256:]
        found = matched(found, theta, scores)
    draws = found.draws(8_192, 1)
    sd = np.sqrt(polygamma(1, shape))
    assert (draws.mean(0) - digamma(shape)) / sd == pytest.approx(0.0, abs=0.05)
    assert draws.std(0) / sd == pytest.approx(1.0, abs=0.08)
