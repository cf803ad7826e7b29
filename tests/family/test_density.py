"""`log_prob` and the draws of an approximation belong to one normalized density."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pymc as pm
import pytest
from numpy.typing import NDArray
from scipy import stats

import pmflow as pmf
from pmflow.graphs.evaluate import compile_once

pytestmark = pytest.mark.slow

type Array = NDArray[np.float64]

ONE_DIM = ["scale-loc", "planar*2", "radial*2", "hh-scale", "scale-planar-radial-hh-loc"]
TWO_DIM = ["scale-hh-loc", "planar*2", "radial*2", "scale-planar-radial-hh-loc"]
CASES = [*((formula, 1) for formula in ONE_DIM), *((formula, 2) for formula in TWO_DIM)]

DRAWS = 20_000
STANDARD_ERRORS = 4
"""Of a sum of chi-square; one seed in 30,000 is further out by chance, and the seed is fixed."""

each_case = pytest.mark.parametrize(
    ("formula", "dim"), CASES, ids=[f"{formula}, dim {dim}" for formula, dim in CASES]
)


def tiny_model(dim: int) -> pm.Model:
    """One or two free variables, started away from 0, so that the flow has to be moved there."""
    with pm.Model() as model:
        pm.HalfNormal("b", 2.0, initval=1.5)
        if dim == 2:
            pm.Flat("a", initval=-0.5)
    return model


@cache
def approximation(formula: str, dim: int) -> pmf.NormalizingFlow:
    return pmf.NormalizingFlow(formula, model=tiny_model(dim), random_seed=7, jitter=0.7)


@cache
def draws(formula: str, dim: int) -> tuple[Array, Array]:
    """Points in latent order, shape (draws, dim), and their log q."""
    approx = approximation(formula, dim)
    found: Any = approx.sample(DRAWS, random_seed=8, include_transformed=True)
    by_name = {**found["posterior"].data_vars, **found["unconstrained_posterior"].data_vars}
    z = np.stack([by_name[name].values.ravel() for name in approx.ordering], axis=-1)
    return z, found["sample_stats"]["log_q"].values.ravel()


def grid(low: Array, high: Array, n: int) -> tuple[Array, float]:
    """Midpoints of n cells along each axis of a box, shape (n**dim, dim), and a cell's volume."""
    width = (high - low) / n
    axes = [a + w * (np.arange(n) + 0.5) for a, w in zip(low, width, strict=True)]
    return np.stack([x.ravel() for x in np.meshgrid(*axes, indexing="ij")], axis=-1), width.prod()


@each_case
def test_the_density_integrates_to_1(formula: str, dim: int) -> None:
    z, _ = draws(formula, dim)
    low, high = z.min(0), z.max(0)
    margin = 0.5 * (high - low)  # beyond the last of 20,000 draws: together below 1e-4
    cells, volume = grid(low - margin, high + margin, 20_000 if dim == 1 else 300)
    total = volume * np.exp(approximation(formula, dim).log_prob(cells)).sum()
    # 1e-3: midpoints at the kink of a radial layer and at sharp bends; smooth flows reach 1e-6
    assert total == pytest.approx(1, abs=1e-3)


@each_case
def test_log_prob_of_a_draw_is_its_log_q(formula: str, dim: int) -> None:
    z, log_q = draws(formula, dim)
    # 1e-8: the way back through the inverse, 1e-12 a layer, times the slope of log q
    np.testing.assert_allclose(approximation(formula, dim).log_prob(z), log_q, rtol=0, atol=1e-8)


@each_case
def test_a_histogram_of_draws_is_the_density(formula: str, dim: int) -> None:
    z, _ = draws(formula, dim)
    bins, cells = (40, 50) if dim == 1 else (12, 30)  # the density is averaged over a bin's cells
    edges = np.quantile(z, [0.02, 0.98], axis=0)
    counts, _ = np.histogramdd(z, bins=bins, range=list(edges.T))
    at, volume = grid(edges[0], edges[1], bins * cells)
    density = np.exp(approximation(formula, dim).log_prob(at)).reshape((bins, cells) * dim)
    expected = DRAWS * volume * density.sum(axis=tuple(range(1, 2 * dim, 2)))
    used = expected >= 5  # where a Poisson count is near enough to normal
    chi2 = np.sum((counts[used] - expected[used]) ** 2 / expected[used])
    assert abs(chi2 - used.sum()) < STANDARD_ERRORS * np.sqrt(2 * used.sum())


@each_case
def test_as_many_draws_as_expected_are_in_the_box(formula: str, dim: int) -> None:
    z, _ = draws(formula, dim)
    low, high = np.quantile(z, [0.1, 0.7], axis=0)  # not symmetric: a mirrored density would show
    cells, volume = grid(low, high, 5_000 if dim == 1 else 300)
    expected = volume * np.exp(approximation(formula, dim).log_prob(cells)).sum()
    found = np.mean(np.all((z > low) & (z < high), axis=-1))
    # 2: the box itself was chosen from these draws
    standard_error = 2 * np.sqrt(expected * (1 - expected) / DRAWS)
    assert abs(found - expected) < STANDARD_ERRORS * standard_error


@pytest.mark.parametrize("dim", [1, 2], ids="dim {}".format)
def test_log_prob_of_an_affine_flow_is_that_of_its_normal_distribution(dim: int) -> None:
    formula = "scale-hh-loc"
    approx = approximation(formula, dim)
    mean, cov = compile_once([], [approx.mean, approx.cov])()
    z, _ = draws(formula, dim)
    expected = stats.multivariate_normal(mean, cov).logpdf(z)
    # 1e-9: scipy goes through an eigendecomposition of cov
    np.testing.assert_allclose(approx.log_prob(z), expected, rtol=0, atol=1e-9)
