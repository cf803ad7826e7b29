"""J' H J and J of linear predictors, against NumPy's dense matrices."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
import scipy.sparse as sp
from latent import log_density

from pmflow.embedded import products as module
from pmflow.embedded.conditional import Conditional
from pmflow.embedded.factors import Factors
from pmflow.embedded.jacobians import Fixed, Moving, one_of_each, places_of
from pmflow.embedded.lifted import Lifted
from pmflow.embedded.predictors import NotLiftedError
from pmflow.embedded.products import DiagonalProducts, Products
from pmflow.embedded.structure import read_pattern
from pmflow.graphs.affine import is_affine

RNG = np.random.default_rng(11)
GROUPS, ROWS = 5, 60
OF = RNG.integers(0, GROUPS, ROWS)
X = RNG.normal(size=(ROWS, 3))


def rows_of_groups() -> sp.csr_array:
    """Three slopes for each group, one of all, and a few rows of their own."""
    dense = np.zeros((ROWS + 4, 3 * GROUPS + 1), dtype=bool)
    for row, group in enumerate(OF):
        dense[row, 3 * group : 3 * group + 3] = True
        dense[row, -1] = True
    dense[ROWS, 0] = dense[ROWS + 1, [2, 4]] = True  # and two without an entry
    return sp.csr_array(dense)


def test_rows_of_one_kind_have_the_same_columns() -> None:
    pattern = rows_of_groups()
    examples, kinds = one_of_each(*places_of(pattern))
    dense = pattern.toarray()
    np.testing.assert_array_equal(dense[examples[kinds]], dense)
    assert len(examples) == len(np.unique(dense, axis=0)) == GROUPS + 3


@pytest.mark.parametrize("of", [DiagonalProducts, Products])
def test_products_are_those_of_dense_matrices(of: type) -> None:
    pattern = rows_of_groups()
    pointers, indices = places_of(pattern)
    jacobian = RNG.normal(size=len(indices))
    h = RNG.uniform(size=pattern.shape[0])
    dense = sp.csr_array((jacobian, indices, pointers), shape=pattern.shape).toarray()
    wanted = dense.T @ np.diag(h) @ dense
    meets = pattern.astype(int)
    inner = Factors(sp.csr_array((meets.T @ meets + sp.eye_array(meets.shape[1])) > 0))
    outer = Factors(sp.csr_array(sp.eye_array(len(h))))
    made = (
        of(pointers, indices, inner)
        if of is DiagonalProducts
        else of(outer, *places_of(pattern), inner)
    )
    found = inner.matrix(made(h, jacobian)).toarray()
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    # what the pattern has not is left out
    few = Factors(sp.csr_array(np.eye(meets.shape[1], dtype=bool)))
    made = (
        of(pointers, indices, few)
        if of is DiagonalProducts
        else of(outer, *places_of(pattern), few)
    )
    np.testing.assert_allclose(made(h, jacobian), np.diag(wanted), atol=1e-12)


def test_too_many_products_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pointers, indices = places_of(rows_of_groups())
    inner = Factors(sp.csr_array(np.eye(3 * GROUPS + 1, dtype=bool)))
    monkeypatch.setattr(module, "_MOST_PRODUCTS", 900)
    with pytest.raises(NotLiftedError, match="too many entries each"):
        DiagonalProducts(pointers, indices, inner)


@pytest.mark.parametrize("of", [Fixed, Moving])
def test_predictors_and_their_derivatives(of: type) -> None:
    z = pt.vector("z", shape=(3 * GROUPS + 1,))
    slopes = z[:-1].reshape((GROUPS, 3))
    eta = 0.5 + (X * slopes[OF]).sum(1) + z[-1]
    inner = np.arange(1, 3 * GROUPS)
    matrix = np.zeros((ROWS, 3 * GROUPS + 1))
    for row, group in enumerate(OF):
        matrix[row, 3 * group : 3 * group + 3] = X[row]
    matrix[:, -1] = 1.0
    pattern = sp.csr_array(matrix != 0)
    points, sds = RNG.normal(size=(4, len(matrix[0]))), RNG.uniform(1, 2, len(inner))
    part = of(z, [eta], inner, pattern if of is Fixed else sp.csr_array(pattern[:, inner]))
    found = part.at(points, sds)
    np.testing.assert_allclose(found.predictors, 0.5 + points @ matrix.T, atol=1e-12)
    pointers, indices = places_of(sp.csr_array(pattern[:, inner]))
    for jacobian in found.jacobian:
        made = sp.csr_array((jacobian, indices, pointers), shape=(ROWS, len(inner))).toarray()
        np.testing.assert_allclose(made, matrix[:, inner], atol=1e-9)
    units = np.sqrt(matrix[:, inner] ** 2 @ sds**2)
    np.testing.assert_allclose(found.units, np.broadcast_to(units, found.units.shape))


def test_what_is_affine_in_all_of_a_vector() -> None:
    z = pt.vector("z", shape=(3,))
    assert is_affine(z, 2 * z[1:] + z[0] - 1)
    assert not is_affine(z, z[1:] * z[0])
    assert not is_affine(z, z[1:] / pt.exp(z[0]))
    assert is_affine(z, pt.constant(np.ones(2)))


def test_a_hierarchy_has_fixed_predictors_beside_moving_ones() -> None:
    with pm.Model() as model:
        log_tau = pm.Normal("log_tau", 0.0, 1.0)
        b = pm.Normal("b", 0.0, pt.exp(log_tau), shape=(GROUPS, 3))
        pm.Poisson("y", pt.exp((X * b[OF]).sum(1)), observed=RNG.poisson(1.0, ROWS))
    density = log_density(model)
    is_global = np.arange(density.dim) == 0
    conditional = Conditional(density, read_pattern(density), is_global)
    curvature = Lifted(density, conditional.locals, conditional.factors)
    assert [type(part) for part in curvature._parts] == [Fixed, Moving]
    z = RNG.normal(0.0, 0.5, (3, density.dim))
    found, plain = curvature.at(z, conditional.sds), conditional.precisions(z)
    assert found == pytest.approx(plain, abs=1e-4)
    eta = (X * z[1, 1:].reshape(GROUPS, 3)[OF]).sum(1)
    wanted = np.diag(np.full(3 * GROUPS, np.exp(-2 * z[1, 0])))
    for row, group in enumerate(OF):
        at = slice(3 * group, 3 * group + 3)
        wanted[at, at] += np.exp(eta[row]) * np.outer(X[row], X[row])
    np.testing.assert_allclose(conditional.factors.matrix(found[1]).toarray(), wanted, atol=1e-4)
