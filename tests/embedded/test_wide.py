"""Few sums of many variables beside a sparse pattern, against what is written down by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from latent import log_density, model_of
from scipy.sparse import csr_array

import pmflow as pmf
from pmflow.embedded.conditional import Conditional
from pmflow.embedded.low_rank_factor import LowRankFactor
from pmflow.embedded.structure import NoStructureError, read_pattern, verify_pattern
from pmflow.embedded.wide import WideFactors, wide_of
from pmflow.graphs.affine import affine_sums
from pmflow.graphs.checks import without_checks

RNG = np.random.default_rng(4)
GROUPS = 90
COUNTS = RNG.poisson(np.exp(1.0 + 0.5 * RNG.normal(size=(GROUPS, 1))), (GROUPS, 3))


def zero_sum() -> pm.Model:
    with pm.Model() as model:
        mean, sd = pm.Normal("mean", 0, 2), pm.HalfNormal("sd")
        effect = pm.ZeroSumNormal("effect", sigma=sd, shape=GROUPS)
        pm.Poisson("y", pm.math.exp(mean + effect)[:, None], observed=COUNTS)
    return model


def field(rows: int = 10) -> pm.Model:
    """A field on a grid, whose level is held at 0 by its sum."""
    at = np.arange(rows**2).reshape(rows, rows)
    meets = np.zeros((rows**2, rows**2))
    for one, other in ((at[1:], at[:-1]), (at[:, 1:], at[:, :-1])):
        meets[one, other] = meets[other, one] = 1
    y = RNG.normal(np.sin(at / 15.0).ravel(), 0.5)
    with pm.Model() as model:
        level, sd = pm.Normal("level", 0, 2), pm.HalfNormal("sd")
        phi = pm.ICAR("phi", W=meets, sigma=1.0)
        pm.Normal("y", level + sd * phi, 0.5, observed=y)
    return model


def by_differences(density: Any, z: np.ndarray) -> np.ndarray:
    steps = 1e-5 * np.eye(density.dim)
    ahead, behind = (density.value_and_gradient(z + s)[1] for s in (steps, -steps))
    return np.asarray((behind - ahead) / 2e-5)


@pytest.mark.parametrize("model", [zero_sum, field])
def test_second_derivatives_are_those_of_the_density(model: Any) -> None:
    density = log_density(model())
    wide = wide_of(density)
    assert wide is not None
    assert wide.matrix.shape[0] == 1
    assert wide_of(density) is wide
    pattern = read_pattern(density)
    assert pattern.nnz < 0.1 * density.dim**2
    is_global = np.zeros(density.dim, dtype=bool)
    is_global[[i for i, row in enumerate(np.diff(pattern.indptr)) if row > GROUPS / 2]] = True
    z = 0.3 * np.random.default_rng(1).standard_normal((2, density.dim))
    for held in (is_global, np.zeros_like(is_global)):
        conditional = Conditional(density, pattern, held)
        verify_pattern(conditional, z, 1)
        wanted = by_differences(density, z[0])[np.ix_(conditional.locals, conditional.locals)]
        (values,) = conditional.precisions(z[:1])
        assert conditional.factors.matrix(values).toarray() == pytest.approx(wanted, abs=1e-4)
        assert conditional.factors.diagonal(values) == pytest.approx(np.diag(wanted), abs=1e-4)
        assert conditional.blocks is None
        assert not conditional.is_independent


def test_sums_are_those_of_the_data_there_are_now() -> None:
    weights = pytensor.shared(np.ones(GROUPS), shape=(GROUPS,))
    density = log_density(model_of(lambda z: -((weights * z).sum() ** 2) - (z**4).sum(), GROUPS))
    wide = wide_of(density)
    assert wide is not None
    conditional = Conditional(density, read_pattern(density), np.zeros(GROUPS, dtype=bool))
    weights.set_value(np.linspace(1.0, 2.0, GROUPS))
    found = wide_of(density)
    assert found is not None
    assert np.abs(found.matrix / wide.matrix) == pytest.approx(np.linspace(1.0, 2.0, GROUPS)[None])
    z = 0.3 * np.ones((1, GROUPS))
    with pytest.raises(NoStructureError, match="has missed some"):
        verify_pattern(conditional, z, 1)
    verify_pattern(conditional.anew(), z, 1)


def test_a_sum_that_is_forgotten_is_seen() -> None:
    density = log_density(field())
    conditional = Conditional(density, read_pattern(density), np.zeros(density.dim, dtype=bool))
    conditional._wide.matrix[:] = 0.0  # type: ignore[union-attr]
    conditional.factors._sums[:] = 0.0  # type: ignore[attr-defined]
    with pytest.raises(NoStructureError, match="has missed some"):
        verify_pattern(conditional, 0.3 * np.ones((1, density.dim)), 1)


def test_factors_are_those_of_the_matrix() -> None:
    rng, dim = np.random.default_rng(2), 70
    chain = csr_array(np.eye(dim) * 3 + np.eye(dim, k=1) + np.eye(dim, k=-1))
    rows, crossed = rng.normal(size=(2, 2, dim)) / 5
    middle = np.array([[2.0, 0.3], [0.3, 1.0]])
    factors = WideFactors(csr_array(chain != 0), rows)
    entries = chain.toarray()[factors.rows, factors.columns]
    values = np.concatenate([entries, crossed.ravel(), middle.ravel()])
    half = rows.T @ crossed
    matrix = chain.toarray() + half + half.T + rows.T @ middle @ rows
    b = rng.normal(size=(3, dim))
    assert factors.times(values, b[0]) == pytest.approx(matrix @ b[0])
    raised = factors.matrix(factors.raised(values, np.arange(float(dim))))
    assert raised.toarray() == pytest.approx(matrix + np.diag(np.arange(dim)))
    factor = factors.of(values)
    assert isinstance(factor, LowRankFactor)
    assert factor.solve(b) == pytest.approx(np.linalg.solve(matrix, b.T).T)
    assert factor.log_det == pytest.approx(np.linalg.slogdet(matrix)[1])
    assert factor.precisions == pytest.approx(np.diag(matrix))
    assert factor.squared_norm(factor.coloured(b)) == pytest.approx((b**2).sum(1))
    root = factor.coloured(np.eye(dim))
    assert root.T @ root == pytest.approx(np.linalg.inv(matrix))
    # a sum of less than nothing: none, whatever is beside it
    assert (
        factors.of(np.concatenate([entries, 0 * crossed.ravel(), -1e3 * np.eye(2).ravel()])) is None
    )


def test_few_variables_are_no_matter() -> None:
    model = model_of(lambda z: -(z**2).sum() - z.sum() ** 2, 20)
    assert wide_of(log_density(model)) is None


def test_sums_of_sums_are_left_out() -> None:
    z = pt.vector("z", shape=(6,))
    first = z.reshape((2, 3)).sum(1)
    value = pt.exp(first.sum()) + (z * z).sum() + pt.exp(z).sum()
    found = affine_sums(z, value)
    assert [x.eval({z: np.arange(6.0)}).tolist() for x in found] == [[3.0, 12.0]]


def test_a_density_goes_on_where_a_check_gives_up() -> None:
    x = pt.vector("x", shape=(2,))
    value = pt.switch(pt.gt(x, 0), pt.log(x + 2), -np.inf).sum()
    (found,) = without_checks([value])
    at = np.array([-1.0, 3.0])
    assert value.eval({x: at}) == -np.inf
    assert found.eval({x: at}) == pytest.approx(np.log(at + 2).sum())
    kept = pt.switch(pt.gt(x, 0), x, 0.0).sum()
    assert without_checks([kept])[0].eval({x: at}) == 3.0


def exact(log_sd: float, model: pm.Model) -> float:
    """The log marginal of the field's scale, given which all else is Gaussian, by dense algebra."""
    density = log_density(model)
    places = {name: place for name, place, *_ in density.ordering.values()}
    z = np.zeros(density.dim)
    z[places["sd_log__"]] = log_sd
    inner = np.setdiff1d(np.arange(density.dim), places["sd_log__"].start)
    precision = by_differences(density, z)[np.ix_(inner, inner)]
    value, gradient = density.value_and_gradient(z[None])
    slope = gradient[0, inner]
    gain = slope @ np.linalg.solve(precision, slope) / 2
    log_det = np.linalg.slogdet(precision)[1]
    return float(value[0] + gain - log_det / 2 + len(slope) / 2 * np.log(2 * np.pi))


def test_the_user_is_told_of_it() -> None:
    found = pmf.structure(zero_sum())
    assert found.sums == (GROUPS - 1,)
    assert str(found).endswith("  and a sum of 89 of them")


@pytest.mark.slow
def test_a_field_is_fitted_judged_and_kept() -> None:
    model = field()
    made: Any = pmf.fit(model=model, random_seed=1, progressbar=False)
    assert isinstance(made, pmf.EmbeddedLaplace)
    assert made.diagnosis.verdict == "reliable"
    nested = made._nested
    theta = nested.state.proposal.draws(5, 1)
    assert made.global_names == ["sd_log__"]
    found = [given.log_marginal[0] for given in nested.each(theta)]
    assert found == pytest.approx([exact(at, model) for at in theta[:, 0]], abs=1e-3)
    draws: Any = made.sample(500, random_seed=1)["posterior"]
    assert np.abs(draws["phi"].values.mean(-1)).max() < 0.01  # held at 0 by its sum
    again = pmf.Approximation.from_state(made.to_state(), model)
    np.testing.assert_allclose(again.drawn_points(20, 1)[0], made.drawn_points(20, 1)[0], atol=1e-9)
