"""Models with all of their data, taken apart into rows; held against their own log density."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from latent import log_density

import pmflow as pmf
from pmflow.errors import UnsupportedError
from pmflow.ladder import density_in_rows as module
from pmflow.ladder.density_in_rows import density_in_rows
from pmflow.posterior.density import StreamedDensity
from pmflow.posterior.rows.whole import rows_of_all

RNG = np.random.default_rng(5)
N, GROUPS, LEAST = 4_500, 6, 2_000
X, GROUP = RNG.normal(size=(N, 2)), RNG.integers(GROUPS, size=N)
COUNTS = RNG.poisson(np.exp(0.4 * X[:, 0]))
SEEN = (RNG.random(N) < 0.4).astype(int)
PAIRS = RNG.normal(size=(N, 2))
FEW = RNG.normal(size=30)

type Likelihood = Callable[[Any], Any]


def logistic(b: Any) -> None:
    pm.Bernoulli("y", logit_p=pt.dot(X, b), observed=SEEN)


def of_data(b: Any) -> None:
    x, y = pm.Data("x", X), pm.Data("counts", COUNTS)
    pm.Poisson("y", pm.math.exp(x @ b), observed=y)


def groups(b: Any) -> None:
    effect = pm.Normal("effect", 0.0, pm.HalfNormal("scale"), shape=GROUPS)
    pm.Normal("y", effect[GROUP] + b[0], pm.math.exp(b[1]), observed=X[:, 0])


def several(b: Any) -> None:
    """Two of these rows, one of half of them, one that is not long."""
    pm.Normal("y", b[0] * X[:, 0], 1.0, observed=X[:, 1])
    pm.Poisson("counts", pm.math.exp(b[1]), observed=COUNTS)
    pm.Normal("half", b[1] * X[: N // 2, 0], 1.0, observed=X[: N // 2, 1])
    pm.Normal("few", b[0], 1.0, observed=FEW)


def vectors(b: Any) -> None:
    chol, _, _ = pm.LKJCholeskyCov("chol", n=2, eta=2.0, sd_dist=pm.HalfNormal.dist(1.0, shape=2))
    pm.MvNormal("y", b, chol=chol, observed=PAIRS)


def matrix(b: Any) -> None:
    pm.Normal("y", b * X, 1.0, observed=PAIRS)


def mixture(b: Any) -> None:
    pm.NormalMixture("y", w=[0.3, 0.7], mu=b, sigma=[1.0, 2.0], observed=X[:, 0])


def mixture_of_counts(b: Any) -> None:
    parts = [pm.Poisson.dist(pm.math.exp(b[0] + X[:, 0])), pm.Poisson.dist(pm.math.exp(b[1]))]
    pm.Mixture("y", w=[0.5, 0.5], comp_dists=parts, observed=COUNTS)


def zero_inflated(b: Any) -> None:
    pm.ZeroInflatedPoisson("y", psi=0.7, mu=pm.math.exp(pt.dot(X, b)), observed=COUNTS)


def censored(b: Any) -> None:
    base = pm.Normal.dist(pt.dot(X, b), 1.0)
    pm.Censored("y", base, lower=-1.0, upper=1.0, observed=np.clip(X[:, 0], -1, 1))


def of_mine(b: Any) -> None:
    def logp(value: Any, mean: Any) -> Any:
        return -pt.log1p((value - mean) ** 2)

    pm.CustomDist("y", pt.dot(X, b), logp=logp, observed=X[:, 0])


def ordered(b: Any) -> None:
    cut = pt.stack([b[0] - 1.0, b[0], b[0] + pm.math.exp(b[1])])
    pm.OrderedLogistic("y", eta=X[:, 0], cutpoints=cut, observed=np.minimum(COUNTS, 3))


def sized(b: Any) -> None:
    pm.StudentT("y", nu=4.0, mu=b[0], sigma=pm.math.exp(b[1]), shape=N, observed=X[:, 0])


def number_of_rows(b: Any) -> None:
    """It stands for how many there are, not for a shape."""
    pm.Normal("y", b[0] * np.array(N), 1.0, observed=X[:, 0])


IN_ROWS: list[Likelihood] = [
    *(logistic, of_data, groups, several, vectors, matrix, mixture, mixture_of_counts),
    *(zero_inflated, censored, of_mine, ordered, sized, number_of_rows),
]


def model_of(likelihood: Likelihood) -> pm.Model:
    with pm.Model() as model:
        likelihood(pm.Normal("b", shape=2))
    return model


def flow_of(likelihood: Likelihood) -> pmf.NormalizingFlow:
    return pmf.NormalizingFlow("scale-loc", model=model_of(likelihood), jitter=0.0, random_seed=1)


@pytest.mark.parametrize("likelihood", IN_ROWS, ids=lambda f: f.__name__)
def test_the_sum_over_rows_is_the_density(likelihood: Likelihood) -> None:
    model = model_of(likelihood)
    terms = rows_of_all(model, LEAST)
    assert terms is not None
    whole = log_density(model)
    by_rows = StreamedDensity(model, whole.ordering, terms=terms)
    z = 0.3 * np.random.default_rng(1).normal(size=(3, whole.dim))
    np.testing.assert_allclose(by_rows.value(z), whole.value(z), rtol=1e-11)
    found, wanted = by_rows.value_and_gradient(z), whole.value_and_gradient(z)
    np.testing.assert_allclose(found[1], wanted[1], rtol=1e-8, atol=1e-8)


def test_observed_variables_of_one_length_are_of_one_table() -> None:
    terms = rows_of_all(model_of(several), LEAST)
    assert terms is not None
    tables = {table.names: len(table) for table in terms.tables}
    assert tables == {("y", "counts"): N, ("half",): N // 2}


def test_new_data_are_seen() -> None:
    model = model_of(of_data)
    terms = rows_of_all(model, LEAST)
    whole = log_density(model)
    by_rows = StreamedDensity(model, whole.ordering, terms=terms)
    z = np.full((1, 2), 0.2)
    before = by_rows.value(z)
    pm.set_data({"x": X[::-1], "counts": COUNTS}, model=model)
    np.testing.assert_allclose(by_rows.value(z), whole.value(z), rtol=1e-11)
    assert abs(by_rows.value(z) - before) > 1


@pytest.mark.parametrize("least", [N + 1, 10 * N])
def test_few_rows_stay_whole(least: int) -> None:
    assert rows_of_all(model_of(logistic), least) is None


def local(b: Any) -> None:
    """A latent value for each row."""
    pm.Normal("y", pm.Normal("local", b[0], 1.0, shape=N), 1.0, observed=X[:, 0])


def smoothed(b: Any) -> None:
    """Each row depends on the one before it."""
    mean = pt.concatenate([pt.zeros(1), b[0] * pt.as_tensor(X[:-1, 0])])
    pm.Normal("y", mean, pm.math.exp(b[1]), observed=X[:, 0])


def standardized(b: Any) -> None:
    """Each row depends on the mean over all."""
    x = pm.Data("x", X[:, 0])
    pm.Normal("y", b[0] * (x - x.mean()), pm.math.exp(b[1]), observed=X[:, 1])


def cumulated(b: Any) -> None:
    x = pm.Data("x", X[:, 0])
    pm.Normal("y", b[0] * pt.cumsum(x) / N, 1.0, observed=X[:, 1])


def series(b: Any) -> None:
    pm.AR("y", rho=b, sigma=1.0, init_dist=pm.Normal.dist(0.0, 1.0), observed=X[:, 0])


def joined(b: Any) -> None:
    halves = [pm.Data(f"half {i}", X[i::2]) for i in (0, 1)]
    mean = pt.concatenate([pt.dot(half, b) for half in halves])
    pm.Normal("y", mean * X[:, 0], 1.0, observed=X[:, 1])


@pytest.mark.parametrize(
    "likelihood",
    [local, smoothed, standardized, cumulated, series, joined],
    ids=lambda f: f.__name__,
)
def test_what_is_no_sum_over_rows_stays_whole(
    likelihood: Likelihood, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LEAST", LEAST)
    monkeypatch.setattr(module, "_FOR_EACH_DIMENSION", 1)
    assert density_in_rows(flow_of(logistic)) is not None
    assert density_in_rows(flow_of(likelihood)) is None


def test_rows_that_add_up_at_no_point_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guess that is wrong by a millionth is seen."""
    monkeypatch.setattr(module, "_LEAST", LEAST)
    monkeypatch.setattr(module, "_FOR_EACH_DIMENSION", 1)
    right = StreamedDensity.value
    monkeypatch.setattr(StreamedDensity, "value", lambda self, z: right(self, z) * (1 + 1e-6))
    assert density_in_rows(flow_of(logistic)) is None


def test_minibatches_that_are_no_rows_are_refused_all_the_same() -> None:
    with pm.Model() as model:
        x, y = pm.Minibatch(X[:, 0], X[:, 1], batch_size=10)
        pm.Normal("y", (x - x.mean()) * pm.Normal("slope"), 1.0, observed=y, total_size=N)
    flow = pmf.NormalizingFlow("scale-loc", model=model, jitter=0.0)
    density = density_in_rows(flow)
    assert density is not None
    with pytest.raises(UnsupportedError, match="depends on the other rows"):
        density.value(np.array([[0.5]]))
