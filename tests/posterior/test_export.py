"""Draws as labelled data: what the groups hold, and that log q and log p belong to the draws."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytest
from models import conjugate_normal
from numpy.typing import NDArray

import pmflow as pmf
from pmflow.errors import ParameterError
from pmflow.family import functions

DRAWS = 6


def make_model() -> pm.Model:
    """Transformed and plain variables, a vector with dims, data, a potential, a deterministic."""
    with pm.Model(coords={"place": ["x", "y", "z"], "time": [2001, 2002]}) as model:
        x = pm.Data("x", [1.0, 2.0, 3.0], dims="place")
        a = pm.Normal("a", 0.0, 1.0, dims="place")
        s = pm.HalfNormal("s")
        pm.Uniform("u", 0, 10, dims="time")
        mean = pm.Deterministic("mean", a * x, dims="place")
        pm.Potential("bound", -((s - 1.0) ** 2))
        pm.Normal("y", mean, s, observed=[0.5, 1.0, 1.5], dims="place")
    return model


def make_approx(model: pm.Model) -> pmf.NormalizingFlow:
    return pmf.NormalizingFlow("scale-planar-loc", model=model, random_seed=1, jitter=0.5)


@pytest.fixture(scope="module")
def model() -> pm.Model:
    """For tests that do not change it."""
    return make_model()


@pytest.fixture(scope="module")
def approx(model: pm.Model) -> pmf.NormalizingFlow:
    """For tests that do not change its parameters."""
    return make_approx(model)


@pytest.fixture(scope="module")
def found(approx: pmf.NormalizingFlow) -> Any:
    return approx.sample(DRAWS, random_seed=2, include_transformed=True)


def log_p_of(model: pm.Model, found: Any) -> NDArray[np.float64]:
    """Log density of the model itself, one draw at a time."""
    values = {**found["posterior"].data_vars, **found["unconstrained_posterior"].data_vars}
    logp = model.compile_logp(mode="FAST_COMPILE")
    points = [
        {v.name: values[v.name].values[0, i] for v in model.value_vars}
        for i in range(found["posterior"].sizes["draw"])
    ]
    return np.array([logp(point) for point in points])


def fast() -> Any:
    """For what PyMC compiles itself: no machine code."""
    return pytensor.config.change_flags(mode="FAST_COMPILE", cxx="")


class TestGroups:
    def test_names(self, found: Any) -> None:
        assert set(found.children) == {
            "posterior",
            "sample_stats",
            "unconstrained_posterior",
            "observed_data",
            "constant_data",
        }

    def test_the_posterior_holds_free_variables_and_deterministics(self, found: Any) -> None:
        assert {name: v.shape for name, v in found["posterior"].data_vars.items()} == {
            "a": (1, DRAWS, 3),
            "s": (1, DRAWS),
            "u": (1, DRAWS, 2),
            "mean": (1, DRAWS, 3),
        }

    @pytest.mark.parametrize(
        ("group", "name", "dims"),
        [
            ("posterior", "a", ("chain", "draw", "place")),
            ("posterior", "u", ("chain", "draw", "time")),
            ("posterior", "mean", ("chain", "draw", "place")),
            ("posterior", "s", ("chain", "draw")),
            ("sample_stats", "log_q", ("chain", "draw")),
            ("sample_stats", "log_p", ("chain", "draw")),
            ("observed_data", "y", ("place",)),
            ("constant_data", "x", ("place",)),
        ],
        ids=lambda x: x if isinstance(x, str) else "",
    )
    def test_dims(self, found: Any, group: str, name: str, dims: tuple[str, ...]) -> None:
        assert found[group][name].dims == dims

    def test_coords(self, found: Any) -> None:
        assert list(found["posterior"]["place"].values) == ["x", "y", "z"]
        assert list(found["posterior"]["time"].values) == [2001, 2002]

    def test_everything_drawn_is_in_double_precision(self, found: Any) -> None:
        for group in ("posterior", "sample_stats", "unconstrained_posterior"):
            assert {v.dtype for v in found[group].data_vars.values()} == {np.dtype("float64")}

    def test_observed_data(self, found: Any) -> None:
        np.testing.assert_array_equal(found["observed_data"]["y"], [0.5, 1.0, 1.5])

    def test_constant_data(self, found: Any) -> None:
        np.testing.assert_array_equal(found["constant_data"]["x"], [1.0, 2.0, 3.0])

    def test_a_model_without_data_has_no_groups_for_them(self) -> None:
        with pm.Model() as model:
            pm.Normal("x")
        found = pmf.NormalizingFlow(model=model).sample(2)
        assert set(found.children) == {"posterior", "sample_stats"}

    @pytest.mark.parametrize("group", ["/", "posterior"])
    def test_attrs_say_where_the_draws_come_from(self, found: Any, group: str) -> None:
        attrs = found[group].attrs
        assert attrs["inference_library"] == "pmflow"
        assert attrs["inference_library_version"] == version("pmflow")
        assert attrs["approximation"] == "NormalizingFlowGroup[scale-planar-loc, dim=6]"

    def test_attrs_name_every_group_of_variables(self, model: pm.Model) -> None:
        groups = [
            pmf.Group([model["s"]], "planar", model=model),
            pmf.Group(None, "mf", model=model),
        ]
        found = pmf.Approximation(groups, model=model).sample(2)
        assert found.attrs["approximation"] == (
            "NormalizingFlowGroup[planar, dim=1] & MeanFieldGroup[5]"
        )


class TestValues:
    def test_log_p_is_that_of_the_model(self, model: pm.Model, found: Any) -> None:
        expected = log_p_of(model, found)
        np.testing.assert_allclose(found["sample_stats"]["log_p"][0], expected, rtol=1e-10)

    def test_log_q_is_that_of_the_approximation(
        self, approx: pmf.NormalizingFlow, found: Any
    ) -> None:
        values = {**found["posterior"].data_vars, **found["unconstrained_posterior"].data_vars}
        z = [values[name].values.reshape(DRAWS, -1) for name in approx.ordering]
        expected = approx.log_prob(np.concatenate(z, axis=-1))
        np.testing.assert_allclose(found["sample_stats"]["log_q"][0], expected, atol=1e-8)

    @pytest.mark.parametrize("family", ["planar", "mf", "fr"])
    def test_log_p_belongs_to_the_draws_of_groups_in_any_order(  # D7
        self, model: pm.Model, family: str
    ) -> None:
        groups = [
            pmf.Group([model["u"], model["s"]], family, model=model),
            pmf.Group(None, "scale-loc", model=model),
        ]
        approx = pmf.Approximation(groups, model=model)
        found: Any = approx.sample(DRAWS, random_seed=2, include_transformed=True)
        expected = log_p_of(model, found)
        np.testing.assert_allclose(found["sample_stats"]["log_p"][0], expected, rtol=1e-10)

    def test_deterministics_belong_to_the_draws(self, found: Any) -> None:
        posterior = found["posterior"]
        np.testing.assert_allclose(posterior["mean"], posterior["a"] * np.array([1.0, 2.0, 3.0]))

    def test_constrained_draws_keep_their_constraints(self, approx: pmf.NormalizingFlow) -> None:
        posterior: Any = approx.sample(500)["posterior"]
        assert (posterior["s"] > 0).all()
        assert ((posterior["u"] > 0) & (posterior["u"] < 10)).all()

    def test_unconstrained_draws_are_the_transformed_ones(self, found: Any) -> None:
        np.testing.assert_allclose(
            np.exp(found["unconstrained_posterior"]["s_log__"]), found["posterior"]["s"]
        )

    def test_unconstrained_draws_are_of_transformed_variables_alone(self, found: Any) -> None:
        assert set(found["unconstrained_posterior"].data_vars) == {"s_log__", "u_interval__"}

    def test_they_come_only_when_asked_for(self, approx: pmf.NormalizingFlow) -> None:
        assert "unconstrained_posterior" not in approx.sample(2).children

    def test_they_may_be_asked_for_where_there_are_none(self) -> None:
        with pm.Model() as model:
            pm.Normal("x")
        found = pmf.NormalizingFlow(model=model).sample(2, include_transformed=True)
        assert found["posterior"]["x"].shape == (1, 2)

    def test_draws_follow_a_change_of_parameters(self, model: pm.Model) -> None:
        approx = pmf.NormalizingFlow("scale-loc", model=model)
        approx.sample(2)
        rho, loc = approx.params
        rho.set_value(np.full(6, -20.0))  # scale 2e-9
        loc.set_value(np.full(6, 5.0))
        np.testing.assert_allclose(approx.sample(2)["posterior"]["a"], 5.0, atol=1e-6)

    def test_draws_follow_a_change_of_data(self) -> None:
        model = make_model()
        approx = make_approx(model)
        approx.sample(2)
        with model:
            pm.set_data({"x": [0.0, 0.0, 0.0]})
        found: Any = approx.sample(DRAWS, random_seed=2, include_transformed=True)
        assert (found["posterior"]["mean"] == 0).all()
        np.testing.assert_allclose(
            found["sample_stats"]["log_p"][0], log_p_of(model, found), rtol=1e-10
        )

    def test_empirical_has_no_log_q(self, model: pm.Model) -> None:
        group = pmf.Group(None, "empirical", model=model, size=10)
        with fast():
            found = pmf.Approximation([group], model=model).sample(3)
        assert set(found["sample_stats"].data_vars) == {"log_p"}


class TestSeeds:
    def test_the_same_seed_gives_the_same_draws(self, approx: pmf.NormalizingFlow) -> None:
        one, other = (approx.sample(4, random_seed=3)["posterior"]["a"] for _ in range(2))
        np.testing.assert_array_equal(one, other)

    def test_another_seed_gives_other_draws(self, approx: pmf.NormalizingFlow) -> None:
        found: list[Any] = [approx.sample(4, random_seed=seed) for seed in (3, 4)]
        one, other = (draws["posterior"]["a"].values for draws in found)
        assert (one != other).all()

    def test_without_a_seed_draws_go_on(self, approx: pmf.NormalizingFlow) -> None:
        found: list[Any] = [approx.sample(4) for _ in range(2)]
        one, other = (draws["posterior"]["a"].values for draws in found)
        assert (one != other).all()

    def test_a_longer_sample_begins_with_the_shorter(self, approx: pmf.NormalizingFlow) -> None:
        found: list[Any] = [approx.sample(n, random_seed=3) for n in (4, 9)]
        short, long = (draws["posterior"]["a"] for draws in found)
        np.testing.assert_array_equal(long[:, :4], short)


class TestVarNames:
    def test_those_asked_for_are_those_of_all(self, approx: pmf.NormalizingFlow) -> None:
        whole: Any = approx.sample(4, random_seed=3)["posterior"]
        some: Any = approx.sample(4, random_seed=3, var_names=["s", "mean"])["posterior"]
        assert set(some.data_vars) == {"s", "mean"}
        for name in some.data_vars:
            np.testing.assert_array_equal(some[name], whole[name])

    def test_one_without_a_transform_needs_nothing_compiled(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        approx = make_approx(make_model())
        approx.sample(4, var_names=["s"])  # the log density comes with the first

        def refused(*_: Any, **__: Any) -> Any:
            raise AssertionError("compiled")

        expected: Any = approx.sample(4, random_seed=3)["posterior"]["a"]
        monkeypatch.setattr("pmflow.posterior.at_points.compile_once", refused)
        variables = approx._draw_function._variables
        z = approx._draw_function._latent(4, 3, ())[0]
        _, found = variables(z, 0, ("a",))
        np.testing.assert_array_equal(found["a"][None], expected)

    def test_an_unknown_one_is_refused(self, approx: pmf.NormalizingFlow) -> None:
        with pytest.raises(ParameterError, match="'sigma'"):
            approx.sample(4, var_names=["sigma"])


class TestChunks:
    def test_the_result_does_not_depend_on_their_size(
        self, approx: pmf.NormalizingFlow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole: Any = approx.sample(20, random_seed=3)
        monkeypatch.setattr(functions, "_DRAWS_AT_ONCE", (7, 7))
        parts: Any = approx.sample(20, random_seed=3)
        for name in ("a", "s", "mean"):
            np.testing.assert_array_equal(parts["posterior"][name], whole["posterior"][name])
        np.testing.assert_array_equal(
            parts["sample_stats"]["log_p"], whole["sample_stats"]["log_p"]
        )

    def test_more_draws_than_a_chunk_are_all_there(self, approx: pmf.NormalizingFlow) -> None:
        draws = functions._DRAWS_AT_ONCE[1] + 1
        found: Any = approx.sample(draws, random_seed=3)["posterior"]["a"]
        assert found.shape == (1, draws, 3)
        assert len(np.unique(found[..., 0])) == draws

    @pytest.mark.parametrize("draws", [0, -1, 1.5, True, "10", None], ids=repr)
    def test_draws_are_a_positive_integer(self, approx: pmf.NormalizingFlow, draws: Any) -> None:
        with pytest.raises(ParameterError, match=f"draws must be .* >= 1, but is {draws!r}"):
            approx.sample(draws)

    def test_an_integer_of_numpy_will_do(self, approx: pmf.NormalizingFlow) -> None:
        draws: Any = np.int64(2)
        assert approx.sample(draws)["posterior"]["s"].shape == (1, 2)

    def test_a_single_draw_keeps_its_axis(self, approx: pmf.NormalizingFlow) -> None:
        assert approx.sample(1)["posterior"]["a"].shape == (1, 1, 3)


@pytest.fixture(scope="module")
def trace(approx: pmf.NormalizingFlow) -> Any:
    with fast():
        return approx.sample(DRAWS, random_seed=2, return_inferencedata=False)


class TestMultiTrace:
    def test_it_is_of_pymc(self, trace: Any) -> None:
        assert isinstance(trace, pm.backends.base.MultiTrace)
        assert (len(trace), trace.nchains) == (DRAWS, 1)

    def test_it_holds_both_spaces(self, trace: Any) -> None:
        assert set(trace.varnames) == {"a", "s", "s_log__", "u", "u_interval__", "mean"}

    @pytest.mark.parametrize("name", ["a", "s", "u", "mean"])
    def test_it_holds_the_same_draws(self, trace: Any, found: Any, name: str) -> None:
        np.testing.assert_array_equal(trace[name], found["posterior"][name].values[0])

    def test_it_gives_points(self, trace: Any, found: Any) -> None:
        assert trace.point(2)["s"] == found["posterior"]["s"].values[0, 2]


class TestContexts:
    def test_no_context_is_needed(self, approx: pmf.NormalizingFlow) -> None:
        assert pm.Model.get_context(error_if_none=False) is None
        assert approx.sample(2)["posterior"]["s"].shape == (1, 2)

    def test_the_context_of_another_model_does_not_matter(
        self, approx: pmf.NormalizingFlow
    ) -> None:
        alone: Any = approx.sample(4, random_seed=3)
        fresh = make_approx(approx.model)
        with pm.Model(coords={"place": [1, 2, 3]}):
            pm.Normal("other")
            within: Any = fresh.sample(4, random_seed=3)
        assert alone["posterior"].to_dataset().equals(within["posterior"].to_dataset())
        np.testing.assert_array_equal(
            within["sample_stats"]["log_p"], alone["sample_stats"]["log_p"]
        )


class TestMinibatch:
    @pytest.fixture
    def approx(self) -> pmf.NormalizingFlow:
        model = conjugate_normal(np.full(200, 1.3), batch=20)
        return pmf.NormalizingFlow(model=model, random_seed=1)

    def test_log_p_is_scaled_to_all_data(self, approx: pmf.NormalizingFlow) -> None:
        # all rows are alike, so that every batch estimates the whole without error
        whole = conjugate_normal(np.full(200, 1.3)).compile_logp(mode="FAST_COMPILE")
        found: Any = approx.sample(5, random_seed=2)
        expected = [whole({"mu": mu}) for mu in found["posterior"]["mu"].values[0]]
        np.testing.assert_allclose(found["sample_stats"]["log_p"][0], expected, rtol=1e-10)

    def test_batches_come_from_the_seed(self) -> None:
        model = conjugate_normal(np.random.default_rng(0).normal(size=200), batch=20)
        approx = pmf.NormalizingFlow(model=model, random_seed=1)
        found: list[Any] = [approx.sample(3, random_seed=seed) for seed in (2, 2, 3)]
        log_p = [draws["sample_stats"]["log_p"] for draws in found]
        np.testing.assert_array_equal(log_p[0], log_p[1])
        assert (log_p[0].values != log_p[2].values).all()

    def test_all_data_are_stored(self, approx: pmf.NormalizingFlow) -> None:
        np.testing.assert_array_equal(approx.sample(2)["observed_data"]["y"], np.full(200, 1.3))

    def test_dims_of_all_data_are_kept(self) -> None:
        data = np.arange(200.0)
        with pm.Model(coords={"row": np.arange(1000, 1200)}) as model:
            mu = pm.Normal("mu")
            rows = pm.Minibatch(data, batch_size=20)
            pm.Normal("y", mu, observed=rows, total_size=200, dims="row")
        found: Any = pmf.NormalizingFlow(model=model).sample(2)
        stored = found["observed_data"]["y"]
        np.testing.assert_array_equal(stored, data)
        assert stored["row"][0] == 1000


@pytest.mark.filterwarnings("ignore:The effect of Potentials:UserWarning")  # PyMC; it has one
def test_posterior_predictive_draws_can_be_made(model: pm.Model, found: Any) -> None:
    with fast():
        predictive = pm.sample_posterior_predictive(
            found, model=model, progressbar=False, random_seed=4
        )
    assert predictive["posterior_predictive"]["y"].dims == ("chain", "draw", "place")
    assert predictive["posterior_predictive"]["y"].shape == (1, DRAWS, 3)
