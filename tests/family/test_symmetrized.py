"""A fit and its mirror images: draws and densities against those written out."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pymc as pm
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

import pmflow as pmf
from pmflow.errors import ParameterError, UnsupportedError
from pmflow.posterior.symmetry import Move, Symmetry, closed

type Floats = NDArray[np.float64]

MEAN, SD = np.array([-1.0, 0.5, 2.0]), np.array([0.5, 1.0, 0.8])


def exchanges(dim: int) -> Symmetry:
    moves = [np.arange(dim) for _ in range(dim - 1)]
    for i, order in enumerate(moves):
        order[[i, i + 1]] = i + 1, i
    return closed(np.full(dim, -1), [Move(order, np.ones(dim)) for order in moves])


@pytest.fixture(scope="module")
def model() -> pm.Model:
    """Three exchangeable numbers; their density has no part in most of this."""
    with pm.Model() as made:
        pm.Normal("z", 0.0, 2.0, shape=3)
    return made


@pytest.fixture(scope="module")
def fitted(model: pm.Model) -> pmf.NormalizingFlow:
    frame = pmf.Frame(MEAN, np.diag(SD))
    return pmf.NormalizingFlow("scale-loc", model=model, random_seed=1, jitter=0.0, frame=frame)


@pytest.fixture(scope="module")
def approx(fitted: pmf.NormalizingFlow) -> pmf.Symmetrized:
    return pmf.Symmetrized(fitted, exchanges(3), fitted.report)


def log_density(z: Floats) -> Floats:
    """The mean over all orders, written out."""
    orders = [list(order) for order in permutations(range(3))]
    parts = [norm.logpdf(z[:, order], MEAN, SD).sum(1) for order in orders]
    return np.logaddexp.reduce(parts) - np.log(6)


def drawn(approx: pmf.Approximation, draws: int, seed: int) -> Floats:
    return np.asarray(approx.sample(draws, random_seed=seed)["posterior"]["z"])[0]


def test_its_density_is_the_mean_over_images(approx: pmf.Symmetrized) -> None:
    z = np.random.default_rng(1).normal(0.0, 2.0, (50, 3))
    np.testing.assert_allclose(approx.log_prob(z), log_density(z), rtol=1e-9)
    np.testing.assert_allclose(approx.log_prob(z[:, [2, 0, 1]]), approx.log_prob(z), rtol=1e-9)


def test_draws_say_what_density_they_have(approx: pmf.Symmetrized) -> None:
    found = approx.sample(40, random_seed=1)
    z = np.asarray(found["posterior"]["z"])[0]
    stats = found["sample_stats"]
    np.testing.assert_allclose(np.asarray(stats["log_q"])[0], log_density(z))
    np.testing.assert_allclose(np.asarray(stats["log_p"])[0], norm.logpdf(z, 0, 2).sum(1))


def test_draws_fall_into_all_images(approx: pmf.Symmetrized) -> None:
    z = drawn(approx, 60_000, 2)
    mean, square = MEAN.mean(), (SD**2 + MEAN**2).mean()
    np.testing.assert_allclose(z.mean(0), mean, atol=0.03)
    np.testing.assert_allclose((z**2).mean(0), square, rtol=0.03)
    # sums are the same in all images
    assert z.sum(1).var() == pytest.approx((SD**2).sum(), rel=0.03)
    assert z.sum(1).mean() == pytest.approx(MEAN.sum(), abs=0.03)


def test_the_same_seed_gives_the_same_draws(approx: pmf.Symmetrized) -> None:
    one, two, other = (drawn(approx, 7, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


def test_it_is_judged_by_one_image(approx: pmf.Symmetrized) -> None:
    """Over all images an error of each would be hidden."""
    z = np.asarray(approx.judged(20_000, 1)["posterior"]["z"])[0]
    np.testing.assert_allclose(z.mean(0), MEAN, atol=0.05)
    q = np.asarray(approx.judged(50, 2)["sample_stats"]["log_q"])[0]
    z = np.asarray(approx.judged(50, 2)["posterior"]["z"])[0]
    np.testing.assert_allclose(q, log_density(z))


def test_it_says_what_it_is(approx: pmf.Symmetrized, fitted: pmf.NormalizingFlow) -> None:
    assert (approx.images, fitted.images) == (6, 1)
    assert approx.family.startswith("6 images of ")
    assert str(approx.formula) == "scale-loc"
    assert approx.facts.correlated == fitted.facts.correlated
    assert not approx.facts.trained
    assert approx.fitted is fitted
    found = pmf.diagnose(approx, 500, random_seed=1)
    assert found.images == 6
    assert "mirror images" in str(found)
    assert "mirror images" not in str(pmf.diagnose(fitted, 500, random_seed=1))


def test_it_has_no_graph(approx: pmf.Symmetrized) -> None:
    with pytest.raises(UnsupportedError, match=r"approx\.fitted"):
        approx.sample_node(approx.model["z"])


@pytest.mark.parametrize("dim", [2, 4])
def test_maps_of_another_length_are_refused(fitted: pmf.NormalizingFlow, dim: int) -> None:
    with pytest.raises(ParameterError, match=f"length 3, but has .* of length {dim}"):
        pmf.Symmetrized(fitted, exchanges(dim), fitted.report)


def test_not_all_maps_are_refused(fitted: pmf.NormalizingFlow) -> None:
    some = Symmetry(np.full(3, -1), np.arange(3)[None], np.ones((1, 3)), is_whole=False)
    with pytest.raises(ParameterError, match="which are not all"):
        pmf.Symmetrized(fitted, some, fitted.report)


def test_a_sum_over_images_of_a_stack() -> None:
    """Components that are no images of each other keep their shares."""
    with pm.Model() as model:
        pm.Normal("z", 0.0, 2.0, shape=2)
    frame = pmf.Frame(np.array([0.0, 3.0]), 0.1 * np.eye(2))
    flow = pmf.NormalizingFlow("scale-loc", model=model, random_seed=1, jitter=0.0, frame=frame)
    here = flow.point
    flow.groups[0].move_to(pmf.Frame(np.array([5.0, 9.0]), 0.1 * np.eye(2)), 1)
    stack = pmf.Stack(flow, [here, flow.point], [0.25, 0.75], flow.report)
    approx = pmf.Symmetrized(stack, exchanges(2), stack.report)
    assert approx.is_stack
    at = np.array([[0.0, 3.0], [3.0, 0.0], [9.0, 5.0], [5.0, 9.0]])
    peak = -2 * np.log(0.1) - np.log(2 * np.pi)
    shares = np.array([0.125, 0.125, 0.375, 0.375])
    np.testing.assert_allclose(approx.log_prob(at), peak + np.log(shares), rtol=1e-6)
    z = drawn(approx, 8_000, 1)
    near = [np.linalg.norm(z - one, axis=1) < 1.0 for one in at]
    np.testing.assert_allclose([here.mean() for here in near], shares, atol=0.02)
