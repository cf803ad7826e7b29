"""Laplace, Gaussian and pathfinder frames, against what is known or found in another way."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from latent import Array, density_of, log_density
from numpy.polynomial.hermite_e import hermegauss
from scipy import optimize

from pmflow.frames import FRAMES, Frame, build_frame
from pmflow.posterior.density import LogDensity

RNG = np.random.default_rng(4)

# PyTensor looks for a BLAS that pip does not install; nothing here needs one
pytestmark = pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS")


def found(kind: str, density: LogDensity, start: Any = None) -> Frame:
    at = np.zeros(density.dim) if start is None else np.asarray(start, dtype=float)
    found = build_frame(kind, density, at, 1)
    frame = None if found is None else found.frame
    assert frame is not None
    return frame


def covariance(frame: Frame) -> Array:
    return frame.factor @ frame.factor.T


def regression() -> tuple[pm.Model, Array, Array]:
    """Linear, with columns in units that differ by 1e5; the posterior by its formula."""
    x = RNG.normal(size=(40, 3)) * [1.0, 1e-3, 1e2]
    x[:, 0] += 0.5 * x[:, 2] / 1e2
    y = x @ [1.0, 300.0, -0.02] + 0.5 * RNG.normal(size=40)
    with pm.Model() as model:
        b = pm.Normal("b", 0.0, 1e3, shape=3)
        pm.Normal("y", x @ b, 0.5, observed=y)
    precision = x.T @ x / 0.25 + np.eye(3) / 1e6
    cov = np.linalg.inv(precision)
    return model, cov @ (x.T @ y) / 0.25, cov


@pytest.mark.parametrize("kind", ["laplace", "gaussian"])
def test_a_gaussian_posterior_is_found_exactly(kind: str) -> None:
    model, mean, cov = regression()
    assert np.linalg.cond(cov) > 0.5e10
    frame = found(kind, log_density(model))
    assert (frame.kind, frame.note) == (kind, "")
    sds = np.sqrt(np.diag(cov))
    # 1e-4 sds: where the search for the mode stops; 1e-5: the second differences
    np.testing.assert_allclose((frame.loc - mean) / sds, 0, atol=2e-3)
    np.testing.assert_allclose(
        covariance(frame) / np.outer(sds, sds), cov / np.outer(sds, sds), atol=1e-4
    )


def test_pathfinder_comes_near_a_gaussian_posterior() -> None:
    cov = np.array([[4.0, 1.2], [1.2, 1.0]])
    inverse = np.linalg.inv(cov)
    density = density_of(lambda x: -0.5 * (x - 3) @ inverse @ (x - 3), 2)
    frame = found("pathfinder", density)
    inner = np.linalg.solve(np.linalg.cholesky(cov), frame.factor)
    shift = np.linalg.solve(np.linalg.cholesky(cov), frame.loc - 3)
    ratio = inner @ inner.T
    divergence = 0.5 * (np.trace(ratio) + shift @ shift - 2 - np.linalg.slogdet(ratio)[1])
    assert divergence < 0.05


def test_logistic_regression_has_the_mode_and_curvature_of_scipy() -> None:
    x = RNG.normal(size=(60, 2))
    y = (RNG.uniform(size=60) < 1 / (1 + np.exp(-x @ [1.0, -2.0]))).astype(int)
    with pm.Model() as model:
        b = pm.Normal("b", 0.0, 2.0, shape=2)
        pm.Bernoulli("y", logit_p=x @ b, observed=y)

    def loss(b: Array) -> float:
        eta = x @ b
        return float((np.logaddexp(0, eta) - y * eta).sum() + (b**2).sum() / 8)

    mode = optimize.minimize(
        loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}
    ).x
    p = 1 / (1 + np.exp(-x @ mode))
    hessian = (x.T * (p * (1 - p))) @ x + np.eye(2) / 4
    frame = found("laplace", log_density(model))
    np.testing.assert_allclose(frame.loc, mode, atol=5e-4)
    np.testing.assert_allclose(covariance(frame), np.linalg.inv(hessian), rtol=5e-3)


# The Gaussian of largest ELBO, found by exact quadrature and another optimiser

NODES, WEIGHTS = hermegauss(60)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def largest_elbo(logp: Callable[[Array], Array], start: Array, dim: int) -> tuple[Array, Array]:
    grid = np.stack([g.ravel() for g in np.meshgrid(*[NODES] * dim, indexing="ij")], -1)
    weights = WEIGHTS if dim == 1 else np.outer(WEIGHTS, WEIGHTS).ravel()
    below = np.tril_indices(dim, -1)

    def parts(v: Array) -> tuple[Array, Array]:
        factor = np.diag(np.exp(v[dim : 2 * dim]))
        factor[below] = v[2 * dim :]
        return v[:dim], factor

    def loss(v: Array) -> float:
        loc, factor = parts(v)
        return -float(weights @ logp(loc + grid @ factor.T)) - v[dim : 2 * dim].sum()

    best = optimize.minimize(loss, start, method="BFGS", options={"gtol": 1e-7})
    return parts(best.x)


def test_the_gaussian_of_a_skewed_density_has_the_largest_elbo() -> None:
    # a gamma of shape 2 as the log of its variable
    loc, factor = largest_elbo(lambda z: 2 * z[:, 0] - np.exp(z[:, 0]), np.zeros(2), 1)
    frame = found("gaussian", density_of(lambda x: (2 * x - pt.exp(x)).sum(), 1))
    # known: E exp(z) = 2 with variance 1/2
    np.testing.assert_allclose([loc[0], factor[0, 0] ** 2], [np.log(2) - 0.25, 0.5], atol=1e-5)
    np.testing.assert_allclose(frame.loc, loc, atol=5e-3)
    np.testing.assert_allclose(frame.factor, factor, rtol=1e-2)


@pytest.mark.slow
def test_the_gaussian_of_a_banana_has_the_largest_elbo() -> None:
    def numpy_logp(z: Array) -> Array:
        return -(z[:, 0] ** 2) / 2 - (z[:, 1] - 0.5 * z[:, 0] ** 2 - 0.4 * z[:, 0]) ** 2 / 2

    loc, factor = largest_elbo(numpy_logp, np.zeros(5), 2)
    density = density_of(
        lambda x: -(x[0] ** 2) / 2 - (x[1] - 0.5 * x[0] ** 2 - 0.4 * x[0]) ** 2 / 2, 2
    )
    frame = found("gaussian", density)
    # two thousand Sobol draws: a hundredth
    np.testing.assert_allclose(frame.loc, loc, atol=0.02)
    np.testing.assert_allclose(frame.factor, factor, atol=0.03)
    laplace = found("laplace", density)
    assert np.abs(laplace.factor - factor).max() > 0.1  # which is another


@pytest.mark.parametrize("kind", ["laplace", "gaussian"])
@pytest.mark.slow
def test_beyond_500_dimensions_frames_are_diagonal(kind: str) -> None:
    sds, means = np.logspace(-2, 2, 600), np.linspace(-1, 1, 600)
    density = density_of(lambda x: -0.5 * (((x - means) / sds) ** 2).sum(), 600)
    frame = found(kind, density)
    assert (frame.kind, frame.note, frame.is_diagonal) == (kind, "", True)
    np.testing.assert_allclose(frame.factor, sds, rtol=1e-4)
    np.testing.assert_allclose((frame.loc - means) / sds, 0, atol=3e-3)


# Where there is no mode

HARD: dict[str, tuple[Callable[[Any], Any], list[float], str]] = {
    "rises without end": (lambda x: x[0] - x[1] ** 2, [0.0, 0.0], "rises without end"),
    "convex": (lambda x: x[0] ** 2 - x[1] ** 2, [0.5, 0.0], "the search overflowed|without end"),
    "a flat direction": (lambda x: -(x[1] ** 2), [0.0, 1.0], "flat or convex"),
    "a kink": (lambda x: -abs(x).sum(), [0.3, 0.7], "no mode was found"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize(("graph", "start", "why"), HARD.values(), ids=HARD.keys())
def test_without_a_mode_the_next_frame_is_taken(
    graph: Callable[[Any], Any], start: list[float], why: str, kind: str
) -> None:
    frame = found(kind, density_of(graph, 2), start)  # finite, or Frame would refuse it
    if kind == "pathfinder":
        assert (frame.kind, frame.note) == ("pathfinder", "")
        return
    assert frame.note.startswith("No Laplace frame, because ")
    assert any(reason in frame.note for reason in why.split("|"))
    assert "Pathfinder's is used." in frame.note
    assert frame.kind in ("pathfinder", kind)


def test_a_flat_direction_does_not_make_the_gaussian_endless() -> None:
    frame = found("gaussian", density_of(lambda x: -(x[1] ** 2), 2))
    assert frame.kind == "pathfinder"
    assert frame.note.endswith("because the ELBO grows without end; it stays as it is.")
    assert frame.sds.max() < 1e3


@pytest.mark.slow
def test_centred_eight_schools_get_a_gaussian_by_way_of_pathfinder() -> None:
    with pm.Model() as model:
        mu, tau = pm.Normal("mu", 0.0, 5.0), pm.HalfCauchy("tau", 5.0)
        theta = pm.Normal("theta", mu, tau, shape=8)
        errors = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])
        pm.Normal("y", theta, errors, observed=[28.0, 8, -3, 7, -1, 1, 18, 12])
    density = log_density(model)
    frame = found("gaussian", density)
    assert "no mode was found" in frame.note or "without end" in frame.note
    assert frame.kind == "gaussian"
    # by NUTS mu is 4.4 +- 3.3; the frame is of that order
    assert 2 < frame.sds[0] < 5


@pytest.mark.parametrize("kind", FRAMES)
def test_without_any_density_there_is_no_frame_and_a_warning(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    density = density_of(lambda x: pt.switch(x[0] > 9, -(x**2).sum(), -np.inf), 2)
    with caplog.at_level(logging.WARNING, logger="pmflow"):
        assert build_frame(kind, density, np.zeros(2), 1) is None
    assert caplog.messages[-1].endswith(
        "No pathfinder frame, because no point on the way of L-BFGS has a finite ELBO. "
        "No frame is used."
    )
    if kind != "pathfinder":
        assert "the log density is not finite at the start" in caplog.text


def test_overflows_on_the_way_are_no_crash() -> None:
    # finite at the start, 1e200 there
    density = density_of(lambda x: -pt.exp(30 * x[0] ** 2) - x[1] ** 2 / 2, 2)
    for kind in FRAMES:
        build_frame(kind, density, np.array([4.0, 0.0]), 1)


def test_the_gaussian_stays_where_there_is_a_density() -> None:
    density = density_of(
        lambda x: pt.switch((x[0] > -1) & (x[0] < 1.5), -0.5 * (x**2).sum(), -np.inf), 2
    )
    frame = found("gaussian", density)
    assert frame.factor[0, 0] < 0.75
    assert frame.factor[1, 1] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("kind", FRAMES)
def test_one_dimension_will_do(kind: str) -> None:
    frame = found(kind, density_of(lambda x: -0.5 * ((x - 2) / 3).sum() ** 2, 1))
    assert frame.loc == pytest.approx([2.0], abs=0.05)
    assert frame.factor[0] == pytest.approx([3.0], rel=0.05)


def test_the_same_seed_finds_the_same_frame() -> None:
    density = density_of(lambda x: -(x**2).sum() - pt.exp(x[0]), 2)
    for kind in FRAMES:
        one, two = found(kind, density), found(kind, density)
        np.testing.assert_array_equal(one.loc, two.loc)
        np.testing.assert_array_equal(one.factor, two.factor)


@pytest.mark.parametrize("kind", ["laplace", "gaussian"])
def test_single_precision_is_enough_for_a_frame(kind: str) -> None:
    x = np.random.default_rng(5).normal(size=(300, 2)) * [10.0, 1e-3]
    y = x @ [0.2, 3e3]
    with pytensor.config.change_flags(floatX="float32"):
        with pm.Model() as model:
            b = pm.Normal("b", 0.0, 1e4, shape=2)
            pm.Normal("y", pt.as_tensor(x.astype("float32")) @ b, 0.5, observed=y)
        frame = found(kind, log_density(model))
    cov = np.linalg.inv(x.T @ x / 0.25)
    sds = np.sqrt(np.diag(cov))
    assert frame.note == ""
    np.testing.assert_allclose(frame.sds, sds, rtol=0.03)
    np.testing.assert_allclose((frame.loc - [0.2, 3e3]) / sds, 0, atol=0.1)
