"""The log posterior over the latent vector is PyMC's, with its gradient, at many points at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from latent import Array, density_of, log_density
from ops import SumOfPowers
from scipy import stats
from some import some

import pmflow as pmf
from pmflow.graphs import work
from pmflow.posterior.density import LogDensity

RNG = np.random.default_rng(1)

# PyTensor looks for a BLAS that pip does not install; nothing here needs one
pytestmark = pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS")


def shapes() -> pm.Model:
    """Scalars, vectors, a matrix, and transforms that change the length."""
    with pm.Model() as model:
        sd = pm.HalfNormal("sd", 2.0)
        share = pm.Dirichlet("share", np.ones(3))
        pm.Uniform("table", -1.0, 2.0, shape=(2, 3))
        place = pm.Normal("place", 0.0, sd, shape=3)
        pm.Normal("y", (share * place).sum(), sd, observed=RNG.normal(size=7))
    return model


def autoregression() -> pm.Model:
    with pm.Model() as model:
        rho = pm.Normal("rho", 0.0, 0.5, shape=2)
        sd = pm.HalfNormal("sd", 1.0)
        pm.AR("y", rho, sd, init_dist=pm.Normal.dist(0, 1, shape=2), observed=RNG.normal(size=15))
    return model


def garch() -> pm.Model:
    """The variance of a day follows from the one before: a scan, with data as a sequence."""
    returns = RNG.normal(size=12)
    with pm.Model() as model:
        a = pm.HalfNormal("a", 1.0)
        b = pm.Uniform("b", 0.0, 1.0)
        variances = pytensor.scan(
            lambda y, before, a, b: a + 0.3 * y**2 + b * before,
            sequences=[pt.as_tensor(returns)],
            outputs_info=[np.array(1.0)],
            non_sequences=[a, b],
            return_updates=False,
        )
        pm.Normal("y", 0.0, pt.sqrt(variances), observed=returns)
    return model


def checked_in_a_scan() -> pm.Model:
    """A scale that may be negative, checked in each step of a loop."""
    with pm.Model() as model:
        sd = pm.Normal("sd", 1.0, 1.0)
        terms = pytensor.scan(
            lambda y, sd: pm.logp(pm.Normal.dist(0.0, sd), y),
            sequences=[pt.as_tensor(RNG.normal(size=4))],
            non_sequences=[sd],
            return_updates=False,
        )
        pm.Potential("terms", terms.sum())
    return model


def covariance() -> pm.Model:
    with pm.Model() as model:
        factor, _, _ = pm.LKJCholeskyCov("factor", n=3, eta=2.0, sd_dist=pm.HalfNormal.dist(1.0))
        pm.MvNormal("y", 0.0, chol=factor, observed=RNG.normal(size=(6, 3)))
    return model


def process() -> pm.Model:
    """A Cholesky factorization inside."""
    places = np.linspace(0, 1, 5)
    with pm.Model() as model:
        length = pm.HalfNormal("length", 1.0)
        kernel = pt.exp(-(((places[:, None] - places) / length) ** 2)) + 1e-4 * np.eye(5)
        pm.MvNormal("f", 0.0, cov=kernel, shape=5)
    return model


MODELS: dict[str, Callable[[], pm.Model]] = {
    "shapes and transforms": shapes,
    "autoregression": autoregression,
    "garch": garch,
    "a covariance": covariance,
    "a Gaussian process": process,
}


def as_point(density: LogDensity, z: Array) -> dict[str, Array]:
    """A latent vector as values of the model's variables, by their own order."""
    ordering = pmf.NormalizingFlow("loc", model=density.model).ordering
    return {name: z[place].reshape(shape) for name, place, shape, _ in ordering.values()}


@pytest.mark.parametrize("make", some(MODELS, 1))
def test_values_and_gradients_are_those_of_pymc(make: Callable[[], pm.Model]) -> None:
    model = make()
    density = log_density(model)
    z = 0.5 * RNG.normal(size=(4, density.dim))
    value, gradient = density.value_and_gradient(z)
    assert value.shape == (4,)
    assert gradient.shape == (4, density.dim)

    logp = model.compile_logp(mode="FAST_COMPILE")
    expected = [float(logp(as_point(density, row))) for row in z]
    np.testing.assert_allclose(value, expected, rtol=1e-9)

    dlogp = model.compile_dlogp(mode="FAST_COMPILE")
    names = [v.name for v in model.value_vars]
    for row, found in zip(z, gradient, strict=True):
        parts = as_point(density, found)
        in_their_order = np.concatenate([parts[name].ravel() for name in names])
        # 1e-6: the gradient through a Cholesky factor of a nearly singular matrix
        expected_gradient: Any = dlogp(as_point(density, row))
        np.testing.assert_allclose(in_their_order, expected_gradient, rtol=1e-6)


@pytest.mark.parametrize("make", some(MODELS, 1))
def test_gradients_are_those_of_differences(make: Callable[[], pm.Model]) -> None:
    density = log_density(make())
    z = 0.3 * RNG.normal(size=density.dim)
    step = 1e-5 * np.eye(density.dim)
    ahead, behind = (density.value_and_gradient(z + s * step)[0] for s in (1, -1))
    slopes = np.asarray(ahead - behind) / 2e-5
    gradient = density.value_and_gradient(z[None])[1][0]
    # 1e-4: rounding of values of some hundreds over the step
    np.testing.assert_allclose(gradient, slopes, rtol=1e-4, atol=1e-4)


def test_where_there_is_no_density_the_value_is_minus_infinity_and_the_gradient_zero() -> None:
    density = density_of(lambda x: pt.log(x).sum() - x.sum(), 2)
    value, gradient = density.value_and_gradient(np.array([[-1.0, 1.0], [2.0, 3.0], [0.0, 1.0]]))
    expected: Any = [[0.0, 0.0], [-0.5, -2 / 3], [0.0, 0.0]]
    np.testing.assert_allclose(value, np.array([-np.inf, np.log(6) - 5, -np.inf]))
    np.testing.assert_allclose(gradient, expected)


def test_a_parameter_out_of_range_leaves_the_other_points_their_density() -> None:
    with pm.Model() as model:
        sd = pm.Normal("sd", 1.0, 1.0)
        pm.Normal("y", 0.0, sd, observed=[1.0, 2.0])
    value, gradient = log_density(model).value_and_gradient(np.array([[-0.5], [0.8]]))
    expected = stats.norm.logpdf(0.8, 1, 1) + stats.norm.logpdf([1.0, 2.0], 0, 0.8).sum()
    np.testing.assert_allclose(value, np.array([-np.inf, expected]))
    # by hand: 1 - sd - 2 / sd + 5 / sd**3
    np.testing.assert_allclose(gradient[:, 0], np.array([0.0, 0.2 - 2 / 0.8 + 5 / 0.8**3]))


def test_parameters_out_of_range_have_no_density_in_a_loop_too() -> None:
    density = log_density(checked_in_a_scan())
    value, gradient = density.value_and_gradient(np.array([[-0.5], [0.8]]))
    assert value[0] == -np.inf
    assert gradient[0] == 0
    assert np.isfinite(value[1])


def test_new_data_are_seen_at_once() -> None:
    with pm.Model() as model:
        data = pm.Data("data", np.zeros(3))
        mu = pm.Normal("mu", 0.0, 2.0)
        pm.Normal("y", mu, 1.0, observed=data)
    density = log_density(model)
    at = np.array([[0.7]])

    def expected(values: Array) -> float:
        return stats.norm(0, 2).logpdf(0.7) + stats.norm(0.7, 1).logpdf(values).sum()

    assert density.value_and_gradient(at)[0][0] == pytest.approx(expected(np.zeros(3)))
    longer = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    with model:
        pm.set_data({"data": longer})
    assert density.value_and_gradient(at)[0][0] == pytest.approx(expected(longer))


@pytest.mark.parametrize("batch", [4, 5], ids=["that divide the data", "that do not"])
def test_minibatches_are_all_of_the_data(batch: int) -> None:
    x, y = RNG.normal(size=(12, 2)), RNG.normal(size=12)
    with pm.Model() as model:
        rows, seen = pm.Minibatch(x, y, batch_size=batch)
        b = pm.Normal("b", 0.0, 2.0, shape=2)
        pm.Normal("y", rows @ b, 1.0, observed=seen, total_size=12)
    density = log_density(model)
    at = RNG.normal(size=(3, 2))
    value, _ = density.value_and_gradient(at)
    terms = stats.norm.logpdf(y, at @ x.T, 1.0).sum(-1)
    np.testing.assert_allclose(value, stats.norm.logpdf(at, 0, 2).sum(-1) + terms, rtol=1e-8)
    np.testing.assert_array_equal(density.value_and_gradient(at)[0], value)


def test_minibatches_of_different_data_are_taken_together() -> None:
    y, w = RNG.normal(size=12), RNG.normal(size=6)
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 2.0)
        few, many = pm.Minibatch(y, batch_size=4), pm.Minibatch(w, batch_size=2)
        pm.Normal("y", mu, 1.0, observed=few, total_size=12)
        pm.Normal("w", mu, 0.5, observed=many, total_size=6)
    value, _ = log_density(model).value_and_gradient(np.array([[0.4]]))
    terms = stats.norm.logpdf(y, 0.4, 1.0).sum() + stats.norm.logpdf(w, 0.4, 0.5).sum()
    np.testing.assert_allclose(value, [stats.norm.logpdf(0.4, 0, 2) + terms], rtol=1e-8)


def test_points_are_taken_in_parts_where_they_would_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = log_density(garch())
    monkeypatch.setattr(work, "_NUMBERS_AT_ONCE", 36)  # 3 draws of 12 numbers
    parts = log_density(garch())
    z = RNG.normal(size=(8, 2))
    assert (whole._rows, parts._rows) == (2**22 // 12, 3)
    for a, b in zip(whole.value_and_gradient(z), parts.value_and_gradient(z), strict=True):
        assert a.shape == b.shape


def test_what_cannot_be_batched_is_called_point_by_point() -> None:
    density = density_of(lambda x: -SumOfPowers()(x, 4), 2)
    z = RNG.normal(size=(3, 2))
    value, gradient = density.value_and_gradient(z)
    np.testing.assert_allclose(value, -(z**4).sum(-1))
    np.testing.assert_allclose(gradient, -4 * z**3)


@pytest.mark.slow
def test_numbers_are_single_where_pytensor_says_so() -> None:
    with pytensor.config.change_flags(floatX="float32"):
        model = shapes()
        density = log_density(model)
        z = 0.5 * RNG.normal(size=(4, density.dim))
        value, gradient = density.value_and_gradient(z)
        assert density._without_jax(z.astype("float32"))[1].dtype == np.float32
    assert value.dtype == gradient.dtype == np.float64
    points = [as_point(density, row) for row in z.astype("float32")]
    logp = model.compile_logp(mode="FAST_COMPILE")
    np.testing.assert_allclose(value, [float(logp(p)) for p in points], rtol=1e-5)


def test_no_warning_reaches_the_user() -> None:
    # pytest makes errors of warnings: overflows, and names that PyMC has moved
    value, _ = density_of(lambda x: -pt.exp(x**4).sum(), 1).value_and_gradient(np.array([[9.0]]))
    assert value == -np.inf
