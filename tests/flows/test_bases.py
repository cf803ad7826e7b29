"""Base distributions: exact densities, draws that have them, gradients of their parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from scipy import stats

import pmflow as pmf
from pmflow.errors import FormulaError, ParameterError
from pmflow.flows.bases import AbstractBase, Mixture, Normal, StudentT
from pmflow.flows.formula import parse_base
from pmflow.graphs.evaluate import compile_once

DIM, DRAWS = 2, 40_000
FIT: dict[str, Any] = {"progressbar": False, "compile_kwargs": {"mode": "FAST_COMPILE"}}

BASES = [
    Normal(),
    StudentT(df=3),
    StudentT(df=1, trained=False),
    Mixture(k=3),
    Mixture(trained=False),
]
each_base = pytest.mark.parametrize("base", BASES, ids=str)


def numbers(base: AbstractBase) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    params = base.init_params(DIM, 0.5, rng)
    if "logits" in params:
        params["logits"] = rng.standard_normal(params["logits"].shape)
    return params


def evaluate(base: AbstractBase, noise: Any, at: Any = None) -> tuple[Any, Any]:
    params = {name: pt.as_tensor(value) for name, value in numbers(base).items()}
    given = pt.as_tensor(noise)
    z = base.draw(given, params, DIM)
    return compile_once([], [z, base.log_prob(z if at is None else pt.as_tensor(at), params)])()


def exact_log_prob(base: AbstractBase, z: Any) -> Any:
    params = numbers(base)
    match base:
        case Normal():
            return stats.norm.logpdf(z).sum(-1)
        case StudentT():
            df = np.logaddexp(0, params["df"]) if base.trained else base.df
            return stats.t.logpdf(z, df).sum(-1)
        case Mixture():
            weights = np.exp(params["logits"]) if base.trained else np.ones(base.k)
            densities = [
                stats.multivariate_normal(mean, np.diag(np.logaddexp(0, rho) ** 2)).pdf(z)
                for mean, rho in zip(params["mean"], params["rho"], strict=True)
            ]
            return np.log(np.tensordot(weights / weights.sum(), densities, 1))
    raise AssertionError(base)


@each_base
def test_the_density_is_the_exact_one(base: AbstractBase) -> None:
    at = 3 * np.random.default_rng(2).standard_normal((50, DIM))
    _, log_prob = evaluate(base, np.zeros((1, base.noise_length(DIM))), at)
    np.testing.assert_allclose(log_prob, exact_log_prob(base, at), rtol=1e-12)


@each_base
def test_draws_have_the_density(base: AbstractBase) -> None:
    noise = np.random.default_rng(3).standard_normal((DRAWS, base.noise_length(DIM)))
    z, _ = evaluate(base, noise)
    params = numbers(base)
    for i in range(DIM):
        if isinstance(base, Mixture):
            weights = np.exp(params["logits"]) if base.trained else np.ones(base.k)
            weights = weights / weights.sum()
            components = stats.norm(params["mean"][:, i], np.logaddexp(0, params["rho"][:, i]))
            cdf = lambda x, c=components, w=weights: c.cdf(np.asarray(x)[..., None]) @ w  # noqa: E731
        elif isinstance(base, StudentT):
            df = np.logaddexp(0, params["df"][i]) if base.trained else base.df
            cdf = stats.t(df).cdf
        else:
            cdf = stats.norm.cdf
        # Kolmogorov and Smirnov: below 1e-4 once in 10,000 runs, and the seed is fixed
        assert stats.kstest(z[:, i], cdf).pvalue > 1e-4


@each_base
def test_a_draw_of_zeros_is_finite(base: AbstractBase) -> None:
    z, log_prob = evaluate(base, np.zeros((2, base.noise_length(DIM))))
    assert np.isfinite(z).all()
    assert np.isfinite(log_prob).all()


def test_the_gradient_by_the_degrees_of_freedom_is_that_of_the_quantile() -> None:
    # on one coordinate with the second number at 0 nothing is known in closed form, but the mean
    # of f(t) has a known derivative by df: here f is log(1 + t^2)
    base, step = StudentT(df=4), 1e-4
    noise = np.random.default_rng(5).standard_normal((400_000, 2))
    df = pt.dvector("df")
    raw = df + pt.log(-pt.expm1(-df))
    z = base.draw(pt.as_tensor(noise), {"df": raw}, 1)
    mean = pt.log1p(z**2).mean()
    (gradient,) = compile_once([df], [pt.grad(mean, df)])(np.array([4.0]))

    def expectation(df: float) -> float:
        return stats.t(df).expect(lambda t: np.log1p(t**2))

    exact = (expectation(4 + step) - expectation(4 - step)) / (2 * step)
    # standard error about 2e-4
    assert gradient[0] == pytest.approx(exact, abs=1e-3)


@pytest.mark.slow
def test_weights_of_a_mixture_have_an_unbiased_gradient() -> None:
    """The ELBO's gradient by the logits, from many small steps, against a quadrature."""
    with pm.Model() as model:
        pm.Normal("x", 1.0, 1.0)
    approx = pmf.NormalizingFlow("loc", model=model, random_seed=1, base="mixture[k=2]", start={})
    values = approx.named_params
    values["mean_base"].set_value(np.array([[-1.0], [1.5]]))
    values["rho_base"].set_value(np.log(np.expm1(np.array([[0.8], [0.6]]))))
    values["logits_base"].set_value(np.array([0.3, -0.4]))
    values["loc_0"].set_value(np.zeros(1))
    logits = values["logits_base"]
    loss = approx.logq - approx.varlogp
    loss = approx.set_size_and_deterministic(loss, 4, 0)
    function = compile_once([], [pt.grad(loss, logits)], random_seed=3)
    found = np.array([function()[0] for _ in range(4_000)])
    x = np.linspace(-9, 9, 20_001)

    def divergence(logits: Any) -> float:
        w = np.exp(logits) / np.exp(logits).sum()
        q = w @ np.array([stats.norm(-1, 0.8).pdf(x), stats.norm(1.5, 0.6).pdf(x)])
        return np.trapezoid(q * (np.log(q) - stats.norm(1, 1).logpdf(x)), x)

    at, step = np.array([0.3, -0.4]), 1e-5
    exact = [
        (divergence(at + step * e) - divergence(at - step * e)) / (2 * step) for e in np.eye(2)
    ]
    error = found.std(0) / np.sqrt(len(found))
    assert np.all(np.abs(found.mean(0) - exact) < 4 * error)
    assert error.max() < 0.02


@pytest.mark.parametrize("base", ["student_t", "mixture[k=3]", "mixture[trained=false]"])
@pytest.mark.slow
def test_a_base_is_trained_sampled_and_scored(base: str) -> None:
    with pm.Model() as model:
        pm.StudentT("x", nu=3, shape=2)
    inference = pmf.NFVI("scale-planar-loc", model=model, random_seed=1, base=base)
    before = {name: p.get_value() for name, p in inference.approx.named_params.items()}
    approx = inference.fit(30, obj_n_mc=10, **FIT)
    trained = [n for n, v in before.items() if np.any(v != approx.named_params[n].get_value())]
    assert set(trained) == set(before)
    draws = approx.sample(100, random_seed=1)
    log_q = np.asarray(draws["sample_stats"]["log_q"])[0]
    np.testing.assert_allclose(
        approx.log_prob(np.asarray(draws["posterior"]["x"])[0]), log_q, atol=1e-9
    )
    layers = approx.sample_layers(20, random_seed=1)
    assert [a.shape for a in layers] == [(20, 2)] * 4
    assert np.isfinite(approx.mean.eval(mode="FAST_COMPILE")).all()


def test_moments_of_an_affine_flow_are_those_of_its_base() -> None:
    with pm.Model() as model:
        pm.Normal("x", shape=2)
    approx = pmf.NormalizingFlow(
        "scale-loc", model=model, jitter=0, random_seed=1, base="student_t[df=10,trained=false]"
    )
    # the sd of t with 10 degrees of freedom; 10,000 points
    np.testing.assert_allclose(approx.std.eval(mode="FAST_COMPILE"), np.sqrt(10 / 8), rtol=0.05)


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("normal", Normal()),
        ("Student_T [df = 3]", StudentT(df=3)),
        ("student_t[trained=false]", StudentT(trained=False)),
        ("mixture[k=8]", Mixture(k=8)),
        (Mixture(k=2), Mixture(k=2)),
    ],
)
def test_a_base_is_named_by_a_word_with_options(text: Any, base: AbstractBase) -> None:
    assert parse_base(text) == base


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("studentt", "There is no base 'studentt'"),
        ("mixture[k=0]", "k must be >= 1"),
        ("student_t[df=-1]", "df must be positive and finite"),
        ("student_t[nu=3]", "'student_t' has no option 'nu'"),
        ("normal*2", "A base is one word"),
    ],
)
def test_a_wrong_base_is_said_with_a_caret(text: str, message: str) -> None:
    with pytest.raises(FormulaError) as caught:
        parse_base(text)
    assert message in str(caught.value)
    assert "^" in str(caught.value)


def test_a_base_can_not_be_given_to_an_approximation_that_exists() -> None:
    with pm.Model() as model:
        pm.Normal("x")
    approx = pmf.NormalizingFlow("loc", model=model)
    with pytest.raises(ParameterError, match="base can't be honoured"):
        pmf.NFVI(approx, base="student_t")
