"""Local variables that all meet: against densities and curvatures that are written by hand."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from latent import log_density
from numpy.typing import NDArray
from pytensor.graph.replace import clone_replace
from scipy.sparse import csr_array
from scipy.special import expit
from scipy.stats import multivariate_normal, norm

import pmflow as pmf
from pmflow.embedded.conditional import UNKNOWN, Conditional
from pmflow.embedded.dense import DenseConditional, conditional_of
from pmflow.embedded.dense_factors import LowRankFactors
from pmflow.embedded.designs import Columns
from pmflow.embedded.factors import Factors
from pmflow.embedded.low_rank_factor import LowRankFactor
from pmflow.embedded.predictors import NotLiftedError, Predictors
from pmflow.embedded.structure import read_pattern
from pmflow.ladder.climb import Climb
from pmflow.ladder.nested import NestedRung
from pmflow.training.options import FitOptions
from pmflow.watch import watching

SIZE = 12
X = np.linspace(0, 3, SIZE)
AWAY = np.abs(X[:, None] - X)
Y = np.array([0, 0, 1, 1, 1, 0, 1, 1, 0, 0, 0, 1])
type Floats = NDArray[np.float64]


def root(theta: Floats) -> Floats:
    """Of the covariance of an exponential kernel, theta being logs of its length and scale."""
    covariance = np.exp(2 * theta[1]) * np.exp(-AWAY / np.exp(theta[0]))
    return np.linalg.cholesky(covariance + 1e-6 * np.eye(SIZE))


def process(observed: str = "binary") -> pm.Model:
    """Weights v of the root, with log length, which is the mean too, and log scale before them."""
    with pm.Model() as model:
        theta = pm.Normal("theta", shape=2)
        v = pm.Normal("v", shape=SIZE)
        covariance = pt.exp(2 * theta[1]) * pt.exp(-AWAY / pt.exp(theta[0]))
        f = theta[0] + pt.linalg.cholesky(covariance + 1e-6 * np.eye(SIZE)) @ v
        if observed == "binary":
            pm.Bernoulli("y", logit_p=f, observed=Y)
        else:
            pm.Normal("y", f, 0.5, observed=Y)
    return model


def both(model: pm.Model) -> tuple[DenseConditional, Conditional]:
    density = log_density(model)
    parts = density, read_pattern(density), np.arange(density.dim) < 2
    return DenseConditional(*parts), Conditional(*parts)


def points(number: int) -> Floats:
    """Some of them with the same global variables."""
    z = np.random.default_rng(1).normal(size=(number, 2 + SIZE))
    z[1::3, :2] = z[::3, :2][: len(z[1::3])]
    return z


@pytest.mark.slow
def test_value_and_slope_are_those_of_the_density() -> None:
    dense, plain = both(process())
    z = points(7)
    wanted, slopes = plain.value_and_slope(z)
    value, slope = dense.value_and_slope(z)
    assert value == pytest.approx(wanted, rel=1e-10)
    assert slope == pytest.approx(slopes, rel=1e-8, abs=1e-9)
    assert dense.value(z) == pytest.approx(wanted, rel=1e-10)


def test_the_curvature_is_that_written_by_hand() -> None:
    dense, _ = both(process())
    z = points(4)
    for row, values in zip(z, dense.precisions(z), strict=True):
        lower = root(row[:2])
        p = expit(row[0] + lower @ row[2:])
        wanted = np.eye(SIZE) + lower.T @ np.diag(p * (1 - p)) @ lower
        assert dense.factors.matrix(values).toarray() == pytest.approx(wanted, abs=1e-6)


def test_after_other_data_predictors_are_read_anew() -> None:
    with pm.Model() as model:
        offset = pm.Data("offset", np.zeros(SIZE))
        theta, v = pm.Normal("theta", shape=2), pm.Normal("v", shape=SIZE)
        covariance = pt.exp(2 * theta[1]) * pt.exp(-AWAY / pt.exp(theta[0]))
        f = offset + pt.linalg.cholesky(covariance + 1e-6 * np.eye(SIZE)) @ v
        pm.Bernoulli("y", logit_p=f, observed=Y)
    dense, plain = both(model)
    z = points(2)
    before = dense.value(z)
    dense.measure(z[0])
    model.set_data("offset", np.linspace(-1, 1, SIZE))
    again = dense.anew()
    assert again.value(z) == pytest.approx(plain.value(z), rel=1e-10)
    assert again.value(z) != pytest.approx(before, rel=1e-3)
    assert set(again.sds) == {UNKNOWN}


def few_places(number: int = 2) -> pm.Model:
    """The process at all places, seen at few of them, with a weight that meets all of these."""
    with pm.Model() as model:
        scale = pm.Normal("scale")
        v = pm.Normal("v", shape=SIZE)
        slope = pm.LogNormal("slope")
        f = pt.exp(scale) * (pt.constant(root(np.zeros(2))[-number:]) @ v)
        pm.Normal("y", f + slope, 0.5, observed=Y[:number])
    return model


@pytest.mark.parametrize("number", [2, SIZE])
def test_scaled_columns_are_read_once_and_the_curvature_is_that_of_differences(
    number: int,
) -> None:
    density = log_density(few_places(number))
    is_global = np.arange(density.dim) == 0
    dense = DenseConditional(density, read_pattern(density), is_global)
    plain = Conditional(density, read_pattern(density), is_global)
    z = np.random.default_rng(3).normal(size=(3, density.dim))
    for values, wanted in zip(dense.precisions(z), plain.precisions(z), strict=True):
        found, wanted = dense.factors.matrix(values), plain.factors.matrix(wanted)
        assert found.toarray() == pytest.approx(wanted.toarray(), abs=1e-5)
    designs = [dense._designs.at(row[:1]) for row in z]
    assert len({id(design.columns) for design in designs}) == 1
    assert dense.value(z) == pytest.approx(plain.value(z), rel=1e-10)
    assert dense.modes(z, 20).log_marginal == pytest.approx(
        plain.modes(z, 20).log_marginal, abs=1e-5
    )


def test_few_predictors_of_many_variables_make_a_factor_of_low_rank() -> None:
    with pm.Model() as model:
        scale = pm.Normal("scale")
        v = pm.Normal("v", shape=SIZE)
        pm.Bernoulli("y", logit_p=pt.exp(scale) * (root(np.zeros(2))[-2:] @ v), observed=Y[:2])
    density = log_density(model)
    parts = density, read_pattern(density), np.arange(density.dim) == 0
    dense, plain = DenseConditional(*parts), Conditional(*parts)
    assert isinstance(dense.factors, LowRankFactors)
    z = np.random.default_rng(3).normal(size=(3, density.dim))
    found, wanted = dense.modes(z, 20), plain.modes(z, 20)
    assert isinstance(found.factors[0], LowRankFactor)
    assert found.log_marginal == pytest.approx(wanted.log_marginal, abs=1e-5)
    assert found.z == pytest.approx(wanted.z, abs=1e-4)
    factors = [dense.factors.of(values) for values in dense.precisions(z)]
    diagonals = [factor.precisions for factor in factors if factor is not None]
    assert dense.diagonals(z) == pytest.approx(np.stack(diagonals))


@pytest.mark.slow
def test_modes_and_marginals_are_those_of_plain_differences() -> None:
    dense, plain = both(process())
    z = points(5)
    found, wanted = dense.modes(z, 20), plain.modes(z, 20)
    assert found.z == pytest.approx(wanted.z, abs=1e-4)
    assert found.log_marginal == pytest.approx(wanted.log_marginal, abs=1e-5)


def test_the_marginal_is_that_of_a_process_with_noise() -> None:
    dense, _ = both(process("normal"))
    for row in points(3):
        lower = root(row[:2])
        covariance = lower @ lower.T + 0.25 * np.eye(SIZE)
        wanted = norm.logpdf(row[:2]).sum() + multivariate_normal(cov=covariance).logpdf(Y - row[0])
        assert dense.modes(row[None], 20).log_marginal[0] == pytest.approx(wanted, abs=1e-6)


def test_it_is_taken_where_it_is_cheaper() -> None:
    density = log_density(process())
    is_global = np.arange(density.dim) < 2
    assert isinstance(conditional_of(density, read_pattern(density), is_global), DenseConditional)
    none = np.zeros(density.dim, dtype=bool)
    assert type(conditional_of(density, read_pattern(density), none)) is Conditional
    with pm.Model() as groups:
        scale = pm.HalfNormal("scale")
        pm.Normal("y", pm.Normal("u", 0, scale, shape=20), 1.0, observed=np.ones(20))
    density = log_density(groups)
    found = conditional_of(density, read_pattern(density), np.arange(21) < 1)
    assert type(found) is Conditional


def test_what_curves_by_other_ways_too_is_refused() -> None:
    with pm.Model() as model:
        theta = pm.Normal("theta", shape=2)
        v = pm.Normal("v", shape=SIZE)
        pm.Normal("y", pt.exp(theta[0]) * v.sum(), 1.0, observed=1.0)
        pm.Potential("ring", -((v**2).sum() ** 2))
    density = log_density(model)
    # by its square, which is a predictor of no kind
    found = conditional_of(density, read_pattern(density), np.arange(density.dim) < 2)
    z = points(3)
    assert found.value_and_slope(z)[1] == pytest.approx(
        density.value_and_gradient(z)[1][:, 2:], rel=1e-6
    )


def test_a_part_that_reads_both_at_once_is_refused() -> None:
    z = pt.vector("z", shape=(4,))
    predictors = Predictors(z, [z[1:4] * 2.0], 1)
    with pytest.raises(NotLiftedError, match="at once"):
        predictors.given(np.array([0, 1]), np.array([2, 3]))
    apart = Predictors(z, [z[2:4] * z[0]], 1).given(np.array([0, 1]), np.array([2, 3]))
    found = apart(np.array([3.0, 0.0]), np.array([[1.0, 2.0], [0.0, 1.0]]))
    assert found.tolist() == [[3.0, 6.0], [0.0, 3.0]]
    whole = Predictors(z, clone_replace([z.sum()], {}), 1)
    with pytest.raises(NotLiftedError, match="one by one"):
        whole.given(np.array([0, 1]), np.array([2, 3]))


def test_a_dense_factor_is_that_of_a_sparse_one() -> None:
    rng = np.random.default_rng(2)
    matrix = rng.normal(size=(9, 9))
    matrix = matrix @ matrix.T + np.eye(9)
    factors = Factors(csr_array(np.ones((9, 9))))
    values = matrix[factors.rows, factors.columns]
    found = factors.of(values)
    assert found is not None
    b = rng.normal(size=(3, 9))
    assert found.solve(b) == pytest.approx(b @ np.linalg.inv(matrix), rel=1e-9)
    assert found.log_det == pytest.approx(np.linalg.slogdet(matrix)[1])
    assert found.squared_norm(b) == pytest.approx(((b @ matrix) * b).sum(1))
    draws = found.coloured(np.eye(9))
    assert draws.T @ draws == pytest.approx(np.linalg.inv(matrix), rel=1e-9)
    assert factors.of(-values) is None


@pytest.mark.slow
def test_a_process_is_fitted_judged_and_kept() -> None:
    rng = np.random.default_rng(3)
    x = np.sort(rng.uniform(0, 10, 60))
    y = rng.poisson(np.exp(np.sin(x) + 0.5))
    with pm.Model() as model:
        length, scale = pm.InverseGamma("length", 3, 4), pm.HalfNormal("scale", 1.0)
        covariance = scale**2 * pm.gp.cov.Matern52(1, length)
        f = pm.gp.Latent(cov_func=covariance).prior("f", X=x[:, None])
        pm.Poisson("y", pm.math.exp(f), observed=y)
    with watching(progressbar=False):
        made = NestedRung().climb(Climb(model, 1, None, FitOptions()), None, None)
    assert isinstance(made._nested.conditional, DenseConditional)
    assert pmf.diagnose(made, random_seed=1).verdict == "reliable"
    again = pmf.Approximation.from_state(made.to_state(), model)
    np.testing.assert_allclose(again.drawn_points(20, 1)[0], made.drawn_points(20, 1)[0])


def test_curvatures_that_underflow_are_not_compared_with() -> None:
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(6, 3))
    columns = Columns(matrix, np.ones(6, dtype=bool))
    tiny, other = np.full(6, 1e-200), rng.uniform(1, 2, 6)
    np.testing.assert_allclose(columns.gram(tiny), 1e-200 * matrix.T @ matrix)
    # its square is 0, and no ratio to it is known
    for diagonal in (other, 2 * other, tiny):
        np.testing.assert_allclose(columns.gram(diagonal), (matrix.T * diagonal) @ matrix)
