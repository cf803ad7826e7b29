"""The log density of a model of minibatches, taken apart into rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytest
from latent import log_density
from numpy.typing import NDArray

from pmflow.errors import UnsupportedError
from pmflow.posterior.density import StreamedDensity
from pmflow.posterior.rows.choice import any_rows, chosen_by_size, remainders
from pmflow.posterior.rows.order import drift_of
from pmflow.posterior.rows.streamed import Chosen, RowSum
from pmflow.posterior.rows.terms import row_terms

RNG = np.random.default_rng(0)
N, GROUPS = 230, 5
X, GROUP = RNG.normal(size=(N, 2)), RNG.integers(GROUPS, size=N)
COUNTS = RNG.poisson(np.exp(0.3 * X[:, 0])).astype("int32")
PAIRS = RNG.normal(size=(N, 3))

type Parts = Callable[..., Any]


def all_of(*arrays: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    return arrays


def counts(rows: Parts, **size: Any) -> None:
    x, group, seen = rows(X, GROUP, COUNTS)
    scale = pm.HalfNormal("scale")
    effect = pm.Normal("effect", 0.0, scale, shape=GROUPS)
    slope = pm.Normal("slope", shape=2)
    pm.Poisson("seen", pm.math.exp(effect[group] + x @ slope), observed=seen, **size)


def vectors(rows: Parts, **size: Any) -> None:
    """Each row a vector, with a covariance of its own."""
    x, seen = rows(X, PAIRS)
    mean, scale = pm.Normal("mean", shape=3), pm.HalfNormal("scale", shape=3)
    chol = pm.math.exp(x[:, 0])[:, None, None] * pm.math.stack(list(np.eye(3))) * scale
    pm.MvNormal("seen", mean, chol=chol, observed=seen, **size)


def several(rows: Parts, **size: Any) -> None:
    """Two observed variables of the same rows."""
    x, seen, other = rows(X, PAIRS, COUNTS)
    mean, rate = pm.Normal("mean", shape=3), pm.Exponential("rate", 1.0)
    pm.Normal("seen", mean + x[:, :1], 1.0, observed=seen, **size)
    pm.Poisson("other", rate, observed=other, **({"total_size": N} if size else {}))
    pm.Normal("once", rate, 1.0, observed=np.array([0.3, 0.5]))


CASES = {"groups": (counts, N), "vectors": (vectors, (N, ...)), "several": (several, (N, ...))}


@pytest.mark.parametrize("batch", [23, 40], ids=["divides", "does not divide"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_all_rows_are_added_up(case: Any, batch: int) -> None:
    write, total = case
    with pm.Model() as model:
        write(lambda *x: pm.Minibatch(*x, batch_size=batch), total_size=total)
    with pm.Model() as whole:
        write(all_of)
    streamed, exact = log_density(model), log_density(whole)
    z = 0.3 * RNG.normal(size=(4, exact.dim))
    np.testing.assert_allclose(streamed.value(z), exact.value(z), rtol=1e-10)
    for found, wanted in zip(
        streamed.value_and_gradient(z), exact.value_and_gradient(z), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


def test_new_data_are_seen() -> None:
    with pm.Model() as model:
        rows = pm.Minibatch(pm.Data("data", np.zeros(40)), batch_size=8)
        pm.Normal("y", pm.Normal("mu"), 1.0, observed=rows, total_size=40)
    density = log_density(model)
    before = density.value(np.zeros((1, 1)))
    with model:
        pm.set_data({"data": np.ones(40)})
    assert density.value(np.zeros((1, 1))) == pytest.approx(before - 20)


def potential() -> None:
    pm.Potential("p", -(pm.Minibatch(np.ones(6), batch_size=2) * pm.Normal("mu")).sum())


def unpaired() -> None:
    x, y = (pm.Minibatch(np.ones(6), batch_size=2) for _ in range(2))
    pm.Normal("y", x * pm.Normal("mu"), 1.0, observed=y, total_size=6)


def local() -> None:
    x, y = pm.Minibatch(np.ones(6), np.ones(6), batch_size=2)
    pm.Normal("y", pm.Normal("local", x), 1.0, observed=y, total_size=6)


def unknown() -> None:
    pm.Normal("y", pm.Normal("mu"), 1.0, observed=np.ones(3), total_size=6)


def both_axes() -> None:
    y = pm.Minibatch(np.ones((6, 2)), batch_size=3)
    pm.Normal("y", pm.Normal("mu"), 1.0, observed=y, total_size=(6, 4))


REFUSED = {
    "potential": (potential, "PyMC does not scale"),
    "unpaired rows": (unpaired, r"2 calls of pm\.Minibatch"),
    "local variables": (local, "'local' is a free variable of the rows"),
    "rows that nobody knows": (unknown, "not all of its rows are known"),
    "two axes": (both_axes, "one axis of rows"),
}


@pytest.mark.parametrize(("write", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_sum_over_rows_is_refused(write: Callable[[], None], message: str) -> None:
    with pm.Model() as model:
        write()
    with pytest.raises(UnsupportedError, match=message):
        row_terms(model)


def test_rows_that_meet_are_refused() -> None:
    """Each from the mean of its minibatch: of all rows that is another one."""
    with pm.Model() as model:
        x, y = pm.Minibatch(RNG.normal(size=60), RNG.normal(size=60), batch_size=6)
        pm.Normal("y", (x - x.mean()) * pm.Normal("slope"), 1.0, observed=y, total_size=60)
    with pytest.raises(UnsupportedError, match="of y depends on the other rows"):
        log_density(model).value(np.array([[0.5]]))


def sum_of_rows(model: pm.Model) -> RowSum:
    density = log_density(model)
    assert isinstance(density, StreamedDensity)
    (found,) = density.sums
    return found


def streamed(observed: NDArray[np.float64], batch: int = 10) -> RowSum:
    """The sum over rows y of log N(y | mu, 1)."""
    with pm.Model() as model:
        rows = pm.Minibatch(observed, batch_size=batch)
        pm.Normal("y", pm.Normal("mu"), 1.0, observed=rows, total_size=len(observed))
    return sum_of_rows(model)


def test_chosen_rows_count_with_their_weights() -> None:
    y = RNG.normal(size=57)
    places, weights = np.array([3, 50, 20]), np.array([2.0, 0.5, 7.0])
    (found,) = streamed(y).value(np.array([[0.4]]), Chosen(places, weights))
    assert found == pytest.approx(weights @ (-((y[places] - 0.4) ** 2) / 2 - 0.918938533204673))


def test_remainders_are_what_is_beyond_second_order() -> None:
    """Of a Poisson row, -exp(eta), they are known: exp(eta) (exp(d) - 1 - d - d^2 / 2)."""
    x, steps = RNG.normal(size=40), np.array([[0.02], [0.05]])
    with pm.Model() as model:
        rows, seen = pm.Minibatch(x, np.zeros(40, dtype="int32"), batch_size=8)
        pm.Poisson("y", pm.math.exp(rows * pm.Normal("mu")), observed=seen, total_size=40)
    found = np.concatenate(list(remainders(sum_of_rows(model), np.array([0.3]), steps)))
    d = x * steps
    odd = np.exp(0.3 * x) * (np.sinh(d) - d)
    even = np.exp(0.3 * x) * (np.cosh(d) - 1 - d**2 / 2)
    # the inner points of the differences leave a sixteenth of it
    np.testing.assert_allclose(found, np.sqrt((odd**2 + even**2).mean(0)), rtol=0.1, atol=1e-12)


def test_sums_over_chosen_rows_are_unbiased() -> None:
    sizes = RNG.gamma(0.2, size=1000)
    other = sizes * RNG.uniform(0.5, 1.5, size=1000)
    rng = np.random.default_rng(1)
    parts = np.split(sizes, [300, 650])
    sums = []
    for _ in range(400):
        chosen = chosen_by_size(parts, 0.01, 100, rng)
        assert len(chosen) == 100
        sums.append(chosen.weights @ other[chosen.indices])
    error = np.std(sums) / 20
    assert np.mean(sums) == pytest.approx(other.sum(), abs=4 * error)
    uniform = np.std([other[any_rows(100, 1000, rng).indices].sum() * 10 for _ in range(400)])
    assert np.std(sums) < 0.5 * uniform


def test_the_largest_rows_are_chosen_for_sure() -> None:
    sizes = np.full(500, 1e-3)
    sizes[[7, 400]] = 1.0, np.inf
    for seed in range(20):
        chosen = chosen_by_size([sizes], 1e-4, 50, np.random.default_rng(seed))
        assert {7, 400} <= set(chosen.indices)
        np.testing.assert_array_equal(chosen.weights[np.isin(chosen.indices, [7, 400])], 1.0)


@pytest.mark.parametrize("slope", [0.0, 0.3], ids=["as they come", "drifting"])
def test_rows_that_drift_are_seen(slope: float) -> None:
    number = 30_000
    y = np.random.default_rng(4).normal(size=number) + slope * np.linspace(-1, 1, number)
    sd = (number + 1) ** -0.5
    found = drift_of(streamed(y), np.array([y.sum() * sd**2]), np.array([[sd]]))
    if not slope:
        assert found is None
        return
    assert found is not None
    # the last of 32 parts is 0.6 * 31 / 32 above the first
    assert found.change == pytest.approx(0.6 * 31 / 32 / sd, rel=0.1)


def test_the_order_of_groups_is_no_drift() -> None:
    """Rows of one group after the other, with an effect each: elsewhere its scores are 0."""
    rng = np.random.default_rng(5)
    group = np.repeat(np.arange(10), 3_000)
    y = rng.normal(size=10)[group] + rng.normal(size=len(group))
    with pm.Model() as model:
        places, seen = pm.Minibatch(group, y, batch_size=500)
        pm.Normal("y", pm.Normal("effect", shape=10)[places], 1.0, observed=seen, total_size=len(y))
    means = np.bincount(group, y) / 3_001
    assert drift_of(sum_of_rows(model), means, np.full(10, 3_001**-0.5)) is None


def test_any_rows_are_one_of_each_part() -> None:
    """Unbiased where the parts are of unequal length; all of them where no more are asked for."""
    rng, values = np.random.default_rng(3), np.arange(1_000.0)
    found = [any_rows(300, 1_000, rng) for _ in range(500)]
    assert all(one.weights.sum() == 1_000 for one in found)
    assert all((np.diff(one.indices) > 0).all() for one in found)
    sums = [one.weights @ values[one.indices] for one in found]
    assert np.mean(sums) == pytest.approx(values.sum(), abs=5 * np.std(sums) / 500**0.5)
    seen = np.bincount(np.concatenate([one.indices for one in found]), minlength=1_000)
    assert seen.min() > 60  # of 500 times 0.3, or 0.25 where a part has four rows
    whole = any_rows(9, 7, rng)
    np.testing.assert_array_equal(whole.indices, np.arange(7))
    np.testing.assert_array_equal(whole.weights, 1.0)
