"""Patches of local variables: the log of a mean of weights that only nearby ones share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytest
from latent import log_density
from scipy.sparse import csr_array

from pmflow.draws.standard import mirrored_draws
from pmflow.embedded import weighing
from pmflow.embedded.check_locals import Running
from pmflow.embedded.conditional import Conditional
from pmflow.embedded.factor import Factor
from pmflow.embedded.factors import Factors
from pmflow.embedded.given import Given
from pmflow.embedded.patches import Patches, patches_of
from pmflow.embedded.structure import read_pattern
from pmflow.embedded.wide import WideFactors

RNG = np.random.default_rng(6)

type Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

LENGTH, BEND = 320, 0.1


def chain() -> tuple[Factors, Floats, Factor]:
    """A walk that is drawn to 0, of unit variance."""
    slope = 0.7
    main = np.full(LENGTH, 1 + slope**2)
    main[[0, -1]] = 1.0
    off = np.full(LENGTH - 1, -slope)
    matrix = (np.diag(main) + np.diag(off, 1) + np.diag(off, -1)) / (1 - slope**2)
    factors = Factors(csr_array(matrix != 0))
    values = matrix[factors.rows, factors.columns]
    factor = factors.of(values)
    assert factor is not None
    return factors, values, factor


def bent(factor: Factor, z: Floats) -> tuple[Floats, Floats]:
    """The log density of the chain, with the curve of a count for each of its variables."""
    value = -factor.squared_norm(z) / 2 + log_weight(z).sum(1)
    return value, -factor.slopes(factor.scaled(z)) - BEND * (np.exp(z) - 1 - z)


def log_weight(x: Floats) -> Floats:
    return np.asarray(-BEND * (np.exp(x) - 1 - x - x**2 / 2))


def by_transfer() -> float:
    """The log of the mean weight, exact: one variable after the other on a grid."""
    slope, x = 0.7, np.linspace(-9, 9, 901)
    step, tilt = x[1] - x[0], np.exp(log_weight(x))
    inside = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    to = np.exp(-((x[None] - slope * x[:, None]) ** 2) / (2 * (1 - slope**2)))
    to /= np.sqrt(2 * np.pi * (1 - slope**2))
    mass, total = inside * tilt, 0.0
    for _ in range(LENGTH - 1):
        mass = (mass @ to) * step * tilt
        total += np.log(mass.sum())
        mass /= mass.sum()
    return float(total + np.log(mass.sum() * step))


def test_slopes_are_those_of_the_precision() -> None:
    factors, values, factor = chain()
    e = np.random.default_rng(1).standard_normal((3, LENGTH))
    wanted = factor.coloured(e) @ factors.matrix(values).toarray()
    assert factor.slopes(e) == pytest.approx(wanted)


@pytest.mark.slow
def test_the_mean_weight_is_that_of_all_variables() -> None:
    factors, values, factor = chain()
    patches = patches_of(factors, values)
    assert patches is not None
    assert 20 <= patches.labels.max() + 1 < 80
    inner, rng = np.arange(LENGTH), np.random.default_rng(2)
    found, apart, by_cumulants = [], [], []
    for _ in range(12):
        e = mirrored_draws(128, LENGTH, rng)
        _, log_weights = patches.log_weights(
            lambda z: bent(factor, z), np.zeros(LENGTH), inner, factor, e
        )
        every = np.log(np.exp(log_weights).mean(0)).sum()
        total = log_weights.sum(1)
        found.append(every + patches.across(log_weights))
        apart.append(every)
        cubes = ((total - total.mean()) ** 3).mean()
        by_cumulants.append(total.mean() + total.var() / 2 + cubes / 6)
    wanted = by_transfer()
    error = np.std(found) / np.sqrt(12)
    assert np.mean(found) == pytest.approx(wanted, abs=3 * error + 0.05)
    # without what patches share it is far off, and by three cumulants it is noise
    assert abs(np.mean(apart) - wanted) > 5 * error
    assert np.std(by_cumulants) > np.std(found)


def test_covariances_are_of_those_that_are_near() -> None:
    rng = np.random.default_rng(3)
    odd, even = 0.1 * rng.normal(size=(2, 4_000, 3))
    odd[:, 1] += odd[:, 0]  # the first two have to do with each other, and the third with none
    log_weights = np.concatenate([even + odd, even - odd])
    labels = np.arange(3, dtype=np.int32)
    near = csr_array(np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    for which in (near, None):
        assert Patches(labels, which).across(log_weights) == pytest.approx(0.01, rel=0.15)
    # free of the noise of means: of two mirrored draws a product is of one pair alone
    few = [np.r_[i, i + 1, 4_000 + i, 4_001 + i] for i in range(0, 4_000, 2)]
    found = [Patches(labels, near).across(log_weights[rows]) for rows in few]
    assert np.mean(found) == pytest.approx(0.01, rel=0.15)


def test_those_that_hang_together_most_are_together() -> None:
    dim = 200
    matrix = np.eye(dim) * 4
    pairs = np.arange(0, dim, 2)
    matrix[pairs, pairs + 1] = matrix[pairs + 1, pairs] = 3.0
    matrix[pairs[:-1] + 1, pairs[:-1] + 2] = matrix[pairs[:-1] + 2, pairs[:-1] + 1] = 0.1
    factors = Factors(csr_array(matrix != 0))
    found = patches_of(factors, matrix[factors.rows, factors.columns])
    assert found is not None
    assert (found.labels[pairs] == found.labels[pairs + 1]).all()
    assert np.bincount(found.labels).max() <= 16


def test_there_are_none_of_few_variables_or_where_all_meet() -> None:
    few = Factors(csr_array(np.eye(20)))
    assert patches_of(few, np.ones(20)) is None
    full = Factors(csr_array(np.ones((200, 200))))
    assert patches_of(full, np.ones(len(full.rows))) is None


def test_all_have_to_do_with_each_other_through_one_that_meets_most() -> None:
    dim = 200
    matrix = np.eye(dim) * 4
    matrix[0] = matrix[:, 0] = 0.3
    factors = Factors(csr_array(matrix != 0))
    found = patches_of(factors, matrix[factors.rows, factors.columns])
    assert found is not None
    shared = np.linspace(-0.1, 0.1, 40)[:, None] + np.zeros(found.labels.max() + 1)
    covariance = float((shared[:, 0] ** 2).mean())
    pairs = (found.labels.max() + 1) * found.labels.max() / 2
    mirrored = np.concatenate([shared, shared])
    assert found.across(mirrored) == pytest.approx(pairs * covariance, rel=0.1)


def test_all_have_to_do_with_each_other_through_a_sum() -> None:
    dim = 200
    factors = WideFactors(csr_array(np.eye(dim)), np.ones((1, dim)))
    apart = patches_of(factors, np.concatenate([np.ones(dim), np.zeros(dim), [2.0]]))
    joined = patches_of(factors, np.concatenate([np.ones(dim), np.full(dim, 0.1), [2.0]]))
    assert apart is not None
    assert joined is not None
    draws = np.random.default_rng(4).normal(size=(40, dim)) + np.linspace(-1, 1, 40)[:, None]
    assert apart.across(draws) == 0.0
    assert joined.across(draws) > 10.0


def test_moments_are_those_of_all_rows() -> None:
    rows = np.random.default_rng(5).normal(3.0, 2.0, size=(90, 4))
    found = Running()
    for part in np.split(rows, [10, 11, 60]):
        found.add(part)
    assert found.mean == pytest.approx(rows.mean(0))
    assert found.sd == pytest.approx(rows.std(0))
    assert found.error == pytest.approx(rows.std(0) / np.sqrt(90))


@pytest.mark.parametrize(("taken", "way"), [(0.3, Patches), (3.0, type(None))])
def test_patches_that_take_from_each_other_are_not_used(
    monkeypatch: pytest.MonkeyPatch, taken: float, way: type
) -> None:
    group = np.repeat(np.arange(6), 40)
    with pm.Model() as model:
        a, u = pm.Normal("a", 0, 1, shape=6), pm.Normal("u", 0, 0.5, shape=240)
        pm.Poisson("y", pm.math.exp(a[group] + u), observed=RNG.poisson(1.0, 240))
    density = log_density(model)
    conditional = Conditional(density, read_pattern(density), np.zeros(density.dim, dtype=bool))
    conditional.measure(np.zeros(density.dim))
    modes = conditional.modes(np.zeros((1, density.dim)), 20)
    given = Given(modes.z, modes.factors, modes.log_marginal)

    def log_weights(*_: Any) -> tuple[None, Floats]:
        own, moved = RNG.normal(size=(2, 200, 2))
        return None, own + taken * np.stack([moved[:, 0], -moved[:, 0]], axis=1)

    monkeypatch.setattr(weighing, "_UNCERTAIN", 0.0)
    monkeypatch.setattr(Patches, "log_weights", log_weights)
    assert isinstance(weighing.blocks_for(conditional, given), way)
