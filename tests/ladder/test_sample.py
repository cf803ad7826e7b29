"""NUTS in the space of a fit: right whatever the fit is, and in the space that is quickest."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
import xarray as xr
from models import conjugate_normal, conjugate_posterior, eight_schools
from pytensor.compile.mode import Mode
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.traversal import graph_inputs
from scipy.stats import kstest

import pmflow as pmf
from pmflow.embedded.interpolated import interpolated, smooth_features
from pmflow.errors import FitWarning, NonFiniteError, ParameterError, UnsupportedError
from pmflow.family.pulled_back import BASE, LATENT, pulled_back
from pmflow.family.transport import FlowTransport, FollowingTransport, FrameTransport, Transport
from pmflow.ladder.space import space_for

QUIET: dict[str, Any] = {"random_seed": 1, "progressbar": False}
PLAIN: dict[str, Any] = {
    **QUIET,
    "nuts_sampler": "pymc",
    "cores": 1,
    "quiet": True,
    "compile_kwargs": {"mode": Mode("vm", "fast_compile")},
}
"""PyMC's own sampler without machine code: seconds less, for few draws."""


def funnel(size: int = 5) -> pm.Model:
    with pm.Model(coords={"part": [*"abcdefgh"[:size]]}) as model:
        v = pm.Normal("v", 0, 3)
        x = pm.Normal("x", 0, pm.math.exp(v / 2), dims="part")
        pm.Deterministic("twice", 2 * x, dims="part")
    return model


def level() -> pm.Model:
    """A random walk that is seen with noise: what meets what changes with the scales."""
    y = np.cumsum(np.random.default_rng(1).normal(size=30))
    with pm.Model() as model:
        step, noise = pm.HalfNormal("step", 1), pm.HalfNormal("noise", 1)
        x = pm.GaussianRandomWalk("x", sigma=step, init_dist=pm.Normal.dist(0, 5), shape=30)
        pm.Normal("y", x, noise, observed=y)
    return model


def banana() -> pm.Model:
    with pm.Model() as model:
        x = pm.Normal("x", 0, 2)
        pm.Normal("y", x**2, 0.5)
    return model


def narrow() -> pm.Model:
    with pm.Model() as model:
        pm.MvNormal("z", np.zeros(3), 0.02 * np.eye(3) + 0.98)
    return model


def two_modes() -> pm.Model:
    with pm.Model() as model:
        x = pm.Flat("x", shape=2)
        one, other = (-2 * ((x - at) ** 2).sum() for at in (-6.0, 6.0))
        pm.Potential("two", pt.logaddexp(one, other))
    return model


def normal() -> pm.Model:
    return conjugate_normal(np.array([1.0, 2.0, 3.0]))


@cache
def fit_of(make: Any) -> pmf.Approximation:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        return pmf.fit(model=make(), **QUIET)


@cache
def mapped(make: Any) -> Any:
    """The map of a fit, for NumPy."""
    u = pt.vector("u", shape=(transport_of(make).dim,))
    return pytensor.function([u], transport_of(make).forward(u), mode=Mode("py", "fast_compile"))


@cache
def transport_of(make: Any) -> Transport:
    found = fit_of(make).proposal.transport(3)
    assert found is not None
    return found


@pytest.mark.parametrize("make", [funnel, level, banana, narrow])
def test_the_determinant_is_that_of_the_jacobian(make: Any) -> None:
    call, step = mapped(make), 1e-5
    at = np.random.default_rng(1).normal(size=transport_of(make).dim)
    slope = [(call(at + e)[0] - call(at - e)[0]) / (2 * step) for e in step * np.eye(len(at))]
    np.testing.assert_allclose(call(at)[1], np.linalg.slogdet(slope)[1], atol=1e-6)


def test_the_map_makes_the_posterior_a_normal_distribution() -> None:
    """Given its two scales the walk is normal: then e is N(0, I), at any of these scales."""
    density, z = fit_of(level).groups[0].log_density, fit_of(level).draw(2_000, 1).latent
    frame = pmf.Frame(z.mean(0), np.linalg.cholesky(np.cov(z.T)))
    rng = np.random.default_rng(2)
    away, by_frame = [], []
    for scales in 1.5 * rng.uniform(-1, 1, size=(6, 2)):
        u = rng.normal(size=(40, 32))
        u[:, :2] = scales
        at, log_det = map(np.array, zip(*map(mapped(level), u), strict=True))
        normal_part = (u**2).sum(1) / 2
        away.append(np.std(density.value(at) + log_det + normal_part))
        by_frame.append(np.std(density.value(frame.forward(u)) + normal_part))
    assert max(away) < 2.5
    assert max(by_frame) > 20 * max(away)


def centred() -> pm.Model:
    """Groups and their mean, which a small scale ties to each other."""
    with pm.Model() as model:
        mu, tau = pm.Normal("mu", 0, 5), pm.HalfCauchy("tau", 5)
        theta = pm.Normal("theta", mu, tau, shape=8)
        pm.Normal("y", theta, np.linspace(9, 18, 8), observed=np.linspace(-3, 28, 8))
    return model


def test_the_map_is_as_exact_as_a_scale_is_small() -> None:
    density = fit_of(centred).groups[0].log_density
    rng = np.random.default_rng(2)
    for scale in np.linspace(-3, 3, 7):
        u = np.column_stack([np.full(60, scale), rng.normal(size=(60, 9))])
        at, log_det = map(np.array, zip(*map(mapped(centred), u), strict=True))
        assert np.std(density.value(at) + log_det + (u**2).sum(1) / 2) < 1.0


def test_local_variables_are_read_off_exactly_where_they_are_known() -> None:
    """Of the funnel, whose locals have the sd exp(v / 2) around 0 and do not meet."""
    approx = fit_of(funnel)
    assert isinstance(approx, pmf.EmbeddedLaplace)
    found = interpolated(approx._nested, 5)
    v = np.linspace(-7.0, 7.0, 9)
    x = smooth_features(((v - found.mean) / found.root[0, 0])[:, None], 1, np)
    np.testing.assert_allclose(x @ found.log_diagonal, -np.repeat(v[:, None], 5, 1), atol=0.15)
    np.testing.assert_allclose(x @ found.mode, 0.0, atol=1e-6)


@pytest.mark.parametrize("size", [1, 3, 6, 10, 14])
def test_features_are_the_same_in_both_worlds_and_straight_far_out(size: int) -> None:
    y = np.random.default_rng(size).normal(size=size) * 2
    by_numpy = smooth_features(y, size, np)
    by_graph = smooth_features(pt.constant(y), size, pt).eval()
    np.testing.assert_allclose(by_numpy, by_graph, atol=1e-12)
    far = [smooth_features(np.sign(y) * at, size, np) for at in (100.0, 150.0, 200.0)]
    np.testing.assert_allclose(far[2] - far[1], far[1] - far[0], atol=1e-6)


SPACES = {
    "a hierarchy": (eight_schools, FollowingTransport),
    "a walk": (level, FollowingTransport),
    "correlated": (narrow, FrameTransport),
    "bent": (banana, FlowTransport),
    "as it is": (normal, None),
    "two modes": (two_modes, None),
}


@pytest.mark.parametrize("name", SPACES)
def test_the_space_that_is_chosen(name: str) -> None:
    make, kind = SPACES[name]
    found = space_for(fit_of(make), "auto", 1)
    assert found is None if kind is None else isinstance(found, kind)


def test_a_bent_fit_that_is_not_good_is_not_gone_through() -> None:
    approx = fit_of(banana)
    report = approx.report
    try:
        assert isinstance(report.diagnosis, pmf.Diagnosis)
        found = replace(report.diagnosis, verdict="not reliable")
        approx.receive(replace(report, diagnosis=found))
        assert not isinstance(space_for(approx, "auto", 1), FlowTransport)
    finally:
        approx.receive(report)


@cache
def funnel_draws() -> xr.DataTree:
    return pmf.sample(fit_of(funnel), chains=2, quiet=True, **QUIET)


def test_a_funnel_is_gone_through_to_its_end() -> None:
    """V is N(0, 3), of which NUTS in the model's own space does not reach the narrow part."""
    idata = funnel_draws()
    v = idata.posterior["v"].values.ravel()
    assert kstest(v[::3] / 3, "norm").pvalue > 1e-3
    scaled = idata.posterior["x"] / np.exp(idata.posterior["v"] / 2)
    assert abs(float(scaled.std()) - 1) < 0.05
    assert idata.posterior.attrs["inference_library"] == "nutpie"
    assert not idata.sample_stats["diverging"].values.any()


def test_the_draws_are_those_of_the_model_with_its_names() -> None:
    idata = funnel_draws()
    posterior = idata.posterior
    assert posterior["x"].dims == ("chain", "draw", "part")
    assert list(posterior["part"].values) == [*"abcde"]
    np.testing.assert_allclose(posterior["twice"], 2 * posterior["x"])
    assert (posterior.sizes["chain"], posterior.sizes["draw"]) == (2, 1_000)
    assert posterior.attrs["space"] == "embedded Laplace"
    assert {"diverging", "log_p"} <= {*idata.sample_stats.data_vars}
    point = {"v": posterior["v"].values[1, 7], "x": posterior["x"].values[1, 7]}
    exact = fit_of(funnel).model.compile_logp()(point)
    np.testing.assert_allclose(idata.sample_stats["log_p"].values[1, 7], exact)


def test_the_same_seed_gives_the_same_draws() -> None:
    once, again = (pmf.sample(fit_of(narrow), 20, tune=30, chains=2, **PLAIN) for _ in range(2))
    np.testing.assert_array_equal(once.posterior["z"], again.posterior["z"])


def test_a_model_is_fitted_first_and_some_variables_are_returned() -> None:
    with funnel(3):
        idata = pmf.sample(draws=20, tune=30, chains=1, var_names=["v", "twice"], **PLAIN)
    assert {*idata.posterior.data_vars} == {"v", "twice"}
    assert idata.posterior["twice"].shape == (1, 20, 3)


def test_the_model_s_own_space_is_right_too() -> None:
    data = np.array([1.0, 2.0, 3.0])
    idata = pmf.sample(fit_of(normal), 400, chains=2, **PLAIN)
    mean, sd = conjugate_posterior(data)
    (name,) = idata.posterior.data_vars
    assert idata.posterior.attrs["space"] == "model"
    assert abs(float(idata.posterior[name].mean()) - mean) < 0.25 * sd
    assert 0.8 < float(idata.posterior[name].std()) / sd < 1.2
    assert "observed_data" in idata


def test_a_flow_that_is_wrong_still_gives_right_draws() -> None:
    """Its map is far from the posterior: the draws are slower, not wrong."""
    model = narrow()
    wrong = pmf.NormalizingFlow("planar*2-scale-loc", model=model, random_seed=3, jitter=0.5)
    idata = pmf.sample(wrong, 400, chains=2, space="fit", **PLAIN)
    z = idata.posterior["z"].values.reshape(-1, 3)
    assert np.abs(z.mean(0)).max() < 0.25
    assert np.abs(z.std(0) - 1).max() < 0.2
    assert idata.posterior.attrs["space"] == "planar*2-scale-loc"


def test_modes_between_which_nuts_does_not_move_are_told() -> None:
    with pytest.warns(FitWarning, match="several modes"):
        pmf.sample(fit_of(two_modes), 5, tune=5, chains=1, **PLAIN)


def test_a_model_that_can_not_be_fitted_is_left_to_nuts(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise NonFiniteError("nowhere")

    monkeypatch.setattr("pmflow.ladder.sample.fit_automatically", fails)
    idata = pmf.sample(narrow(), 5, tune=5, chains=1, **PLAIN)
    assert idata.posterior["z"].shape == (1, 5, 3)


@pytest.mark.parametrize("most", [0, 1_000_000])
def test_a_pulled_back_model_has_names_for_its_numbers_or_holds_them(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JAX finds them by name: two of one name are an error there."""
    monkeypatch.setattr("pmflow.family.pulled_back._LONG", most)
    approx = fit_of(banana)
    model = pulled_back(transport_of(banana), approx.groups[0].log_density)
    assert [v.name for v in model.free_RVs] == [BASE]
    assert [v.name for v in model.deterministics] == [LATENT]
    found = {v for v in graph_inputs([model.logp()]) if isinstance(v, SharedVariable)}
    assert len({v.name for v in found}) == len(found)
    assert bool(found) is (most == 0)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "draws": ({"draws": 0}, "draws must be"),
    "chains": ({"chains": -1}, "chains must be"),
    "tune": ({"tune": -5}, "tune must be"),
    "space": ({"space": "flow"}, "space must be 'auto', 'fit' or 'model'"),
    "unknown": ({"target_acept": 0.9}, "has no 'target_acept'. Did you mean 'target_accept'"),
    "step": ({"step": None, "initvals": {}}, "chooses initvals, step by itself"),
    "var_names": ({"var_names": ["nope"]}, "var_names has no 'nope'"),
    "seed": ({"random_seed": "one"}, "random_seed must be"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments(name: str) -> None:
    given, said = WRONG[name]
    with pytest.raises(ParameterError, match=said):
        pmf.sample(funnel(), **given)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"must be a pm\.Model"):
        pmf.sample(5)


def test_minibatches_are_refused() -> None:
    model = conjugate_normal(np.arange(20.0), batch=5)
    with pytest.raises(UnsupportedError, match="minibatches"):
        pmf.sample(model)


def test_a_space_that_the_fit_has_not_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="no map from standard normal numbers"):
        pmf.sample(fit_of(two_modes), space="fit", **PLAIN)
