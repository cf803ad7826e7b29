"""Factors and colours of sparse matrices against NumPy's dense ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from pmflow.embedded.colours import Colours
from pmflow.embedded.dense_factors import DenseFactors, LowRankFactors
from pmflow.embedded.factor import DenseFactor, Factor, SparseFactor
from pmflow.embedded.factors import Factors
from pmflow.embedded.low_rank_factor import DiagonalFactor, LowRankFactor
from pmflow.embedded.triangular import triangular

type Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
type Case = tuple[Floats, Factors, Factor]


def precision(dim: int, density: float, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    half = rng.uniform(size=(dim, dim)) * (rng.uniform(size=(dim, dim)) < density)
    full = half + half.T
    return full + np.diag(np.abs(full).sum(1) + 1)


def pattern_of(matrix: Floats) -> sp.csr_array:
    return sp.csr_array(matrix != 0)


@pytest.fixture(params=[(1, 1.0), (6, 0.4), (80, 0.05)], ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    dim, density = request.param
    matrix = precision(dim, density, 1)
    factors = Factors(pattern_of(matrix))
    factor = factors.of(matrix[factors.rows, factors.columns])
    assert isinstance(factor, SparseFactor if dim == 80 else DenseFactor)
    return matrix, factors, factor


def test_a_pivot_of_0_is_no_factor() -> None:
    factors = Factors(pattern_of(precision(60, 0.05, 1)))
    zero, diagonal = np.zeros(len(factors.rows)), np.where(factors.rows == factors.columns, 2.0, 0)
    for values in (zero, diagonal, zero):  # before and after one was found
        factor = factors.of(values)
        assert (factor is None) == (values is zero)


def as_matrix(factor: Factor) -> Floats:
    rows = factor.scaled(np.eye(factor.size))
    return rows @ rows.T


@pytest.mark.parametrize("kind", ["sparse", "dense", "diagonal", "few rows"])
def test_any_factor_has_a_triangle_of_the_same_matrix(kind: str) -> None:
    matrix = precision(8, 0.4, 3)
    diagonal = DiagonalFactor(np.linspace(1.0, 2.0, 8))
    row = np.random.default_rng(4).normal(size=(1, 8))
    factor: Factor | None = {
        "sparse": SparseFactor(np.zeros(9, int), np.zeros(0, int), np.zeros(0), *kept(8)),
        "dense": DenseFactor.of(matrix),
        "diagonal": diagonal,
        "few rows": LowRankFactor.of(diagonal, row, np.eye(1)),
    }[kind]
    assert factor is not None
    found = triangular(factor)
    assert isinstance(found, SparseFactor)
    np.testing.assert_allclose(as_matrix(found), as_matrix(factor), atol=1e-12)
    assert found.log_det == pytest.approx(factor.log_det)


def kept(dim: int) -> tuple[Floats, Any]:
    """A diagonal, and an order of elimination."""
    return np.linspace(1.0, 3.0, dim), np.arange(dim)[::-1].copy()


def test_of_many_variables_few_rows_are_left_out() -> None:
    diagonal = DiagonalFactor(np.linspace(1.0, 2.0, 400))
    factor = LowRankFactor.of(diagonal, np.ones((1, 400)), np.eye(1))
    assert factor is not None
    assert not triangular(factor).entries.size


class TestFactor:
    def test_solves_and_the_determinant(self, case: Case) -> None:
        matrix, _, factor = case
        b = np.random.default_rng(2).normal(size=(3, len(matrix)))
        np.testing.assert_allclose(factor.solve(b), np.linalg.solve(matrix, b.T).T, atol=1e-12)
        assert factor.log_det == pytest.approx(np.linalg.slogdet(matrix)[1])

    def test_draws_have_the_inverse_as_covariance(self, case: Case) -> None:
        matrix, _, factor = case
        root = factor.coloured(np.eye(len(matrix)))
        np.testing.assert_allclose(root.T @ root, np.linalg.inv(matrix), atol=1e-12)
        np.testing.assert_allclose(factor.variances, np.diag(np.linalg.inv(matrix)))

    def test_norms(self, case: Case) -> None:
        matrix, _, factor = case
        d = np.random.default_rng(2).normal(size=(3, len(matrix)))
        np.testing.assert_allclose(factor.squared_norm(d), ((d @ matrix) * d).sum(1))
        inverse = np.linalg.inv(matrix)
        np.testing.assert_allclose((factor.whitened(d) ** 2).sum(1), ((d @ inverse) * d).sum(1))

    def test_one_analysis_serves_all_values(self, case: Case) -> None:
        matrix, factors, first = case
        before = first.solve(np.ones((1, len(matrix))))
        again = factors.of(2 * matrix[factors.rows, factors.columns])
        assert again is not None
        assert again.log_det == pytest.approx(first.log_det + len(matrix) * np.log(2))
        # the first one is as it was
        np.testing.assert_array_equal(first.solve(np.ones((1, len(matrix)))), before)

    def test_values_may_lie_apart_in_memory(self, case: Case) -> None:
        matrix, factors, first = case
        values = np.repeat(matrix[factors.rows, factors.columns], 2).reshape(-1, 2)[:, 0]
        again = factors.of(values)
        assert again is not None
        e = np.eye(len(matrix))
        np.testing.assert_array_equal(again.coloured(e), first.coloured(e))


def test_what_is_not_positive_definite_has_none() -> None:
    matrix = precision(6, 0.4, 3)
    matrix[2, 2] = -1.0
    factors = Factors(pattern_of(matrix))
    values = matrix[factors.rows, factors.columns]
    assert factors.of(values) is None
    assert factors.of(np.full_like(values, np.nan)) is None
    factor, damping, _ = factors.damped(values)
    assert damping > 0
    assert (factor.precisions > 0).all()


class TestColours:
    @pytest.mark.parametrize("seed", range(3))
    def test_products_tell_every_entry(self, seed: int) -> None:
        matrix = precision(60, 0.04, seed)
        matrix[0, :] = matrix[:, 0] = 1.0  # a column that meets all others
        matrix[0, 0] = 100.0
        factors = Factors(pattern_of(matrix))
        found = Colours.of_pattern(pattern_of(matrix), factors.rows, factors.columns)
        products = found.directions @ matrix
        values = products[found.read_colour, found.read_row]
        np.testing.assert_allclose(values, matrix[factors.rows, factors.columns])
        assert found.number < 40

    def test_an_arrow_takes_two(self) -> None:
        matrix = np.eye(200)
        matrix[0, :] = matrix[:, 0] = 1.0
        factors = Factors(pattern_of(matrix))
        assert Colours.of_pattern(pattern_of(matrix), factors.rows, factors.columns).number == 2

    def test_a_chain_takes_three(self) -> None:
        matrix = np.eye(200) + np.eye(200, k=1) + np.eye(200, k=-1)
        factors = Factors(pattern_of(matrix))
        assert Colours.of_pattern(pattern_of(matrix), factors.rows, factors.columns).number == 3

    def test_two_crossed_factors_take_the_smaller_and_one(self) -> None:
        matrix = np.zeros((50, 50))
        matrix[:40, 40:] = matrix[40:, :40] = 1.0
        matrix += np.diag(np.full(50, 100.0))
        factors = Factors(pattern_of(matrix))
        assert Colours.of_pattern(pattern_of(matrix), factors.rows, factors.columns).number == 11


class TestDense:
    """Factors with all entries, against the matrix they are of."""

    @pytest.fixture(params=["whole", "two rows", "minus two rows"])
    def dense(self, request: pytest.FixtureRequest) -> tuple[Floats, Factor]:
        rng = np.random.default_rng(5)
        diagonal, rows = rng.uniform(4.0, 6.0, 7), rng.normal(size=(2, 7)) / 2
        signs = np.array([1.0, -1.0]) if request.param == "minus two rows" else np.ones(2)
        matrix = np.diag(diagonal) + (rows.T * signs) @ rows
        pattern = sp.csr_array(np.ones((7, 7)))
        factors: Factors = DenseFactors(pattern)
        values = matrix.ravel()
        if request.param != "whole":
            factors = LowRankFactors(pattern, 2)
            values = np.concatenate([diagonal, rows.ravel(), signs])
        assert factors.matrix(values).toarray() == pytest.approx(matrix)
        assert factors.diagonal(values) == pytest.approx(np.diag(matrix))
        raised = factors.matrix(factors.raised(values, np.arange(7.0))).toarray()
        assert raised == pytest.approx(matrix + np.diag(np.arange(7.0)))
        factor = factors.of(values)
        assert factor is not None
        assert factors.of(np.full_like(values, np.nan)) is None
        assert factors.of(-values) is None
        return matrix, factor

    def test_it_is_that_of_the_matrix(self, dense: tuple[Floats, Factor]) -> None:
        matrix, factor = dense
        b = np.random.default_rng(6).normal(size=(3, 7))
        assert factor.size == 7
        assert factor.log_det == pytest.approx(np.linalg.slogdet(matrix)[1])
        assert factor.precisions == pytest.approx(np.diag(matrix))
        assert factor.solve(b) == pytest.approx(np.linalg.solve(matrix, b.T).T)
        assert factor.squared_norm(b) == pytest.approx(np.einsum("ni,ij,nj->n", b, matrix, b))
        root = factor.coloured(np.eye(7))
        assert root.T @ root == pytest.approx(np.linalg.inv(matrix))
        wanted = np.einsum("ni,ij,nj->n", b, np.linalg.inv(matrix), b)
        assert (factor.whitened(b) ** 2).sum(1) == pytest.approx(wanted)


def test_the_diagonal_of_a_precision(case: Case) -> None:
    matrix, _, factor = case
    assert factor.precisions == pytest.approx(np.diag(matrix))
