"""Groups: which variables, which family, whose parameters, and where they start."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytest
from numpy.typing import NDArray
from scipy import stats

import pmflow as pmf
from pmflow.errors import FormulaError, NotContinuousError, ParameterError

FORMULAS = ["scale-loc", "loc-scale", "planar*2", "radial*2", "scale-hh*2", "planar-radial-loc"]

each_formula = pytest.mark.parametrize("formula", FORMULAS, ids=FORMULAS)

MODEL_START = [2.0, 2.0, 2.0, np.log(3.0), 0.0]
"""Initial point of the fixture's model as a latent vector: a, log s, log u / (10 - u)."""


@pytest.fixture
def model() -> pm.Model:
    with pm.Model(coords={"place": ["x", "y", "z"]}) as model:
        pm.Normal("a", 2.0, 1.0, dims="place")
        pm.HalfNormal("s", initval=3.0)
        pm.Uniform("u", 0, 10)
    return model


@pytest.fixture
def two(model: pm.Model) -> list[Any]:
    """The variables `s` and `a`: another order than the model's."""
    return [model["s"], model["a"]]


def single(formula: Any, model: pm.Model, **kwargs: Any) -> pmf.NormalizingFlow:
    return pmf.NormalizingFlow(formula, model=model, **kwargs)


def grouped(model: pm.Model, **kwargs: Any) -> pmf.Approximation:
    """All variables in one group made by `pmf.Group`."""
    return pmf.Approximation([pmf.Group(None, model=model, **kwargs)], model=model)


def assert_normal_around(centre: Any, approx: pmf.Approximation) -> None:
    """The density is that of N(centre, I): it agrees at three points."""
    centre = np.asarray(centre)
    points = centre + np.random.default_rng(0).normal(size=(3, len(centre)))
    expected = stats.norm(centre).logpdf(points).sum(-1)
    # 1e-6: PyMC keeps some initial points in single precision
    np.testing.assert_allclose(approx.log_prob(points), expected, atol=1e-6)


class TestFamily:
    def test_a_formula_may_be_an_object(self, model: pm.Model) -> None:
        assert str(single(pmf.Formula("Planar*2"), model).formula) == "planar*2"

    def test_the_default_is_scale_loc(self, model: pm.Model) -> None:
        assert str(pmf.NormalizingFlow(model=model).formula) == "scale-loc"

    @pytest.mark.parametrize("family", ["mf", "Mean_Field", "fr", "FULL_RANK"])
    def test_families_of_pymc_are_accepted_in_any_case(self, model: pm.Model, family: str) -> None:
        group = pmf.Group([model["a"]], family, model=model)
        assert group.alias_names & {"mf", "fr"}

    @pytest.mark.parametrize("vfam", ["panar", "scale-", "planar*x", "", 3, pmf.flows.Loc()])
    @pytest.mark.parametrize("kind", [FormulaError, KeyError, ValueError])
    def test_what_is_no_family_is_a_formula_error(
        self, model: pm.Model, vfam: Any, kind: type[Exception]
    ) -> None:
        with pytest.raises(kind):
            pmf.Group(None, vfam, model=model)

    def test_a_wrong_word_is_answered_by_a_near_one(self, model: pm.Model) -> None:
        with pytest.raises(FormulaError, match="Did you mean 'planar'"):
            pmf.Group(None, "panar*2", model=model)

    @pytest.mark.parametrize(
        ("arguments", "given"),
        [({}, "got none of them"), ({"vfam": "mf", "params": {"mu": 0}}, "got both 'mf' and")],
        ids=["neither", "both"],
    )
    def test_one_of_formula_and_parameters_is_needed(
        self, model: pm.Model, arguments: dict[str, Any], given: str
    ) -> None:
        with pytest.raises(ParameterError, match=given):
            pmf.Group(None, model=model, **arguments)


class TestVariables:
    def test_a_single_variable_needs_no_list(self, model: pm.Model) -> None:
        assert pmf.Group(model["a"], "planar", model=model).ddim == 3

    def test_an_empty_group_is_refused(self, model: pm.Model) -> None:
        with pytest.raises(ParameterError, match=r"empty list of variables\. Use None"):
            pmf.Group([], "planar", model=model)

    def test_none_takes_the_variables_that_are_left(self, model: pm.Model) -> None:
        rest = pmf.Group(None, "planar", model=model)
        pmf.Approximation([pmf.Group([model["s"]], "mf", model=model), rest], model=model)
        assert list(rest.ordering) == ["a", "u_interval__"]

    def test_a_group_of_the_rest_has_no_dimension_yet(self, model: pm.Model) -> None:
        rest = pmf.Group(None, "planar*2", model=model)
        assert str(rest) == "NormalizingFlowGroup[planar*2, dim=undefined]"

    def test_a_variable_in_two_groups_is_refused(self, model: pm.Model) -> None:
        groups = [pmf.Group([model["a"]], family, model=model) for family in ("planar", "mf")]
        with pytest.raises(ParameterError, match="Found duplicates in groups"):
            pmf.Approximation(groups, model=model)

    def test_a_variable_in_no_group_is_refused(self, model: pm.Model) -> None:
        with pytest.raises(ParameterError, match="No approximation is specified for the rest"):
            pmf.Approximation([pmf.Group([model["a"]], "planar", model=model)], model=model)

    def test_two_groups_of_the_rest_are_refused(self, model: pm.Model) -> None:
        groups = [pmf.Group(None, "planar", model=model) for _ in range(2)]
        with pytest.raises(ParameterError, match="More than one group is specified for the rest"):
            pmf.Approximation(groups, model=model)

    @pytest.mark.parametrize("family", ["planar", "mf"], ids=["flow", "mean field"])
    def test_a_variable_twice_in_one_group_is_refused(self, model: pm.Model, family: str) -> None:
        with pytest.raises(ParameterError, match=r"duplicate|twice"):
            pmf.Group([model["a"], model["a"]], family, model=model)

    @pytest.mark.parametrize("family", ["planar", "mf"], ids=["flow", "mean field"])
    @pytest.mark.parametrize("name", ["twice", "y"], ids=["deterministic", "observed"])
    def test_what_is_no_free_variable_is_refused_by_name(
        self, model: pm.Model, family: str, name: str
    ) -> None:
        with model:
            pm.Deterministic("twice", 2 * model["a"])
            pm.Normal("y", observed=1.0)
        with pytest.raises(ParameterError, match=f"{name}.*no free variable"):
            pmf.Group([model[name]], family, model=model)

    @pytest.mark.parametrize("group", ["a", ["a"]], ids=["name", "list of names"])
    @pytest.mark.parametrize("family", ["planar", "mf"], ids=["flow", "mean field"])
    def test_a_name_is_no_variable(self, model: pm.Model, group: Any, family: str) -> None:
        with pytest.raises(ParameterError, match="'a'"):
            pmf.Group(group, family, model=model)

    @pytest.mark.parametrize(
        ("discrete", "said"),
        [(["k"], "but k is discrete"), (["k", "j"], "but k, j are discrete")],
        ids=["one", "two"],
    )
    def test_discrete_variables_are_named(self, discrete: list[str], said: str) -> None:
        with pm.Model() as model:
            pm.Normal("a")
            for name in discrete:
                pm.Poisson(name, 3.0)
        with pytest.raises(NotContinuousError, match=said):
            pmf.NormalizingFlow(model=model)

    def test_discrete_variables_are_refused_in_a_group(self) -> None:
        with pm.Model() as model:
            k = pm.Poisson("k", 3.0)
        with pytest.raises(NotContinuousError, match="k is discrete"):
            pmf.Group([k], "planar", model=model)


def planar(dim: int = 5) -> dict[str, Any]:
    return {"u": np.linspace(0, 1, dim), "w": np.linspace(1, -1, dim), "b": 0.3}


class TestUserParameters:
    def test_the_names_tell_the_layers(self, model: pm.Model) -> None:
        approx = grouped(model, params={0: planar(), 1: {"loc": np.zeros(5)}})
        assert str(approx.groups[0].formula) == "planar-loc"

    def test_the_values_are_those_of_the_flow(self, model: pm.Model) -> None:
        params = {0: {"rho": np.linspace(-1, 1, 5)}, 1: {"loc": np.arange(5.0)}}
        approx = grouped(model, params=params)
        points = np.random.default_rng(0).normal(size=(4, 5))
        expected = stats.norm(np.arange(5.0), np.log1p(np.exp(params[0]["rho"])))
        np.testing.assert_allclose(
            approx.log_prob(points), expected.logpdf(points).sum(-1), rtol=1e-10
        )

    def test_keys_need_no_order(self, model: pm.Model) -> None:
        approx = grouped(model, params={1: {"loc": np.zeros(5)}, 0: {"rho": np.zeros(5)}})
        assert str(approx.groups[0].formula) == "scale-loc"

    def test_arrays_are_fixed(self, model: pm.Model) -> None:
        assert grouped(model, params={0: planar()}).params == []

    def test_shared_variables_are_trained(self, model: pm.Model) -> None:
        mine = pytensor.shared(np.linspace(0, 1, 5), "mine")
        assert grouped(model, params={0: planar() | {"u": mine}}).params == [mine]

    def test_the_name_of_a_trained_parameter_is_its_place(self, model: pm.Model) -> None:
        mine = pytensor.shared(np.zeros(5), "mine")
        approx = grouped(model, params={0: planar(), 1: planar() | {"w": mine}})
        assert approx.param_names == ["w_1"]

    def test_only_shared_variables_change_in_a_fit(self, model: pm.Model) -> None:
        loc, rho = pytensor.shared(np.zeros(5)), np.zeros(5)
        approx = grouped(model, params={0: {"rho": rho}, 1: {"loc": loc}})
        pmf.NFVI(approx).fit(2, progressbar=False, compile_kwargs={"mode": "FAST_COMPILE"})
        assert (loc.get_value() != 0).all()
        np.testing.assert_array_equal(approx.groups[0].layer_params[0]["rho"].data, rho)

    def test_shared_params_passed_back_are_the_same_flow(self, model: pm.Model) -> None:
        approx = single("scale-planar-loc", model, random_seed=1, jitter=1.0)
        again = grouped(model, params=approx.shared_params)
        points = np.random.default_rng(0).normal(2.0, size=(4, 5))
        np.testing.assert_array_equal(again.log_prob(points), approx.log_prob(points))

    def test_shared_params_passed_back_are_the_same_variables(self, model: pm.Model) -> None:
        approx = single("planar*2-loc", model)
        assert grouped(model, params=approx.shared_params).params == approx.params

    def test_without_a_place_for_the_start_it_is_passed_back_too(self, model: pm.Model) -> None:
        approx = single("planar*2", model, random_seed=1, jitter=1.0)
        again = grouped(model, params=approx.shared_params, start={})
        points = np.random.default_rng(0).normal(2.0, size=(4, 5))
        np.testing.assert_array_equal(again.log_prob(points), approx.log_prob(points))

    def test_flat_params_are_those_of_pymc(self, model: pm.Model) -> None:
        approx = grouped(model, params={"mu": np.full(5, 2.0), "rho": np.zeros(5)})
        assert str(approx.groups[0]) == "MeanFieldGroup[5]"


BAD_PARAMS: dict[str, tuple[Any, str]] = {
    "wrong shape": (
        {0: {"loc": np.zeros(2)}},
        r"params\[0\]\['loc'\] of the layer 'loc' must have shape \(5,\) for the 5 dim.*\(2,\)",
    ),
    "too many axes": ({0: {"loc": np.zeros((1, 5))}}, r"must have shape \(5,\).*\(1, 5\)"),
    "vector for a scalar": ({0: planar() | {"b": [0.3]}}, r"\['b'\].* shape \(\).*\(1,\)"),
    "shared of wrong shape": (
        {0: {"rho": np.zeros(5)}, 1: {"loc": pytensor.shared(np.zeros(4))}},
        r"params\[1\]\['loc'\].*shape \(4,\)",
    ),
    "unknown names": (
        {0: {"rho": np.zeros(5)}, 1: {"lok": np.zeros(5)}},
        r"No layer has the parameters \['lok'\] of params\[1\].*planar: b, u, w",
    ),
    "a name missing": ({0: {"u": np.zeros(5), "b": 0.0}}, r"parameters \['b', 'u'\]"),
    "no names": ({0: {}}, r"params\[0\] could be of the layers perm, reverse"),
    "gap in the keys": (
        {0: {"rho": np.zeros(5)}, 2: {"loc": np.zeros(5)}},
        r"must be 0 to 1.* but are \[0, 2\]",
    ),
    "keys from 1": ({1: {"rho": np.zeros(5)}}, r"must be 0 to 0.* but are \[1\]"),
    "no dict inside": ({0: [1.0, 2.0]}, r"params\[0\] must be a dict"),
    "list": ([{"loc": np.zeros(5)}], "params must be a dict"),
    "number": (3, "params must be a dict"),
    "text": ("planar", "params must be a dict"),
    "empty": ({}, "params must be a dict"),
}


@pytest.mark.parametrize("kind", [ParameterError, TypeError, ValueError])
@pytest.mark.parametrize(
    ("params", "message"), BAD_PARAMS.values(), ids=[name for name in BAD_PARAMS]
)
def test_bad_parameters_are_refused_and_named(
    model: pm.Model, params: Any, message: str, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match=message):
        grouped(model, params=params)


class TestStart:
    @each_formula
    def test_without_jitter_a_flow_is_normal_around_the_initial_point(
        self, model: pm.Model, formula: str
    ) -> None:
        assert_normal_around(MODEL_START, single(formula, model, jitter=0.0, random_seed=1))

    @each_formula
    def test_a_start_is_given_in_constrained_space(self, model: pm.Model, formula: str) -> None:
        start = {"a": np.array([1.0, -2.0, 5.0]), "s": 0.1, "u": 2.0}
        expected = [1.0, -2.0, 5.0, np.log(0.1), np.log(2.0 / 8.0)]
        approx = single(formula, model, start=start, jitter=0.0, random_seed=1)
        assert_normal_around(expected, approx)

    def test_what_a_start_leaves_out_is_at_the_initial_point(self, model: pm.Model) -> None:
        approx = single("planar", model, start={"s": 0.1}, jitter=0.0)
        assert_normal_around([2.0, 2.0, 2.0, np.log(0.1), 0.0], approx)

    def test_scale_loc_has_the_start_in_its_loc(self, model: pm.Model) -> None:
        loc = single("scale-loc", model, start={"s": 0.1}, jitter=0.0).params[-1]
        np.testing.assert_allclose(loc.get_value(), [2.0, 2.0, 2.0, np.log(0.1), 0.0], rtol=1e-6)

    def test_jitter_spreads_loc_around_the_start(self, model: pm.Model) -> None:
        loc = single("scale-loc", model, jitter=0.01, random_seed=1).params[-1].get_value()
        assert (abs(loc - MODEL_START) < 0.05).all()  # five standard deviations
        assert (loc != MODEL_START).all()

    def test_draws_without_jitter_have_the_moments_of_the_start(self, model: pm.Model) -> None:
        approx = single("planar*2", model, jitter=0.0, random_seed=1)
        draws = approx.sample_layers(4_000, random_seed=2)[-1]
        error = 1 / np.sqrt(4_000)  # standard error of a mean of N(0, 1)
        np.testing.assert_allclose(draws.mean(0), MODEL_START, atol=4 * error)
        np.testing.assert_allclose(np.cov(draws.T), np.eye(5), atol=4 * np.sqrt(2) * error)

    @pytest.mark.parametrize("family", ["planar*2", "scale-loc"])
    def test_a_flow_in_another_order_starts_in_the_right_place(  # D7
        self, model: pm.Model, two: list[Any], family: str
    ) -> None:
        groups = [
            pmf.Group(two, family, model=model, jitter=0.0, start={"s": 0.1}),
            pmf.Group(None, "loc", model=model, jitter=0.0),
        ]
        approx = pmf.Approximation(groups, model=model)
        assert_normal_around([np.log(0.1), 2.0, 2.0, 2.0, 0.0], approx)

    def test_a_flow_keeps_the_order_of_its_group(self, model: pm.Model, two: list[Any]) -> None:
        assert list(pmf.Group(two, "planar", model=model).ordering) == ["s_log__", "a"]

    @pytest.mark.parametrize("family", ["mf", "fr", "scale-loc", "planar*2"])
    def test_each_variable_of_a_reordered_group_has_its_own_start(  # D7
        self, model: pm.Model, two: list[Any], family: str
    ) -> None:
        mean = pmf.Group(two, family, model=model, random_seed=1).mean_data
        # 0.4: jitter 0.1 moves a loc, and bends a planar flow, by less; the starts are 0.9 apart
        np.testing.assert_allclose(mean["s_log__"], np.log(3.0), atol=0.4)
        np.testing.assert_allclose(mean["a"], [2.0, 2.0, 2.0], atol=0.4)

    def test_an_unknown_name_is_answered_by_a_near_one(self, model: pm.Model) -> None:
        with model:
            pm.Normal("sigma_group")
        with pytest.raises(ParameterError, match=r"'sigma_grup'.*Did you mean 'sigma_group'\?"):
            single("planar", model, start={"sigma_grup": 1.0})

    def test_an_unknown_name_lists_the_variables(self, model: pm.Model) -> None:
        with pytest.raises(ParameterError, match=r"The free variables are a, s, u\."):
            single("planar", model, start={"xyz": 1.0})

    @pytest.mark.parametrize("start", [3, [1.0], "a"], ids=["number", "list", "text"])
    def test_a_start_is_a_dict(self, model: pm.Model, start: Any) -> None:
        with pytest.raises(ParameterError, match="start must be a dict of variable names"):
            single("planar", model, start=start)

    @pytest.mark.parametrize(
        "value", [-1.0, 0.0, np.inf, np.nan], ids=["outside", "border", "infinite", "nan"]
    )
    def test_a_start_outside_of_the_support_is_refused_by_name(
        self, model: pm.Model, value: float
    ) -> None:
        with pytest.raises(ParameterError, match=r"start.*'?s'?.* (outside|not finite|finite)"):
            single("planar", model, start={"s": value})

    @pytest.mark.parametrize(
        ("name", "value"),
        [("s", [1.0, 2.0]), ("a", [1.0, 2.0]), ("a", np.zeros((3, 1))), ("a", np.zeros((2, 3)))],
        ids=["vector for a number", "length", "column for a row", "axes"],
    )
    def test_a_start_of_wrong_shape_is_refused_by_name(
        self, model: pm.Model, name: str, value: Any
    ) -> None:
        with pytest.raises(ParameterError, match=rf"'{name}'.*shape"):
            single("planar", model, start={name: value})

    @pytest.mark.parametrize("value", [1.5, [1.5]], ids=["number", "one element"])
    def test_a_single_number_starts_every_element(self, model: pm.Model, value: Any) -> None:
        approx = single("planar", model, start={"a": value}, jitter=0.0)
        assert_normal_around([1.5, 1.5, 1.5, np.log(3.0), 0.0], approx)


BAD_JITTERS: dict[str, tuple[Any, str]] = {
    "negative": (-0.1, r"finite and >= 0, but is -0\.1"),
    "nan": (np.nan, "finite and >= 0, but is nan"),
    "infinite": (np.inf, "finite and >= 0, but is inf"),
    "text": ("1", "a number >= 0, but is '1'"),
    "bool": (True, "a number >= 0, but is True"),
    "list": ([0.1], r"a number >= 0, but is \[0\.1\]"),
}


@pytest.mark.parametrize(
    ("jitter", "message"), BAD_JITTERS.values(), ids=[name for name in BAD_JITTERS]
)
def test_a_bad_jitter_is_refused(model: pm.Model, jitter: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        single("planar", model, jitter=jitter)


def test_a_jitter_may_be_a_whole_number_or_of_numpy(model: pm.Model) -> None:
    first, second = (
        single("planar", model, jitter=jitter, random_seed=1) for jitter in (1, np.float32(1))
    )
    np.testing.assert_array_equal(first.params[1].get_value(), second.params[1].get_value())


class TestNames:
    @pytest.fixture
    def approx(self, model: pm.Model) -> pmf.NormalizingFlow:
        return single("planar*2", model)

    def test_params_stand_in_the_order_of_the_flow(self, approx: pmf.NormalizingFlow) -> None:
        assert [p.name for p in approx.params] == ["b", "u", "w", "b", "u", "w"]

    def test_param_names_tell_the_layer(self, approx: pmf.NormalizingFlow) -> None:
        assert approx.param_names == ["b_0", "u_0", "w_0", "b_1", "u_1", "w_1"]

    def test_shared_params_are_keyed_in_the_order_of_the_flow(self, model: pm.Model) -> None:
        params = single("scale-planar-loc", model).shared_params
        assert {key: sorted(layer) for key, layer in params.items()} == {
            0: ["rho"],
            1: ["b", "u", "w"],
            2: ["loc"],
        }

    def test_shared_params_are_the_params(self, approx: pmf.NormalizingFlow) -> None:
        assert [p for layer in approx.shared_params.values() for p in layer.values()] == (
            approx.params
        )

    def test_names_in_several_groups_tell_the_group(self, model: pm.Model, two: list[Any]) -> None:
        groups = [
            pmf.Group([model["u"]], "mf", model=model),
            pmf.Group(two, "planar-loc", model=model),
        ]
        assert pmf.Approximation(groups, model=model).param_names == [
            *("group0_mu", "group0_rho"),
            *("group1_b_0", "group1_u_0", "group1_w_0", "group1_loc_1"),
        ]


def state_of(approx: pmf.NormalizingFlow) -> list[NDArray[np.float64]]:
    """Parameters and a few draws."""
    draws = approx.sample(3)["posterior"]["a"].values
    return [*(p.get_value() for p in approx.params), draws, *approx.sample_layers(2)]


class TestSeeds:
    @each_formula
    def test_the_same_seed_gives_the_same_parameters_and_draws(
        self, model: pm.Model, formula: str
    ) -> None:
        one, other = (state_of(single(formula, model, random_seed=4)) for _ in range(2))
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)

    def test_another_seed_gives_other_parameters(self, model: pm.Model) -> None:
        one, other = (single("planar", model, random_seed=seed).params for seed in (4, 5))
        assert all((a.get_value() != b.get_value()).all() for a, b in zip(one, other, strict=True))

    def test_without_a_seed_no_two_are_alike(self, model: pm.Model) -> None:
        found = []
        for _ in range(2):
            np.random.seed(5)  # noqa: NPY002 - must not matter
            found.append(single("planar", model).params[1].get_value())
        assert (found[0] != found[1]).all()

    @pytest.mark.parametrize("seed", [3, None], ids=["seeded", "unseeded"])
    def test_the_global_state_is_not_changed(self, model: pm.Model, seed: int | None) -> None:
        before = np.random.get_state()[1].copy()  # noqa: NPY002 - the subject of the test
        state_of(single("planar*2", model, random_seed=seed))
        np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002

    def test_a_generator_is_a_seed_too(self, model: pm.Model) -> None:
        one, other = (
            single("planar", model, random_seed=np.random.default_rng(3)) for _ in range(2)
        )
        np.testing.assert_array_equal(one.params[1].get_value(), other.params[1].get_value())
