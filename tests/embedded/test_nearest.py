"""The Gaussian nearest to a marginal: exact where it is one, and never lost where draws are few."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pmflow.embedded.nearest import nearest_gaussian
from pmflow.embedded.proposal import Proposal, weighted_moments

type Floats = NDArray[np.float64]

SIZE = 6


def target(size: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(size)
    root = rng.normal(size=(size, size))
    return 0.4 * rng.normal(size=size), root @ root.T / size + 0.5 * np.eye(size)


def values(theta: Floats, mean: Floats, covariance: Floats) -> Floats:
    away = theta - mean
    return np.asarray(-(away * np.linalg.solve(covariance, away.T).T).sum(1) / 2)


def found_by(number: int, size: int, bend: float = 0.0) -> tuple[Floats, Floats]:
    mean, covariance = target(size)
    proposal = Proposal.of_moments(np.zeros(size), np.eye(size))
    theta = proposal.draws(number, 1)
    log_marginal = values(theta, mean, covariance) + bend * (theta**3).sum(1).clip(-5, 5)
    log_marginal[0] = -np.inf  # a mode that was not found
    log_shares = log_marginal - proposal.log_density(theta)
    return nearest_gaussian(proposal, theta, log_marginal, log_shares - log_shares.max())


def test_a_gaussian_is_found_by_as_many_draws_as_it_has_moments() -> None:
    mean, covariance = found_by(64, SIZE)  # 28 coefficients
    expected = target(SIZE)
    # the penalty is small where the draws are foretold without one
    np.testing.assert_allclose(mean, expected[0], atol=0.02)
    np.testing.assert_allclose(covariance, expected[1], atol=0.03)


def effective(mean: Floats, covariance: Floats, size: int) -> float:
    """Of draws of a proposal there, of a Gaussian marginal."""
    proposal = Proposal.of_moments(mean, covariance)
    theta = proposal.draws(2_048, 5)
    log_weights = values(theta, *target(size)) - proposal.log_density(theta)
    weights = np.exp(log_weights - log_weights.max())
    return float(weights.sum() ** 2 / (weights**2).sum() / len(weights))


@pytest.mark.parametrize("bend", [0.0, 0.02])
def test_where_weighted_moments_are_chance_it_is_near(bend: float) -> None:
    size, number = 20, 384  # 231 coefficients
    proposal = Proposal.of_moments(np.zeros(size), np.eye(size))
    theta = proposal.draws(number, 1)
    log_weights = values(theta, *target(size)) - proposal.log_density(theta)
    by_weights = weighted_moments(np.exp(log_weights - log_weights.max()), theta)
    ridge = 1e-3 * np.eye(size)
    assert effective(by_weights[0], by_weights[1] + ridge, size) < 0.02
    assert effective(*found_by(number, size, bend), size) > 0.1


def test_few_draws_leave_it_definite() -> None:
    _, covariance = found_by(64, 20)
    assert (np.linalg.eigvalsh(covariance) > 0).all()


def test_a_marginal_that_rises_without_end_moves_it_by_little() -> None:
    proposal = Proposal.of_moments(np.zeros(2), np.eye(2))
    theta = proposal.draws(64, 1)
    mean, covariance = nearest_gaussian(proposal, theta, 50 * theta[:, 0], np.zeros(64))
    assert np.linalg.norm(mean) <= 3.0 + 1e-9
    assert (np.linalg.eigvalsh(covariance) < 9.0 + 1e-9).all()
