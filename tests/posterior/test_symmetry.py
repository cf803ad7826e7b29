"""Symmetries of densities: those that are there are found, and no others."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from itertools import permutations, product
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from numpy.typing import NDArray

from pmflow.family.normalizing_flow import NormalizingFlow
from pmflow.posterior.density import LogDensity
from pmflow.posterior.find_symmetry import Symmetries, find_symmetries
from pmflow.posterior.symmetry import MOST_IMAGES, Move, Symmetry, closed

type Floats = NDArray[np.float64]

DATA = np.random.default_rng(1).normal([-3.0, 0.0, 3.0], 1.0, (10, 3)).ravel()


def density_of(model: pm.Model) -> LogDensity:
    return NormalizingFlow("loc", model=model, random_seed=1).groups[0].log_density


def points_of(dim: int, number: int = 3) -> Floats:
    return np.random.default_rng(2).normal(0.0, 0.5, (number, dim))


def found_in(model: pm.Model) -> tuple[LogDensity, Symmetries]:
    density = density_of(model)
    return density, find_symmetries(density, points_of(density.dim))


def group_of(model: pm.Model) -> tuple[LogDensity, Symmetry | None]:
    """All symmetries that take a point without any pattern somewhere else."""
    density, found = found_in(model)
    at = np.random.default_rng(3).normal(size=density.dim)
    return density, found.moving([at + 1e-3 * points_of(density.dim, 9)])


def mixture(parts: int, *, means: Any = 0.0) -> pm.Model:
    with pm.Model() as model:
        w = pm.Dirichlet("w", np.full(parts, 2.0))
        mu = pm.Normal("mu", means, 5.0, shape=parts)
        sigma = pm.HalfNormal("sigma", 1.0, shape=parts)
        slope = pm.Normal("slope", 0.0, 1.0, shape=parts)  # of the same length, and no part of it
        x = np.random.default_rng(4).normal(size=(20, parts))
        pm.Normal("other", x @ slope, 1.0, observed=x.sum(1))
        pm.NormalMixture("y", w=w, mu=mu, sigma=sigma, observed=DATA)
    return model


def two_named_parts() -> pm.Model:
    with pm.Model() as model:
        share = pm.Beta("share", 2.0, 2.0)
        low, high = pm.Normal("low", 0.0, 5.0), pm.Normal("high", 0.0, 5.0)
        a, b = pm.HalfNormal("a", 1.0), pm.HalfNormal("b", 1.0)
        pm.NormalMixture(
            "y",
            w=pt.stack([share, 1 - share]),
            mu=pt.stack([low, high]),
            sigma=pt.stack([a, b]),
            observed=DATA,
        )
    return model


def two_with_a_share() -> pm.Model:
    with pm.Model() as model:
        share = pm.Beta("share", 2.0, 2.0)
        mu = pm.Normal("mu", 0.0, 5.0, shape=2)
        w = pt.stack([share, 1 - share])
        pm.NormalMixture("y", w=w, mu=mu, sigma=1.0, observed=DATA)
    return model


def hidden_states() -> pm.Model:
    """A hidden Markov model of two states: rows and columns of a matrix go together."""
    with pm.Model() as model:
        moves = pm.Dirichlet("moves", np.full(2, 2.0), shape=(2, 2))
        mu = pm.Normal("mu", 0.0, 2.0, shape=2)
        ahead, total = np.full(2, 0.5), 0.0
        for y in DATA[:8]:
            ahead = pt.dot(ahead, moves) * pt.exp(-0.5 * (y - mu) ** 2)
            total += pt.log(ahead.sum())
            ahead /= ahead.sum()
        pm.Potential("y", total)
    return model


def factors() -> pm.Model:
    """Two factors, whose signs and order are free."""
    with pm.Model() as model:
        loads = pm.Laplace("loads", 0.0, 1.0, shape=(4, 2))
        scores = pm.Normal("scores", 0.0, 1.0, shape=(2, 6))
        y = np.random.default_rng(5).normal(size=(4, 6))
        pm.Normal("y", loads @ scores, 1.0, observed=y)
    return model


def regression() -> pm.Model:
    x = np.random.default_rng(6).normal(size=(30, 4))
    with pm.Model() as model:
        tau = pm.HalfNormal("tau", 1.0)
        u = pm.Normal("u", 0.0, tau, shape=5)
        slope = pm.Normal("slope", 0.0, 1.0, shape=4)
        mean = x @ slope + u[np.arange(30) % 5]
        pm.Normal("y", mean, 1.0, observed=np.random.default_rng(7).normal(size=30))
    return model


CASES: dict[str, tuple[Callable[[], pm.Model], int]] = {
    "2 parts": (lambda: mixture(2), 2),
    "3 parts": (lambda: mixture(3), 6),
    "5 parts": (lambda: mixture(5), 120),
    "named parts": (two_named_parts, 2),
    "a share": (two_with_a_share, 2),
    "hidden states": (hidden_states, 2),
    "factors": (factors, 8),
}


@cache
def known(name: str) -> tuple[LogDensity, Symmetry]:
    density, symmetry = group_of(CASES[name][0]())
    assert symmetry is not None
    return density, symmetry


@pytest.mark.parametrize("name", CASES)
def test_all_images_are_known(name: str) -> None:
    number = CASES[name][1]
    density, symmetry = known(name)
    assert (symmetry.number, symmetry.is_whole) == (number, True)
    # by the model's own function, at another point
    (z,) = np.random.default_rng(8).normal(0.0, 0.7, (1, density.dim))
    logp = density.model.compile_logp(mode="FAST_COMPILE")

    def at(z: Floats) -> float:
        parts = {n: z[place].reshape(shape) for n, place, shape, _ in density.ordering.values()}
        return float(logp(parts))

    images = [image[0] for image in symmetry.images(z[None])]
    np.testing.assert_array_equal(images[0], z)
    assert len({tuple(np.round(image, 9)) for image in images}) == number
    np.testing.assert_allclose([at(image) for image in images], at(z), rtol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_volumes_are_kept(name: str) -> None:
    density, symmetry = known(name)
    for image in symmetry.images(np.eye(density.dim)):
        assert abs(np.linalg.det(image)) == pytest.approx(1.0)


def test_parts_of_a_simplex_are_exchanged() -> None:
    density, symmetry = known("3 parts")
    z = points_of(density.dim, 1)
    (before,) = _constrained(density, z)
    seen = set()
    for image in symmetry.images(z):
        (after,) = _constrained(density, image)
        (order,) = [p for p in permutations(range(3)) if np.allclose(before[list(p)], after)]
        seen.add(order)
    assert len(seen) == 6


def _constrained(density: LogDensity, z: Floats) -> Floats:
    _, found = density.variables(z, 0, ("w",))
    return np.asarray(found["w"])


@pytest.mark.parametrize(
    "build",
    [regression, lambda: mixture(3, means=[0.0, 1.0, 2.0])],
    ids=["regression", "parts of their own"],
)
def test_where_there_are_none_none_are_found(build: Callable[[], pm.Model]) -> None:
    _, found = found_in(build())
    assert found.kinds == ()


def test_two_of_three_parts() -> None:
    density, symmetry = group_of(mixture(3, means=[0.0, 1.0, 1.0]))
    assert symmetry is not None
    assert symmetry.number == 2
    (place,) = [place for n, place, *_ in density.ordering.values() if n == "mu"]
    _, image = symmetry.images(np.arange(density.dim, dtype=float)[None])
    begin = place.start
    np.testing.assert_array_equal(image[0, place], [begin, begin + 2, begin + 1])


def test_one_mode_has_no_images() -> None:
    with pm.Model() as model:
        pm.Normal("x", 0.0, 1.0, shape=4)
    _, found = found_in(model)
    assert found.kinds
    draws = np.random.default_rng(1).normal(size=(200, 4))
    assert found.moving([draws]) is None
    # of two modes one is enough
    assert found.moving([draws, draws + 5.0]) is not None


def test_what_follows_from_others_is_no_kind_of_its_own() -> None:
    """A sign that is free by itself would double the images."""
    with mixture(2) as model:
        pm.Normal("alone", 0.0, 1.0)
    density, found = found_in(model)
    at = np.random.default_rng(3).normal(size=density.dim)
    at[[place.start for n, place, *_ in density.ordering.values() if n == "alone"]] = 0.0
    symmetry = found.moving([at + 1e-3 * points_of(density.dim, 200)])
    assert symmetry is not None
    assert symmetry.number == 2


def test_too_many_to_be_known() -> None:
    _, symmetry = group_of(mixture(7))
    assert symmetry is not None
    assert not symmetry.is_whole
    assert math.factorial(7) > MOST_IMAGES


def test_a_group_is_closed() -> None:
    """The moves of a square: a quarter turn and a mirror make eight."""
    turn = Move(np.array([1, 0]), np.array([-1.0, 1.0]))
    mirror = Move(np.array([0, 1]), np.array([1.0, -1.0]))
    symmetry = closed(np.array([-1, -1]), [turn, mirror])
    z = np.array([[0.3, 1.0]])
    images = {tuple(image[0]) for image in symmetry.images(z)}
    wanted = {
        tuple(np.array(pair) * signs)
        for pair in permutations(z[0])
        for signs in product((-1.0, 1.0), repeat=2)
    }
    assert images == wanted
    one_each = symmetry.images_of_each(np.tile(z, (8, 1)), np.arange(8))
    assert {tuple(image) for image in one_each} == wanted


def test_a_move_after_another() -> None:
    rng = np.random.default_rng(1)
    signs = np.array([1.0, -1.0])
    first, then = (Move(rng.permutation(5), signs[rng.integers(2, size=5)]) for _ in range(2))
    z = rng.normal(size=5)
    moved = then.sign * (first.sign * z[first.order])[then.order]
    both = then.after(first)
    np.testing.assert_array_equal(both.sign * z[both.order], moved)
    assert both.key != first.key
