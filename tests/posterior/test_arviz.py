"""ArviZ takes the draws of a flow as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import arviz as az
import matplotlib as mpl
import numpy as np
import pymc as pm
import pytensor
import pytest
from models import conjugate_normal, conjugate_posterior, eight_schools
from scipy import stats

import pmflow as pmf

DATA = np.random.default_rng(0).normal(1.0, 1.0, size=12)

DRAWS = 100

several_chains = pytest.mark.filterwarnings(
    # arviz-plots joins trees with different numbers of chains by xarray's old default
    "ignore:In a future version of xarray the default value for join:FutureWarning"
)


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    import matplotlib.pyplot as plt

    assert mpl.get_backend().lower() == "agg"
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def flow() -> Any:
    """As many draws as NUTS has in a chain: ArviZ leaves out the interval of the shorter one."""
    approx = pmf.NormalizingFlow("scale-planar-loc", model=eight_schools(), random_seed=1)
    return approx.sample(DRAWS, random_seed=2)


@pytest.fixture(scope="module")
def nuts() -> Any:
    """A short run of PyMC's sampler, two chains."""
    return pm.sample(
        DRAWS,
        tune=100,
        chains=2,
        cores=1,
        model=eight_schools(),
        random_seed=3,
        progressbar=False,
        compute_convergence_checks=False,
        compile_kwargs={"mode": "FAST_COMPILE"},
    )


@pytest.fixture(scope="module")
def exact() -> Any:
    """Draws from an approximation that is the posterior, and the log-likelihood of each datum."""
    model = conjugate_normal(DATA)
    mean, sd = conjugate_posterior(DATA)
    approx = pmf.NormalizingFlow("scale-loc", model=model, random_seed=1)
    rho, loc = approx.params
    rho.set_value(np.log(np.expm1([sd])))
    loc.set_value(np.array([mean]))
    draws = approx.sample(2_000, random_seed=2)
    with pytensor.config.change_flags(mode="FAST_COMPILE", cxx=""):
        pm.compute_log_likelihood(draws, model=model, progressbar=False)
    return draws


def test_summary_has_a_row_a_number(flow: Any) -> None:
    table = az.summary(flow)
    assert list(table.index[:3]) == ["mu", "tau", "theta_trans[A]"]
    assert len(table) == 18


def test_summary_gives_the_mean_of_the_draws(flow: Any) -> None:
    table = az.summary(flow, kind="stats", round_to="none")
    assert table.loc["tau", "mean"] == pytest.approx(flow["posterior"]["tau"].values.mean())


def test_independent_draws_have_their_number_as_effective_sample_size(exact: Any) -> None:
    # 25 %: the spread of the estimator at 2,000 draws is below 5 %
    assert az.ess(exact)["mu"].item() == pytest.approx(2_000, rel=0.25)


def test_plot_dist_has_a_plot_a_variable(flow: Any) -> None:
    collection = az.plot_dist(flow, var_names=["mu", "tau"], backend="matplotlib")
    assert {"mu", "tau"} <= set(collection.viz["plot"].data_vars)


def test_plot_dist_has_a_plot_a_coordinate(flow: Any) -> None:
    collection = az.plot_dist(flow, var_names=["theta"], backend="matplotlib")
    assert list(collection.viz["plot"]["theta"]["school"].values) == list("ABCDEFGH")


def test_plot_pair_has_the_joint_plots(flow: Any) -> None:
    matrix = az.plot_pair(flow, var_names=["mu", "tau"], backend="matplotlib")
    assert matrix.viz["scatter"] is not None


@pytest.mark.slow
@several_chains
def test_plot_forest_has_the_flow_beside_nuts(flow: Any, nuts: Any) -> None:
    collection = az.plot_forest(
        {"flow": flow, "nuts": nuts}, var_names=["theta"], backend="matplotlib"
    )
    lines = collection.viz["trunk"]["theta"].sel(chain=0)
    assert list(lines["model"].values) == ["flow", "nuts"]
    assert all(np.isfinite(line.get_xdata()).all() for line in lines.values.ravel())


@several_chains
def test_plot_dist_has_the_flow_beside_nuts(flow: Any, nuts: Any) -> None:
    collection = az.plot_dist({"flow": flow, "nuts": nuts}, var_names=["mu"], backend="matplotlib")
    assert list(collection.viz["dist"]["mu"]["model"].values) == ["flow", "nuts"]


def test_loo_takes_log_p_and_log_q_as_they_are(exact: Any) -> None:
    stat = exact["sample_stats"]
    found = az.loo_approximate_posterior(exact, stat["log_p"], stat["log_q"], pointwise=True)
    expected = 0.0
    for i in range(len(DATA)):
        mean, sd = conjugate_posterior(np.delete(DATA, i))
        expected += stats.norm(mean, np.hypot(sd, 1.0)).logpdf(DATA[i])
    # 0.1: the spread over seeds of 2,000 draws is 0.02
    assert float(found.elpd) == pytest.approx(expected, abs=0.1)
    assert (found.pareto_k < found.good_k).all()


def test_log_p_minus_log_q_is_constant_for_the_exact_posterior(exact: Any) -> None:
    stat = exact["sample_stats"]
    log_weights = (stat["log_p"] - stat["log_q"]).values
    evidence = stats.multivariate_normal(
        np.zeros(len(DATA)), np.eye(len(DATA)) + 4.0 * np.ones((len(DATA), len(DATA)))
    ).logpdf(DATA)
    np.testing.assert_allclose(log_weights, evidence, atol=1e-8)
