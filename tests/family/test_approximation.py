"""Approximations: densities at points, layers, moments, and several families together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytest
from models import gaussian
from numpy.typing import NDArray
from scipy import stats

import pmflow as pmf
from pmflow.errors import ParameterError, UnsupportedError
from pmflow.graphs.evaluate import compile_once

type Array = NDArray[np.float64]

STANDARD_ERRORS = 5
"""Of a Monte Carlo estimate; one seed in two million is further out, and the seeds are fixed."""


@pytest.fixture
def model() -> pm.Model:
    with pm.Model(coords={"place": ["x", "y", "z"]}) as model:
        pm.Normal("a", 2.0, 1.0, dims="place")
        pm.HalfNormal("s", dims="place")
        pm.Uniform("u", 0, 10)
    return model


@pytest.fixture
def mixed(model: pm.Model) -> pmf.Approximation:
    """A flow, a full-rank and a mean-field normal, in another order than the model's."""
    groups = [
        pmf.Group([model["s"]], "planar*2", model=model, random_seed=1, jitter=1.0),
        pmf.Group([model["a"]], "fr", model=model),
        pmf.Group(None, "mf", model=model),
    ]
    approx = pmf.Approximation(groups, model=model)
    shake(approx)
    return approx


def shake(approx: pmf.Approximation, seed: int = 0) -> None:
    """Give every parameter another value."""
    rng = np.random.default_rng(seed)
    for param in approx.params:
        value = param.get_value()
        param.set_value(value + 0.5 * rng.standard_normal(value.shape))


def numbers(*graphs: Any) -> list[Array]:
    return [np.asarray(x) for x in compile_once([], graphs)()]


def number(graph: Any) -> Array:
    return numbers(graph)[0]


def draws_and_log_q(approx: pmf.Approximation, draws: int, seed: int = 3) -> tuple[Array, Array]:
    """Draws in the order of the latent vector, shape (draws, dim), and their log q."""
    found: Any = approx.sample(draws, random_seed=seed, include_transformed=True)
    by_name = {**found["posterior"].data_vars, **found["unconstrained_posterior"].data_vars}
    columns = [
        by_name[name].values.reshape(draws, -1) for g in approx.groups for name in g.ordering
    ]
    return np.concatenate(columns, axis=-1), found["sample_stats"]["log_q"].values.ravel()


def softplus(x: Array) -> Array:
    return np.log1p(np.exp(x))


class TestLogProb:
    def test_it_is_the_log_q_of_draws_in_a_mixed_approximation(
        self, mixed: pmf.Approximation
    ) -> None:
        z, log_q = draws_and_log_q(mixed, 50)
        np.testing.assert_allclose(mixed.log_prob(z), log_q, rtol=0, atol=1e-8)

    def test_it_follows_a_change_of_parameters(self, mixed: pmf.Approximation) -> None:
        points = np.zeros((2, 7))
        before = mixed.log_prob(points)
        shake(mixed, seed=7)
        z, log_q = draws_and_log_q(mixed, 50)
        np.testing.assert_allclose(mixed.log_prob(z), log_q, rtol=0, atol=1e-8)
        assert (mixed.log_prob(points) != before).all()

    def test_full_rank_has_the_density_of_scipy(self) -> None:
        model = gaussian([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]])
        approx = pmf.Approximation([pmf.Group(None, "fr", model=model)], model=model)
        shake(approx)
        group = approx.groups[0]
        points = np.random.default_rng(0).normal(size=(5, 2))
        expected = stats.multivariate_normal(*numbers(group.mean, group.cov)).logpdf(points)
        np.testing.assert_allclose(approx.log_prob(points), expected, rtol=1e-10)

    def test_mean_field_has_the_density_of_scipy(self) -> None:
        model = gaussian([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]])
        approx = pmf.Approximation([pmf.Group(None, "mf", model=model)], model=model)
        shake(approx)
        mu, rho = (p.get_value() for p in approx.params)
        points = np.random.default_rng(0).normal(size=(5, 2))
        expected = stats.norm(mu, softplus(rho)).logpdf(points).sum(-1)
        np.testing.assert_allclose(approx.log_prob(points), expected, rtol=1e-10)

    @pytest.mark.parametrize(
        ("points", "shape"),
        [((4, 7), (4,)), ((1, 7), (1,)), ((7,), ()), ((0, 7), (0,))],
        ids=["several", "one row", "one point", "none"],
    )
    def test_one_number_a_point(
        self, mixed: pmf.Approximation, points: tuple[int, ...], shape: tuple[int, ...]
    ) -> None:
        found = mixed.log_prob(np.zeros(points))
        assert isinstance(found, np.ndarray)
        assert found.shape == shape

    def test_lists_are_points_too(self, mixed: pmf.Approximation) -> None:
        assert mixed.log_prob([0] * 7) == mixed.log_prob(np.zeros(7))

    @pytest.mark.parametrize(
        "shape", [(6,), (4, 8), (7, 1), (2, 3, 7), ()], ids=lambda s: "x".join(map(str, s))
    )
    def test_points_of_another_shape_are_refused(
        self, mixed: pmf.Approximation, shape: tuple[int, ...]
    ) -> None:
        with pytest.raises(ParameterError, match=r"shape \(n, 7\).*but has shape \("):
            mixed.log_prob(np.zeros(shape))

    def test_empirical_has_none(self, model: pm.Model) -> None:
        group = pmf.Group(None, "empirical", model=model, size=10)
        approx = pmf.Approximation([group], model=model)
        with pytest.raises(UnsupportedError, match="EmpiricalGroup has no density"):
            approx.log_prob(np.zeros(7))


class TestSampleLayers:
    @pytest.fixture
    def approx(self, model: pm.Model) -> pmf.NormalizingFlow:
        return pmf.NormalizingFlow("scale-planar*2-hh", model=model, random_seed=1, jitter=0.5)

    def test_there_is_one_array_a_layer_and_the_base(self, approx: pmf.NormalizingFlow) -> None:
        assert [step.shape for step in approx.sample_layers(9)] == [(9, 7)] * 5

    def test_the_base_is_normal_around_the_start(self, model: pm.Model) -> None:
        start = {"s": np.array([0.1, 1.0, 10.0])}
        approx = pmf.NormalizingFlow("planar", model=model, random_seed=1, start=start)
        base = approx.sample_layers(2_000, random_seed=2)[0]
        centre = [2.0, 2.0, 2.0, *np.log(start["s"]), 0.0]
        pvalues = [
            stats.kstest(x, stats.norm(c).cdf).pvalue for x, c in zip(base.T, centre, strict=True)
        ]
        assert min(pvalues) > 1e-3  # seven tests; the seed is fixed

    def test_each_layer_is_applied_to_the_one_before(self, model: pm.Model) -> None:
        approx = pmf.NormalizingFlow("scale-loc", model=model, random_seed=1, jitter=0.5)
        base, scaled, moved = approx.sample_layers(5)
        rho, loc = (p.get_value() for p in approx.params)
        np.testing.assert_allclose(scaled, base * softplus(rho), rtol=1e-12)
        np.testing.assert_allclose(moved, scaled + loc, rtol=1e-12)

    @pytest.mark.slow
    def test_the_last_is_a_draw_from_the_approximation(self, approx: pmf.NormalizingFlow) -> None:
        last = approx.sample_layers(2_000, random_seed=2)[-1]
        z, _ = draws_and_log_q(approx, 2_000, seed=5)
        pvalues = [stats.ks_2samp(a, b).pvalue for a, b in zip(last.T, z.T, strict=True)]
        assert min(pvalues) > 1e-3  # seven tests; the seeds are fixed

    def test_the_density_of_the_last_is_that_of_the_base_moved(self, model: pm.Model) -> None:
        approx = pmf.NormalizingFlow("scale-hh-loc", model=model, random_seed=1, jitter=0.5)
        base, *_, last = approx.sample_layers(5)
        log_det = np.log(softplus(approx.params[0].get_value())).sum()
        expected = stats.norm.logpdf(base).sum(-1) - log_det
        np.testing.assert_allclose(approx.log_prob(last), expected, rtol=1e-10)

    def test_the_same_seed_gives_the_same_layers(self, approx: pmf.NormalizingFlow) -> None:
        one, other = (approx.sample_layers(3, random_seed=2) for _ in range(2))
        np.testing.assert_array_equal(one, other)

    def test_without_a_seed_draws_go_on(self, approx: pmf.NormalizingFlow) -> None:
        one, other = (approx.sample_layers(3)[0] for _ in range(2))
        assert (one != other).all()

    def test_they_follow_a_change_of_parameters(self, approx: pmf.NormalizingFlow) -> None:
        before = approx.sample_layers(3, random_seed=2)[1]
        shake(approx)
        assert (approx.sample_layers(3, random_seed=2)[1] != before).all()

    @pytest.mark.parametrize("draws", [0, -1, 1.5, True, "3"])
    def test_draws_are_a_positive_integer(self, approx: pmf.NormalizingFlow, draws: Any) -> None:
        with pytest.raises(ParameterError, match=f"an integer >= 1, but is {draws!r}"):
            approx.sample_layers(draws)


class TestMoments:
    @pytest.fixture
    def affine(self, model: pm.Model) -> pmf.NormalizingFlow:
        return pmf.NormalizingFlow("scale-hh*2-loc", model=model, random_seed=1, jitter=1.0)

    @pytest.fixture
    def bent(self, model: pm.Model) -> pmf.NormalizingFlow:
        return pmf.NormalizingFlow("planar*4", model=model, random_seed=1, jitter=2.0)

    @staticmethod
    def matrix(approx: pmf.NormalizingFlow) -> Array:
        """Compute A of z = A z0 + loc for 'scale-hh*2-loc', by hand."""
        rho, v1, v2, _ = (p.get_value() for p in approx.params)
        h1, h2 = (np.eye(len(v)) - 2 * np.outer(v, v) / (v @ v) for v in (v1, v2))
        return np.asarray(h2 @ h1 @ np.diag(np.log1p(np.exp(rho))))

    def test_the_mean_of_an_affine_flow_is_exact(self, affine: pmf.NormalizingFlow) -> None:
        np.testing.assert_allclose(number(affine.mean), affine.params[-1].get_value(), atol=1e-12)

    def test_the_covariance_of_an_affine_flow_is_exact(self, affine: pmf.NormalizingFlow) -> None:
        a = self.matrix(affine)
        np.testing.assert_allclose(number(affine.cov), a @ a.T, atol=1e-12)

    def test_the_std_of_an_affine_flow_is_exact(self, affine: pmf.NormalizingFlow) -> None:
        expected = np.sqrt((self.matrix(affine) ** 2).sum(1))
        np.testing.assert_allclose(number(affine.std), expected, atol=1e-12)

    def test_the_start_moves_the_mean_of_an_affine_flow(self, model: pm.Model) -> None:
        start = {"a": np.array([7.0, 8.0, 9.0])}
        approx = pmf.NormalizingFlow("scale", model=model, start=start)
        np.testing.assert_allclose(number(approx.mean)[:3], [7.0, 8.0, 9.0], rtol=1e-6)

    def test_the_moments_of_a_bent_flow_are_those_of_its_draws(
        self, bent: pmf.NormalizingFlow
    ) -> None:
        mean, std, cov = numbers(bent.mean, bent.std, bent.cov)
        n = 100_000
        z = bent.sample_layers(n, random_seed=2)[-1]
        centred = z - z.mean(0)
        kurtosis = (centred**4).mean(0) / centred.var(0) ** 2
        # of two independent means, of 10,000 and of n draws
        per_draw = STANDARD_ERRORS * np.sqrt(1 / 10_000 + 1 / n)
        assert (abs(mean - z.mean(0)) < per_draw * z.std(0)).all()
        assert (abs(std - z.std(0)) < per_draw * z.std(0) * np.sqrt((kurtosis - 1) / 4)).all()
        products = centred[:, :, None] * centred[:, None, :]
        assert (abs(cov - products.mean(0)) < per_draw * products.std(0)).all()

    def test_std_is_the_root_of_the_diagonal_of_cov(self, bent: pmf.NormalizingFlow) -> None:
        std, cov = numbers(bent.std, bent.cov)
        np.testing.assert_allclose(std, np.sqrt(np.diag(cov)), rtol=1e-10)

    def test_the_moments_of_a_bent_flow_are_the_same_when_asked_again(
        self, bent: pmf.NormalizingFlow
    ) -> None:
        np.testing.assert_array_equal(bent.mean_data["a"], bent.mean_data["a"])

    def test_the_moments_of_a_bent_flow_come_from_the_seed(self, model: pm.Model) -> None:
        one, other = (
            pmf.NormalizingFlow("planar*2", model=model, random_seed=4).std_data["a"]
            for _ in range(2)
        )
        np.testing.assert_array_equal(one, other)

    def test_the_moments_follow_a_change_of_parameters(self, bent: pmf.NormalizingFlow) -> None:
        before = bent.mean_data["a"]
        shake(bent)
        assert (bent.mean_data["a"] != before).all()

    def test_mean_data_names_the_unconstrained_variables(self, affine: pmf.NormalizingFlow) -> None:
        assert list(affine.mean_data) == ["a", "s_log__", "u_interval__"]

    @pytest.mark.parametrize("name", ["a", "s_log__"], ids=["plain", "transformed"])
    @pytest.mark.parametrize("moment", ["mean_data", "std_data"])
    def test_data_keep_dims_and_coords(  # D12
        self, affine: pmf.NormalizingFlow, name: str, moment: str
    ) -> None:
        found = getattr(affine, moment)[name]
        assert found.dims == ("place",)
        assert list(found["place"].values) == ["x", "y", "z"]

    def test_a_transform_that_changes_the_shape_has_no_dims(self) -> None:
        with pm.Model(coords={"kind": ["p", "q", "r"]}) as model:
            pm.Dirichlet("w", np.ones(3), dims="kind")
        found = pmf.NormalizingFlow(model=model).mean_data["w_simplex__"]
        assert found.shape == (2,)
        assert "kind" not in found.dims

    def test_mean_data_has_the_values_of_the_mean(self, affine: pmf.NormalizingFlow) -> None:
        mean = number(affine.mean)
        data = affine.mean_data
        found = [data["a"].values, data["s_log__"].values, [data["u_interval__"].item()]]
        np.testing.assert_allclose(np.concatenate(found), mean)


class TestState:
    @pytest.fixture
    def approx(self) -> pmf.NormalizingFlow:
        """A LogNormal approximation of one positive variable, with mu 1 and sigma 0.5."""
        with pm.Model() as model:
            pm.HalfNormal("x", 10.0)
            pm.Normal("b", 0.0, 1.0)
        approx = pmf.NormalizingFlow("scale-loc", model=model, random_seed=1)
        rho, loc = approx.params
        rho.set_value(np.log(np.expm1([0.5, 2.0])))
        loc.set_value(np.array([1.0, -3.0]))
        return approx

    def test_the_mean_is_that_in_constrained_space(self, approx: pmf.NormalizingFlow) -> None:
        exact = stats.lognorm(0.5, scale=np.e)
        error = STANDARD_ERRORS * exact.std() / np.sqrt(10_000)  # of 10,000 draws
        assert approx.state.mean["x"].item() == pytest.approx(exact.mean(), abs=error)

    def test_the_std_is_that_in_constrained_space(  # D8: exp(0.5) = 1.65 in PyMC
        self, approx: pmf.NormalizingFlow
    ) -> None:
        exact = stats.lognorm(0.5, scale=np.e)
        # standard error of a sd: sd * sqrt((kurtosis - 1) / 4n), excess kurtosis + 2
        relative = np.sqrt((float(exact.stats("k")) + 2) / 40_000)
        error = STANDARD_ERRORS * exact.std() * relative
        assert approx.state.std["x"].item() == pytest.approx(exact.std(), abs=error)

    def test_an_unconstrained_variable_has_its_own_moments(
        self, approx: pmf.NormalizingFlow
    ) -> None:
        state = approx.state
        error = STANDARD_ERRORS * 2.0 / np.sqrt(10_000)
        assert state.mean["b"].item() == pytest.approx(-3.0, abs=error)
        assert state.std["b"].item() == pytest.approx(2.0, abs=error)

    def test_it_keeps_dims_and_coords(self, model: pm.Model) -> None:
        found = pmf.NormalizingFlow(model=model).state.std["s"]
        assert found.dims == ("place",)
        assert list(found["place"].values) == ["x", "y", "z"]

    def test_it_holds_the_free_variables_alone(self, model: pm.Model) -> None:
        with model:
            pm.Deterministic("twice", 2 * model["u"])
        assert set(pmf.NormalizingFlow(model=model).state.mean) == {"a", "s", "u"}

    def test_it_is_there_for_mixed_approximations(self, mixed: pmf.Approximation) -> None:
        assert set(mixed.state.mean) == {"a", "s", "u"}

    def test_a_group_sends_to_the_approximation(self, mixed: pmf.Approximation) -> None:
        with pytest.raises(UnsupportedError, match=r"approx\.state"):
            _ = mixed.groups[0].state


class TestMixed:
    def test_printing_names_every_family(self, mixed: pmf.Approximation) -> None:
        assert "planar*2 & full_rank & mean_field" in str(mixed)

    def test_params_stand_in_the_order_of_the_groups(self, mixed: pmf.Approximation) -> None:
        names = [p.name for p in mixed.params]
        assert names == ["b", "u", "w", "b", "u", "w", "L_tril", "mu", "mu", "rho"]

    def test_every_parameter_has_one_name(self, mixed: pmf.Approximation) -> None:
        assert len(set(mixed.param_names)) == len(mixed.params)

    def test_groups_are_independent(self, mixed: pmf.Approximation) -> None:
        z, _ = draws_and_log_q(mixed, 5_000)
        across = np.asarray(np.corrcoef(z.T))[:3, 3:]  # the flow against all others
        assert abs(across).max() < STANDARD_ERRORS / np.sqrt(5_000)

    def test_all_variables_are_drawn(self, mixed: pmf.Approximation) -> None:
        posterior = mixed.sample(2)["posterior"].data_vars
        assert {name: drawn.shape for name, drawn in posterior.items()} == {
            "a": (1, 2, 3),
            "s": (1, 2, 3),
            "u": (1, 2),
        }

    def test_the_model_need_not_be_given_again(self, model: pm.Model) -> None:
        approx = pmf.Approximation([pmf.Group(None, "planar", model=model)])
        assert approx.model is model


def test_a_flow_answers_for_its_only_group(model: pm.Model) -> None:
    approx = pmf.NormalizingFlow(model=model)
    assert list(approx.ordering) == ["a", "s_log__", "u_interval__"]


def test_what_no_group_has_is_an_attribute_error(model: pm.Model) -> None:
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = pmf.NormalizingFlow(model=model).no_such_thing


def test_an_empty_model_says_so() -> None:
    with pytest.raises(ParameterError, match="no free variables"):
        pmf.NormalizingFlow(model=pm.Model())


def test_without_a_model_it_says_so() -> None:
    with pytest.raises(ParameterError, match="No model on context stack"):
        pmf.NormalizingFlow()
