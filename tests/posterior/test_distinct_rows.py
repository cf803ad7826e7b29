"""Rows that are the same, counted once: the density stays what it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from latent import log_density

import pmflow as pmf
from pmflow.posterior.rows import distinct
from pmflow.posterior.rows.distinct import distinct_rows

RNG = np.random.default_rng(8)
N, GROUPS = 3_000, 5
GROUP, ARM = RNG.integers(GROUPS, size=N), RNG.integers(3, size=N) / 2
SEEN, COUNTS = (RNG.random(N) < 0.4).astype(int), RNG.poisson(1.5, size=N)
PAIRS = RNG.integers(4, size=(N, 2)) / 4.0
STEPS = RNG.integers(3, size=N) / 3.0

type Likelihood = Callable[[Any], Any]


def logistic(b: Any) -> None:
    effect = pm.Normal("effect", 0.0, pm.HalfNormal("scale"), shape=GROUPS)
    pm.Bernoulli("y", logit_p=b[0] + b[1] * ARM + effect[GROUP], observed=SEEN)


def of_data(b: Any) -> None:
    arm, y = pm.Data("arm", ARM), pm.Data("counts", COUNTS)
    pm.Poisson("y", pm.math.exp(b[0] + b[1] * arm), observed=y)


def vectors(b: Any) -> None:
    pm.MvNormal("y", b, np.array([[1.0, 0.3], [0.3, 2.0]]), observed=PAIRS)


def mixture(b: Any) -> None:
    pm.NormalMixture("y", w=[0.3, 0.7], mu=b, sigma=[1.0, 2.0], observed=STEPS)


def two_of_one_length(b: Any) -> None:
    pm.Normal("y", b[0] * ARM, 1.0, observed=STEPS)
    pm.Poisson("counts", pm.math.exp(b[1] + ARM), observed=COUNTS)
    pm.Normal("few", b[0], 1.0, observed=RNG.normal(size=10))


def missing(b: Any) -> None:
    some = np.where(np.arange(N) % 1_000 == 0, np.nan, STEPS)
    pm.Normal("y", b[0] * ARM, 1.0, observed=np.ma.masked_invalid(some))


def model_of(likelihood: Likelihood) -> pm.Model:
    with pm.Model() as model:
        likelihood(pm.Normal("b", shape=2))
    return model


def as_pymc_has_it(model: pm.Model, density: Any, z: Any) -> np.ndarray:
    logp = model.compile_logp()
    names = {name: (place, shape) for name, (_, place, shape, _) in density.ordering.items()}
    return np.array(
        [
            logp({n: point[place].reshape(shape) for n, (place, shape) in names.items()})
            for point in z
        ]
    )


@pytest.mark.parametrize(
    "likelihood",
    [logistic, of_data, vectors, mixture, two_of_one_length],
    ids=lambda f: f.__name__,
)
def test_the_density_stays(likelihood: Likelihood, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(likelihood)
    density = log_density(model)
    assert density.has_fewer_rows
    z = 0.4 * np.random.default_rng(1).normal(size=(4, density.dim))
    np.testing.assert_allclose(density.value(z), as_pymc_has_it(model, density, z), rtol=1e-10)
    work, gradient = density.work, density.value_and_gradient(z)[1]
    monkeypatch.setattr(distinct, "_LEAST", 10 * N)
    whole = log_density(model)
    assert not whole.has_fewer_rows
    assert whole.work > 10 * work
    wanted = whole.value_and_gradient(z)[1]
    np.testing.assert_allclose(gradient, wanted, rtol=1e-8, atol=1e-8)


@pytest.mark.filterwarnings("ignore:Data in y contains missing values")
def test_values_that_are_missing_stay_variables() -> None:
    model = model_of(missing)
    density = log_density(model)
    z = np.random.default_rng(1).normal(size=(2, density.dim))
    np.testing.assert_allclose(density.value(z), as_pymc_has_it(model, density, z), rtol=1e-10)


def test_new_data_are_counted_anew() -> None:
    model = model_of(of_data)
    density = log_density(model)
    z = np.array([[0.2, -0.1]])
    for arm in (np.repeat([0.0, 1.0], N // 2), RNG.normal(size=N)):
        pm.set_data({"arm": arm}, model=model)
        np.testing.assert_allclose(density.value(z), as_pymc_has_it(model, density, z), rtol=1e-10)
    assert not density.has_fewer_rows  # as no two rows are the same now


def series(b: Any) -> None:
    pm.AR("y", rho=b, sigma=1.0, init_dist=pm.Normal.dist(0.0, 1.0), observed=STEPS)


def cumulated(b: Any) -> None:
    x = pm.Data("x", ARM)
    pm.Normal("y", b[0] * pt.cumsum(x) / N, 1.0, observed=STEPS)


def local(b: Any) -> None:
    pm.Normal("y", pm.Normal("local", b[0], 1.0, shape=N), 1.0, observed=STEPS)


def joined(b: Any) -> None:
    halves = [pm.Data(f"half {i}", ARM[i::2]) for i in (0, 1)]
    rate = pt.concatenate([pm.math.exp(b[i] * half) for i, half in enumerate(halves)])
    pm.Poisson("y", rate * (1.0 + ARM), observed=COUNTS)


@pytest.mark.parametrize("likelihood", [series, cumulated, local, joined], ids=lambda f: f.__name__)
def test_rows_that_differ_by_their_place_are_all_counted(likelihood: Likelihood) -> None:
    assert not log_density(model_of(likelihood)).has_fewer_rows


class TestDistinctRows:
    def test_they_are_all_rows_and_no_two_the_same(self) -> None:
        found = distinct_rows([PAIRS, GROUP])
        assert found is not None
        places, counts = found
        every = np.column_stack([PAIRS, GROUP])
        wanted, number = np.unique(every, axis=0, return_counts=True)
        order = np.lexsort(every[places].T[::-1])
        np.testing.assert_array_equal(every[places][order], wanted)
        np.testing.assert_array_equal(counts[order], number)

    def test_missing_values_are_the_same(self) -> None:
        found = distinct_rows([np.tile([1.0, np.nan], 2_000)])
        assert found is not None
        np.testing.assert_array_equal(found[1], [2_000, 2_000])

    def test_few_that_are_the_same_are_left(self) -> None:
        assert distinct_rows([RNG.normal(size=N)]) is None
        # three in five are the only ones of their kind
        assert distinct_rows([np.where(np.arange(N) % 5 < 3, np.arange(N), 0)]) is None

    def test_they_are_found_wherever_they_stand(self) -> None:
        column = np.concatenate([np.arange(20_000.0), np.zeros(100_000)])
        for rows in (column, column[::-1]):
            found = distinct_rows([rows])
            assert found is not None
            np.testing.assert_array_equal(np.sort(rows[found[0]]), np.arange(20_000))

    def test_rows_of_one_hash_are_told_apart(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(distinct, "_hashes", lambda columns: np.zeros(len(columns[0]), "u8"))
        assert distinct_rows([GROUP]) is None
        assert distinct_rows([np.ones(N)]) is not None


def test_a_fit_of_many_counts_is_right_and_is_of_the_model() -> None:
    """Of a gamma prior and Poisson counts, in closed form: 2e6 rows of 12 kinds."""
    y = np.random.default_rng(2).poisson(2.0, size=2_000_000)
    with pm.Model() as model:
        pm.Poisson("y", pm.Gamma("rate", 2.0, 1.0), observed=y)
    approx = pmf.fit(model=model, random_seed=1, progressbar=False)
    assert approx.model is model
    assert approx.diagnosis.verdict == "reliable"
    draws = approx.sample(20_000, random_seed=1).posterior["rate"].values
    shape, rate = 2.0 + y.sum(), 1.0 + len(y)
    assert draws.mean() == pytest.approx(shape / rate, abs=0.03 * shape**0.5 / rate)
    assert draws.std() == pytest.approx(shape**0.5 / rate, rel=0.03)
