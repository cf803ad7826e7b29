"""Densities compiled by JAX, beside the same graphs run by PyTensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.compile.ops import wrap_py
from scipy.stats import norm

import pmflow as pmf
from pmflow.graphs.checks import checks_as_values
from pmflow.graphs.machine import NotCompiledError, compiled_at_points
from pmflow.graphs.work import calls_in, has_loops, numbers_in
from pmflow.posterior.density import LogDensity

pytestmark = pytest.mark.jax

RNG = np.random.default_rng(1)


def regression() -> pm.Model:
    x = RNG.normal(size=(40, 3))
    with pm.Model() as model:
        b = pm.Normal("b", shape=3)
        pm.Bernoulli("y", logit_p=pt.dot(x, b), observed=(x.sum(1) > 0).astype(int))
    return model


def mixture() -> pm.Model:
    """Has Ops that are graphs of their own, and an ordered transform that asks for shapes."""
    with pm.Model() as model:
        mu = pm.Normal(
            "mu", shape=2, transform=pm.distributions.transforms.ordered, initval=[-1.0, 1.0]
        )
        parts = pm.Normal.dist(mu, 1.0)
        pm.NormalMixture("y", w=[0.4, 0.6], mu=mu, sigma=1.0, observed=RNG.normal(size=30))
        pm.Potential("more", pm.logp(parts, np.zeros(2)).sum())
    return model


def garch() -> pm.Model:
    """Has a scan."""
    y = RNG.normal(size=30)
    with pm.Model() as model:
        a = pm.HalfNormal("a")

        def step(y: Any, sd: Any, a: Any) -> Any:
            return pt.sqrt(0.5 + a * y**2 + 0.2 * sd**2)

        sds = pytensor.scan(
            step,
            sequences=[pt.as_tensor(y)],
            outputs_info=[pt.as_tensor(1.0) * a],
            non_sequences=[a],
            return_updates=False,
        )
        pm.Normal("y", 0.0, sds, observed=y)
    return model


def process() -> pm.Model:
    """Has a Cholesky factor."""
    x = np.linspace(0, 1, 6)
    with pm.Model() as model:
        length = pm.HalfNormal("length")
        cov = pt.exp(-((x[:, None] - x) ** 2) / length**2) + 0.1 * pt.eye(6)
        pm.MvNormal("y", np.zeros(6), cov, observed=RNG.normal(size=6))
    return model


def density_of(model: pm.Model) -> LogDensity:
    return pmf.NormalizingFlow("scale-loc", model=model).groups[0].log_density


@pytest.mark.parametrize("build", [regression, mixture, garch, process])
def test_it_is_that_of_pytensor(build: Any) -> None:
    density = density_of(build())
    run = compiled_at_points(density._z, density._logp, 5)
    points = RNG.normal(size=(5, density.dim))
    value, gradient = run(points)
    expected = density._without_jax(points)
    np.testing.assert_allclose(value, expected[0], rtol=1e-10)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("size", [1, 3, 64, 65, 130])
def test_any_number_of_points(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr("pmflow.posterior.graph_density._WORTH_COMPILING", 0)
    density = density_of(regression())
    points = RNG.normal(size=(size, 3))
    value, gradient = density.value_and_gradient(points)
    assert density._machine is not None
    expected = density._without_jax(points)
    np.testing.assert_allclose(value, expected[0], rtol=1e-10)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-8, atol=1e-10)


def test_new_data_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pmflow.posterior.graph_density._WORTH_COMPILING", 0)
    with pm.Model() as model:
        x = pm.Data("x", np.zeros(4))
        mu = pm.Normal("mu")
        pm.Normal("y", mu, 1.0, observed=x)
    density = density_of(model)
    before = density.value(np.zeros((1, 1)))
    with model:
        pm.set_data({"x": np.ones(7)})  # of another length
    after = density.value(np.zeros((1, 1)))
    assert density._machine is not None
    at = -0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose([*before, *after], [5 * at, 8 * at - 3.5])


def test_a_gradient_that_only_jax_loses_is_had_from_numpy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pmflow.posterior.graph_density._WORTH_COMPILING", 0)
    density = density_of(regression())
    run = density._machine
    assert run is not None

    def lossy(points: Any) -> Any:
        value, gradient = run(points)
        return value, np.where(points[:, :1] > 0, np.nan, gradient)

    monkeypatch.setitem(vars(density), "_machine", lossy)
    points = RNG.normal(size=(9, 3))
    np.testing.assert_allclose(
        density.value_and_gradient(points)[1],
        density._without_jax(points)[1],
        rtol=1e-8,
        atol=1e-10,
    )


def hypergeometric() -> pm.Model:
    with pm.Model() as model:
        z = pm.Normal("z")
        pm.Potential("p", pt.hyp2f1(0.5, 1.0, 1.5, -(z**2)))  # arctan(z) / z
    return model


@pytest.mark.parametrize("by", ["numba", "numpy"])
def test_what_jax_does_not_know_is_run_by_others(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pmflow.posterior.graph_density._WORTH_COMPILING", 0)
    if by == "numpy":

        def refused(*_: Any) -> Any:
            raise NotCompiledError("not today")

        monkeypatch.setattr("pmflow.posterior.graph_density.compiled_by_numba", refused)
    density = density_of(hypergeometric())
    assert has_loops([density._logp])
    with pytest.raises(NotCompiledError, match="loop"):
        compiled_at_points(density._z, density._logp, 2)
    values, gradients = density.value_and_gradient(np.array([[1.0], [-1.0]]))
    expected = np.arctan(1.0) - 0.5 - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(values, expected)
    # by the quotient rule, and -z of the prior
    slope = 1 / 2 - np.arctan(1.0) - 1
    np.testing.assert_allclose(gradients.ravel(), [slope, -slope], rtol=1e-9)


def test_single_precision_stays_with_numpy() -> None:
    with pytensor.config.change_flags(floatX="float32"):
        assert density_of(regression())._machine is None


class TestWork:
    def test_what_depends_on_constants_alone_is_free(self) -> None:
        x, matrix = pt.vector(shape=(10,)), pt.constant(np.eye(40))
        eigenvalues = pt.linalg.eigvalsh(matrix @ matrix)
        assert numbers_in([x.sum() * eigenvalues.sum()]) < 30
        shared = pytensor.shared(np.eye(40), shape=(40, 40))  # may be set to another
        assert numbers_in([x.sum() * pt.linalg.cholesky(shared).sum()]) > 40**3

    def test_an_op_counts_its_numbers(self) -> None:
        x = pt.vector("x", shape=(10,))
        assert numbers_in([pt.exp(x)]) == 10
        assert numbers_in([pt.exp(x).sum()]) == 20

    def test_a_product_counts_its_products(self) -> None:
        a, b = pt.matrix("a", shape=(20, 30)), pt.matrix("b", shape=(30, 40))
        assert numbers_in([pt.dot(a, b)]) == pytest.approx(20 * 30 * 40, rel=0.01)

    def test_a_matrix_of_data_times_a_vector_is_no_linear_algebra(self) -> None:
        rows, b = pt.constant(np.ones((2_000, 10))), pt.vector("b", shape=(10,))
        assert numbers_in([rows @ b]) == pytest.approx(20_000, rel=0.15)
        assert numbers_in([pt.linalg.cholesky(pt.matrix(shape=(40, 40)))]) >= 40**3

    def test_data_of_a_shape_not_known_count_as_they_are(self) -> None:
        x = pytensor.shared(np.ones(50))
        assert x.type.shape == (None,)
        assert numbers_in([pt.exp(x)]) == 50

    def test_a_scan_counts_its_steps(self) -> None:
        x = pt.vector("x", shape=(8,))
        ends = pytensor.scan(
            lambda i, before: before + pt.exp(i),
            sequences=[x],
            outputs_info=[pt.zeros((), dtype="float64")],
            return_updates=False,
        )
        assert calls_in([ends]) == 8 * 2
        assert 16 <= numbers_in([ends]) < 100
        assert calls_in([pt.exp(x)]) == 0


def survival() -> pm.Model:
    """Rows whose likelihood is in the side of a switch that they do not take are infinite there."""
    times = np.concatenate([np.zeros(20), RNG.exponential(size=20)])
    with pm.Model() as model:
        rate = pm.HalfNormal("rate")
        scale = rate * times
        pm.Potential("y", pt.switch(times > 0, pt.log(scale) * pt.sqrt(scale) - scale, -rate).sum())
    return model


def test_a_gradient_that_jax_loses_is_written_by_pytensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pmflow.posterior.graph_density._WORTH_COMPILING", 0)
    density = density_of(survival())
    points = RNG.normal(size=(9, 1))
    by_jax = density._machine
    assert by_jax is not None
    assert np.isnan(by_jax(np.tile(points, (8, 1))[:64])[1]).all()
    exact = density._without_jax(points)
    monkeypatch.setattr(density, "_without_jax", None)  # not needed
    for found, expected in zip(density.value_and_gradient(points), exact, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10)
    assert density._machine is not by_jax


def test_values_alone_have_a_function_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pmflow.posterior.graph_density._WORTH_COMPILING", 0)
    monkeypatch.setattr("pmflow.posterior.graph_density._WORTH_A_FUNCTION", 0)
    density = density_of(survival())
    points = RNG.normal(size=(130, 1))
    values = density.value(points)
    assert density._values is not None
    assert len(density._values(points[:64])) == 1
    np.testing.assert_allclose(values, density._without_jax(points)[0], rtol=1e-10)


def test_data_of_another_length_are_compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pmflow.posterior.graph_density._WORTH_COMPILING", 0)
    with pm.Model() as model:
        x = pm.Data("x", np.ones(5))
        z = pm.Normal("z")
        pm.Potential("p", -(x * z).mean())
    density = density_of(model)
    point = np.array([[0.5]])
    before = density.value_and_gradient(point)
    with model:
        pm.set_data({"x": np.full(8, 2.0)})
    after = density.value_and_gradient(point)
    assert after[0] - before[0] == pytest.approx(-0.5)
    assert after[1] - before[1] == pytest.approx(-1.0)


def test_a_diagonal_covariance() -> None:
    """Its graph ends with a batch that is none, of a range between numbers that are known."""
    z, data = pt.vector("z", shape=(3,)), RNG.normal(size=(5, 3))
    logp = pm.logp(pm.MvNormal.dist(np.zeros(3), cov=pt.diag(z)), data).sum()
    (logp,) = checks_as_values([logp], check_bounds=True)
    values, gradients = compiled_at_points(z, logp, 2)(np.full((2, 3), 2.0))
    wanted = norm.logpdf(data, 0.0, 2.0**0.5)
    np.testing.assert_allclose(values, wanted.sum())
    np.testing.assert_allclose(gradients, [(data**2 / 8 - 1 / 4).sum(0)] * 2)


def test_an_op_of_somebodys_own_counts() -> None:
    @wrap_py(itypes=[pt.dvector], otypes=[pt.dscalar])
    def solved(x: Any) -> Any:
        return np.asarray(x.sum())

    z = pt.vector("z", shape=(4,))
    assert numbers_in([solved(z)]) > 1_000_000 > numbers_in([z.sum()])


def test_a_length_that_is_shared() -> None:
    """A cut at a number that users may set: arrays of another shape are compiled anew."""
    length = pytensor.shared(np.int64(1))
    z = pt.vector("z", shape=(4,))
    first, rest = pt.split(z, pt.stack([length, 4 - length]), n_splits=2)
    run = compiled_at_points(z, (first**2).sum() + rest.sum(), 1)
    for number in (1, 3):
        length.set_value(np.int64(number))
        values, gradients = run(np.full((1, 4), 3.0))
        np.testing.assert_allclose(values, 9 * number + 3 * (4 - number))
        np.testing.assert_allclose(gradients[0], [6.0] * number + [1.0] * (4 - number))
