"""R-hat of windows of iterates, and when a fit has settled."""

from __future__ import annotations

import numpy as np
import pytest

from pmflow.training.settle import has_settled, rhat_over_windows


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def gelman_rubin(chains: np.ndarray) -> float:
    """Gelman et al., Bayesian Data Analysis, 3rd edition, equations 11.1 to 11.4: (chains, n)."""
    m, n = chains.shape
    means = chains.mean(1)
    between = n / (m - 1) * ((means - means.mean()) ** 2).sum()
    within = ((chains - means[:, None]) ** 2).sum() / (m * (n - 1))
    return float(np.sqrt(((n - 1) / n * within + between / n) / within))


@pytest.mark.parametrize("windows", [2, 4, 5])
def test_rhat_is_that_of_windows_as_chains(windows: int, rng: np.random.Generator) -> None:
    iterates = rng.normal(size=(83, 3)) + np.linspace(0, 2, 83)[:, None]
    length = 83 // windows
    kept = iterates[-length * windows :]
    expected = [gelman_rubin(kept[:, i].reshape(windows, length)) for i in range(3)]
    np.testing.assert_allclose(rhat_over_windows(iterates, windows), expected, rtol=1e-12)


def test_rhat_agrees_with_arviz(rng: np.random.Generator) -> None:
    from arviz_stats.base import array_stats

    iterates = rng.normal(size=(80, 1)).cumsum(0)
    # "identity": neither split nor rank-normalised
    expected = array_stats.rhat(iterates.reshape(4, 20), method="identity")
    np.testing.assert_allclose(rhat_over_windows(iterates)[0], expected, rtol=1e-10)


def test_what_never_moves_has_settled_and_what_jumps_has_not() -> None:
    still = np.ones((40, 1))
    jumps = np.repeat([0.0, 1.0, 2.0, 3.0], 10)[:, None]
    np.testing.assert_array_equal(
        rhat_over_windows(np.concatenate([still, jumps], axis=1)), [1.0, np.inf]
    )


NO_TOLERANCE = 0.0


def test_noise_about_one_place_has_settled(rng: np.random.Generator) -> None:
    falling = np.linspace(10, 0, 400)  # the losses alone would say no
    assert has_settled(falling, rng.normal(size=(80, 50)), NO_TOLERANCE)


def test_drifting_iterates_with_falling_losses_have_not(rng: np.random.Generator) -> None:
    drift = np.linspace(0, 10, 80)[:, None] + 0.1 * rng.normal(size=(80, 50))
    falling = np.linspace(10, 0, 400) + 0.1 * rng.normal(size=400)
    assert not has_settled(falling, drift, NO_TOLERANCE)


def test_a_tenth_of_the_parameters_may_still_drift(rng: np.random.Generator) -> None:
    falling = np.linspace(10, 0, 400)
    for drifting, expected in ((4, True), (10, False)):
        iterates = rng.normal(size=(400, 50))
        iterates[:, :drifting] += np.linspace(0, 20, 400)[:, None]
        assert has_settled(falling, iterates, NO_TOLERANCE) is expected


class TestLosses:
    """Of iterates that drift along a direction of no importance."""

    drift = np.linspace(0, 10, 80)[:, None]

    def test_losses_that_fall_by_less_than_their_noise(self, rng: np.random.Generator) -> None:
        losses = 1e-3 * np.linspace(1, 0, 4_000) + rng.normal(size=4_000)
        losses -= np.r_[
            np.zeros(2_000), np.full(2_000, losses[2_000:].mean() - losses[:2_000].mean())
        ]
        assert has_settled(losses, self.drift, NO_TOLERANCE)

    def test_losses_that_rise(self) -> None:
        assert has_settled(np.linspace(0, 1, 400), self.drift, NO_TOLERANCE)

    @pytest.mark.parametrize(("tolerance", "expected"), [(0.4, False), (0.6, True)])
    def test_a_gain_below_the_tolerance(self, tolerance: float, *, expected: bool) -> None:
        # the means of the halves are 0.5 apart, without noise
        losses = np.repeat([1.5, 1.0], 200)
        assert has_settled(losses, self.drift, tolerance) is expected

    def test_losses_that_are_not_finite_are_left_out(self) -> None:
        losses = np.repeat([1.5, 1.0], 200)
        losses[::3] = np.inf
        assert not has_settled(losses, self.drift, 0.4)
        assert has_settled(losses, self.drift, 0.6)

    def test_too_few_losses_say_nothing(self) -> None:
        assert not has_settled(np.zeros(39), self.drift, 1.0)
