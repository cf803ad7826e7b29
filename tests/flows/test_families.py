"""What sets one family apart: identities between layers, options, errors, mixing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import as_written, numeric, points, random_params, start

import pmflow as pmf
from pmflow.errors import FormulaError, LayerError, ParameterError
from pmflow.family.group_input import check_size
from pmflow.flows import AbstractLayer, Chain, LowRank, Planar, Sylvester
from pmflow.flows.bases import Mixture
from pmflow.flows.catalogue import BUILT_IN, layer_class, options_of
from pmflow.flows.conditioners.activations import ACTIVATIONS
from pmflow.flows.formula import Formula
from pmflow.graphs.evaluate import compile_once

# a dot inside of a scan asks for BLAS
pytestmark = pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS")

WORDS = [cls.word for cls in BUILT_IN]


def layer_of(text: str) -> Any:
    (layer,) = Formula(text).layers
    return layer


# ------------------------------------------------------------------- identities
def test_sylvester_with_one_direction_is_a_planar_layer_with_parallel_u_and_w() -> None:
    layer, dim = Sylvester(m=1), 4
    params = random_params(layer, dim, seed=3)
    # Q is the first unit vector, reflected
    v = params["v"][0]
    q = np.eye(dim)[0] - 2 * v * v[0] / (v @ v)
    r_tilde = np.logaddexp(0, params["rho_tilde"][0])
    # the planar layer bends u by itself: with w.u = rho both have the margin softplus(rho)
    w = q * r_tilde
    planar = {"w": w, "u": params["rho"][0] * w / (w @ w), "b": params["b"][0]}
    z = points(30, dim)
    got, expected = (
        numeric(Sylvester(m=1), dim).forward(z, params),
        numeric(Planar(), dim).forward(z, planar),
    )
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-13)


@pytest.mark.parametrize("options", ["", "[hidden=16,depth=2,activation=elu]"])
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_maf_is_the_inverse_of_iaf(dim: int, options: str) -> None:
    iaf, maf = numeric(layer_of(f"iaf{options}"), dim), numeric(layer_of(f"maf{options}"), dim)
    params, z = start(iaf.layer, dim, 0.5), points(20, dim)
    forth, log_det = iaf.forward(z, params)
    back, log_det_back = maf.forward(forth, params)
    np.testing.assert_allclose(back, z, rtol=0, atol=1e-12)
    np.testing.assert_allclose(log_det_back, -log_det, rtol=0, atol=1e-12)
    np.testing.assert_allclose(maf.inverse(back, params), forth, rtol=0, atol=1e-12)


@pytest.mark.parametrize("word", ["iaf", "maf", "naf", "poly", "bnaf"])
def test_a_coordinate_depends_on_none_after_it(word: str) -> None:
    fn, dim = numeric(layer_of(word), 5), 5
    jacobian = fn.jacobian(points(6, dim), start(fn.layer, dim, 1.0))
    upper = np.triu_indices(dim, 1)
    assert np.all(jacobian[:, upper[0], upper[1]] == 0)
    # and on every one before it
    lower = np.tril_indices(dim, -1)
    assert np.all(np.abs(jacobian[:, lower[0], lower[1]]).max(0) > 1e-6)


@pytest.mark.parametrize("word", ["coupling", "spline"])
def test_every_coordinate_of_a_coupling_is_moved(word: str) -> None:
    fn, z = numeric(layer_of(word), 5), points(20, 5)
    moved = fn.forward(z, start(fn.layer, 5, 1.0))[0] - z
    assert np.all(np.abs(moved).max(0) > 1e-3)


def test_outside_of_its_bound_a_spline_is_the_identity() -> None:
    fn = numeric(layer_of("spline[hidden=0,bound=2]"), 3)
    z = 2 + np.abs(points(20, 3))
    for sign in (-1, 1):
        z_new, log_det = fn.forward(sign * z, start(fn.layer, 3, 2.0))
        np.testing.assert_array_equal(z_new, sign * z)
        np.testing.assert_array_equal(log_det, 0)


def test_sinh_reaches_the_tail_of_a_laplace_density() -> None:
    # far out z' is in proportion to z^2 at tau = 2: normal quantiles become exponential ones
    rho = np.log(np.expm1((2 - 0.1) / 0.9)) * np.ones(1)
    far = np.array([[1e3], [2e3]])
    one, two = numeric(layer_of("sinh"), 1).forward(far, {"rho": rho, "skew": np.zeros(1)})[0]
    assert two / one == pytest.approx(4, rel=1e-5)


def test_a_naf_is_not_rounded_where_sigmoids_are() -> None:
    fn = numeric(layer_of("naf"), 1)
    params, z = start(fn.layer, 1, 0.5), np.array([[-700.0], [-50.0], [50.0], [700.0]])
    z_new, log_det = fn.forward(z, params)
    assert np.all(np.isfinite(z_new))
    assert np.all(np.abs(log_det) < 2)  # the log of a slope of one of the sigmoids
    np.testing.assert_allclose(fn.inverse(z_new, params), z, rtol=1e-12)


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (Sylvester(m=7), r"m of 'sylvester' must be at most 3 here.*but is 7.*sylvester\[m=3\]"),
        (LowRank(rank=4), r"rank of 'lowrank' must be at most 3 here.*is 4.*lowrank\[rank=3\]"),
    ],
    ids=str,
)
def test_more_directions_than_dimensions_are_refused(layer: AbstractLayer, says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        layer.param_shapes(3)
    with pytest.raises(ParameterError, match=says):
        layer.init_params(3, 0.1, np.random.default_rng(0))
    assert layer.param_shapes(7)


def test_the_default_number_of_directions_is_for_a_line_too() -> None:
    assert Sylvester().param_shapes(1)["v"] == (1, 1)
    assert LowRank().param_shapes(1)["u"] == (2, 1)


@pytest.mark.parametrize("text", WORDS)
def test_the_number_of_parameters_is_counted(text: str) -> None:
    chain = Chain(Formula(f"{text}-loc").layers)
    made = chain.init_params(5, 0.1, np.random.default_rng(0))
    assert chain.n_params(5) == sum(value.size for layer in made for value in layer.values())


INT_OPTIONS = [
    (word, name)
    for word in WORDS
    for name, option in options_of(layer_class(word)).items()
    if option.type is int
]


@given(
    option=st.sampled_from(INT_OPTIONS),
    size=st.integers(1, 300) | st.integers(0, 90).map(lambda k: 10**k) | st.integers(1, 10**12),
    dim=st.sampled_from([1, 2, 5, 1000]),
)
@settings(max_examples=150, deadline=2_000)
def test_any_size_is_refused_or_small(option: tuple[str, str], size: int, dim: int) -> None:
    word, name = option
    try:
        chain = Chain(Formula(f"{word}[{name}={size}]").layers)
        check_size(chain, Mixture(), dim)
    except (FormulaError, ParameterError):
        return
    assert chain.n_params(dim) <= 10**8
    if chain.n_params(dim) < 10**5:
        chain.init_params(dim, 0.1, np.random.default_rng(0))


# ------------------------------------------------------------------- mixing
@pytest.mark.parametrize("first", WORDS)
@pytest.mark.slow
def test_every_pair_of_families_is_a_flow(first: str) -> None:
    dim, z = 3, pt.matrix("z", shape=(None, 3))
    rng = np.random.default_rng(0)
    outputs = []
    for second in WORDS:
        chain = Chain(Formula(f"{first}-{second}").layers)
        values = chain.init_params(dim, 0.3, rng)
        params = [{k: pt.as_tensor(v) for k, v in layer.items()} for layer in values]
        z_new, log_det = chain.forward(z, params)
        outputs += [chain.inverse(z_new, params), log_det]
    at = points(10, dim)
    found = as_written([z], outputs)(at)
    for second, back, log_det in zip(WORDS, found[0::2], found[1::2], strict=True):
        np.testing.assert_allclose(back, at, rtol=0, atol=1e-9, err_msg=f"{first}-{second}")
        assert np.isfinite(log_det).all()


def normal_model(dim: int = 3) -> pm.Model:
    with pm.Model() as model:
        pm.Normal("x", np.arange(dim), 1, shape=dim)
    return model


FIT: dict[str, Any] = {"progressbar": False, "compile_kwargs": {"mode": "FAST_COMPILE"}}


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.slow
def test_every_family_is_trained_and_scored_in_a_model(word: str) -> None:
    model = normal_model()
    runs = []
    for _ in range(2):
        inference = pmf.NFVI(f"scale-{word}-loc", model=model, random_seed=3)
        approx = inference.fit(20, obj_n_mc=5, **FIT)
        draws = approx.sample(50, random_seed=1)
        runs.append((inference.hist, np.asarray(draws["posterior"]["x"])[0]))
    assert np.isfinite(runs[0][0]).all()
    # the same seed, the same result
    np.testing.assert_array_equal(runs[0][0], runs[1][0])
    np.testing.assert_array_equal(runs[0][1], runs[1][1])
    log_q = np.asarray(draws["sample_stats"]["log_q"])[0]
    np.testing.assert_allclose(approx.log_prob(runs[0][1]), log_q, rtol=0, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("word", WORDS)
def test_parameters_of_every_family_can_be_given(word: str) -> None:
    with pm.Model() as model:
        pm.Normal("x", shape=3)
    flow = pmf.NormalizingFlow(word, model=model, random_seed=1)
    given = {
        place: {name: value.get_value() for name, value in layer.items()}
        for place, layer in enumerate(flow.layer_params)
    }
    with model:
        same = pmf.Approximation([pmf.Group(None, word, params=given)])
    draws = points(5, 3)
    np.testing.assert_allclose(same.log_prob(draws), flow.log_prob(draws), atol=1e-8)


@pytest.mark.parametrize("formula", ["planar*2", "naf-loc"])
def test_parameters_for_a_formula_must_be_of_its_layers(formula: str) -> None:
    params = {0: {"rho": np.zeros(3)}, 1: {"loc": np.zeros(3)}}
    with normal_model():
        group = pmf.Group(None, formula, params=params)
        with pytest.raises(ParameterError, match=r"params\[0\] must have the parameters of"):
            pmf.Approximation([group])


def test_parameters_that_fit_several_layers_need_a_formula() -> None:
    params = {0: {n: np.zeros(s) for n, s in layer_of("naf").param_shapes(3).items()}}
    with normal_model(), pytest.raises(ParameterError, match=r"naf, poly.*Give the formula too"):
        pmf.Group(None, params=params)


# ------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("lowrank[rank=0]", "rank must be >= 1, got 0"),
        ("lowrank[rank=1000000]", "got 1000000. 'tril' reaches every covariance"),
        ("sylvester[m=1000000]", "m must be at most 100"),
        ("iaf[depth=51]", "depth must be from 1 to 50, the number of hidden layers, got 51"),
        ("bnaf[depth=1000000000]", "depth must be from 1 to 50"),
        ("poly[degree=11]", "degree must be from 0 to 10, got 11"),
        ("poly[terms=21]", "terms must be from 1 to 20"),
        ("lu[seed=-1]", "seed must be >= 0, got -1"),
        ("perm[seed=-1]", "seed must be >= 0, got -1"),
        ("sylvester[m=0]", "m must be >= 1"),
        ("iaf[hidden=0]", "hidden must be >= 1"),
        ("maf[depth=0]", "depth must be from 1 to 50"),
        (
            "naf[activation=swish]",
            "activation must be one of tanh, relu, elu, gelu, sin, got swish",
        ),
        ("naf[units=0]", "units must be >= 1"),
        ("bnaf[hidden=0]", "hidden must be >= 1"),
        ("bnaf[depth=0]", "depth must be from 1 to 50"),
        ("poly[degree=-1]", "degree must be from 0"),
        ("poly[terms=0]", "terms must be from 1"),
        ("coupling[hidden=0]", "hidden must be >= 1"),
        ("spline[hidden=-1]", "hidden must be >= 0"),
        ("spline[bins=1]", "bins must be from 2 to 500"),
        ("spline[bound=0]", "bound must be > 0"),
        ("iaf[width=3]", "'iaf' has no option 'width'"),
    ],
)
def test_an_option_out_of_range_is_said(formula: str, message: str) -> None:
    with pytest.raises(FormulaError) as caught:
        Formula(formula)
    assert message in str(caught.value)
    assert "^" in str(caught.value)


def test_a_network_must_know_its_dimension() -> None:
    layer = layer_of("iaf")
    params = {
        name: pt.tensor(name, shape=(None,) * len(s)) for name, s in layer.param_shapes(3).items()
    }
    with pytest.raises(LayerError, match="must know the length of the last axis of bias"):
        layer.forward(pt.matrix("z"), params)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_has_its_own_shape(activation: str) -> None:
    x = pt.vector("x")
    (value,) = compile_once([x], [ACTIVATIONS[activation](x)])(np.array([-2.0, 0.0, 2.0]))
    # gelu in its tanh form, the others by definition
    expected: Any = {
        "tanh": np.tanh([-2, 0, 2]),
        "relu": [0, 0, 2],
        "elu": [np.expm1(-2), 0, 2],
        "gelu": [-0.0454, 0, 1.9546],
        "sin": np.sin([-2, 0, 2]),
    }[activation]
    np.testing.assert_allclose(value, expected, atol=1e-4)


def test_tril_and_loc_are_the_family_of_full_rank_advi() -> None:
    dim, rng = 3, np.random.default_rng(4)
    rho, lower, loc = (rng.standard_normal(n) for n in (dim, dim * (dim - 1) // 2, dim))
    factor = np.eye(dim)
    factor[np.tril_indices(dim, -1)] = lower / np.sqrt(dim)
    factor = factor * np.logaddexp(0, rho)
    np.fill_diagonal(factor, rho)  # PyMC takes the softplus of the diagonal itself
    with pm.Model() as model:
        pm.Normal("x", shape=dim)
        flow = pmf.Group(
            None, "tril-loc", params={0: {"rho": rho, "lower": lower}, 1: {"loc": loc}}
        )
        advi = pmf.Group(None, params={"L_tril": factor[np.tril_indices(dim)], "mu": loc})
        approximations = [pmf.Approximation([group], model=model) for group in (flow, advi)]
    one, other = (approx.log_prob(points(20, dim)) for approx in approximations)
    np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.jax
def test_the_families_run_as_jax_compiles_them() -> None:
    pytest.importorskip("jax")
    inference = pmf.NFVI(
        "sinh-lowrank-tril-coupling-naf-bnaf-spline[hidden=0]-perm-loc",
        model=normal_model(),
        random_seed=1,
        base="student_t",
    )
    by_jax = inference.fit(5, obj_n_mc=3, backend="jax", progressbar=False)
    assert np.isfinite(inference.hist).all()
    assert np.isfinite(by_jax.sample(10)["sample_stats"]["log_q"]).all()
