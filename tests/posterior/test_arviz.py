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
from pmflow.errors import ParameterError, UnsupportedError
from pmflow.posterior.at_points import ModelAtPoints

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


class TestChains:
    def test_a_summary_has_no_number_missing(self) -> None:
        approx = pmf.NormalizingFlow("scale-loc", model=eight_schools(), random_seed=1)
        found = az.summary(approx.sample(200, chains=4, random_seed=2))
        assert not found.isna().any().any()
        assert (found["r_hat"].astype(float) < 1.05).all()

    def test_they_are_the_draws_of_one_chain_in_parts(self) -> None:
        approx = pmf.NormalizingFlow("scale-loc", model=eight_schools(), random_seed=1)
        one = approx.sample(60, random_seed=2, include_transformed=True)
        parts = approx.sample(20, chains=3, random_seed=2, include_transformed=True)
        for group in ("posterior", "sample_stats", "unconstrained_posterior"):
            assert dict(parts[group].sizes)["chain"] == 3
            for name, array in one[group].to_dataset().items():
                found = parts[group].to_dataset()[name].values
                np.testing.assert_array_equal(found, array.values.reshape(found.shape))

    def test_of_pymcs_container_too(self) -> None:
        approx = pmf.NormalizingFlow("scale-loc", model=eight_schools(), random_seed=1)
        trace = approx.sample(20, chains=3, random_seed=2, return_inferencedata=False)
        assert trace.nchains == 3
        assert len(trace) == 20
        tree = approx.sample(20, chains=3, random_seed=2)
        np.testing.assert_array_equal(trace.get_values("mu", chains=[1]), tree.posterior["mu"][1])

    @pytest.mark.parametrize("chains", [0, 1.0, True])
    def test_a_number_of_them_is_needed(self, chains: Any) -> None:
        approx = pmf.NormalizingFlow("scale-loc", model=eight_schools(), random_seed=1)
        with pytest.raises(ParameterError, match="chains must be an integer >= 1"):
            approx.sample(5, chains=chains)


class TestLogLikelihood:
    def test_it_is_that_of_pymc(self) -> None:
        approx = pmf.NormalizingFlow("scale-loc", model=eight_schools(), random_seed=1)
        found = approx.sample(20, chains=2, random_seed=2, log_likelihood=True)
        plain = approx.sample(20, chains=2, random_seed=2)
        assert "log_likelihood" not in plain.children
        wanted = pm.compute_log_likelihood(plain, model=approx.model, progressbar=False)
        (name,) = map(str, wanted["log_likelihood"].data_vars)
        np.testing.assert_allclose(
            found["log_likelihood"][name], wanted["log_likelihood"][name], rtol=1e-12
        )

    @pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto")
    def test_of_minibatches_it_is_that_of_each_row(self) -> None:
        """Beside the same model with all data; another variable is observed once."""
        trees = []
        for batch in (None, 5):
            with conjugate_normal(DATA, batch=batch) as model:
                pm.Normal("once", model["mu"], 2.0, observed=0.5)
            frame = pmf.Frame(np.array([0.9]), np.array([0.3]))
            approx = pmf.NormalizingFlow(
                "scale-loc", model=model, random_seed=1, jitter=0.0, frame=frame
            )
            trees.append(approx.sample(500, chains=2, random_seed=2, log_likelihood=True))
        whole, some = (tree["log_likelihood"] for tree in trees)
        assert set(some.data_vars) == set(whole.data_vars) == {"y", "once"}
        assert some["y"].shape == (2, 500, len(DATA))
        for name in ("y", "once"):
            np.testing.assert_allclose(some[name], whole[name], rtol=1e-10)
        found, wanted = (az.loo(tree, var_name="y").elpd for tree in trees)
        assert found == pytest.approx(wanted, rel=1e-9)


def regression() -> pm.Model:
    x = np.random.default_rng(4).normal(size=40)
    with pm.Model() as model:
        mean = pm.Deterministic("mean", pm.Normal("slope") * pm.Data("x", x))
        pm.Normal("y", mean, 1.0, observed=2 * x, shape=mean.shape)
    return model


class TestAfterOtherDataAreSet:
    def test_log_p_is_left_out_and_that_is_said(self, caplog: pytest.LogCaptureFixture) -> None:
        model = regression()
        approx = pmf.NormalizingFlow("scale-loc", model=model, random_seed=1)
        before = approx.sample(10, random_seed=2)
        pm.set_data({"x": [1.0, 2.0, 3.0]}, model=model)
        with caplog.at_level("WARNING", "pmflow"):
            found = approx.sample(10, random_seed=2)
        assert "log_p is left out: with the data that the model has now" in caplog.text
        assert list(found["sample_stats"].data_vars) == ["log_q"]
        slope = before.posterior["slope"].values
        np.testing.assert_array_equal(found.posterior["slope"].values, slope)
        np.testing.assert_allclose(found.posterior["mean"], slope[..., None] * [1.0, 2.0, 3.0])
        predicted = pm.sample_posterior_predictive(
            found, model=model, predictions=True, progressbar=False
        )
        assert predicted.predictions["y"].shape == (1, 10, 3)

    def test_with_data_of_the_same_length_there_is_one(self) -> None:
        model = regression()
        approx = pmf.NormalizingFlow("scale-loc", model=model, random_seed=1)
        before = approx.sample(10, random_seed=2).sample_stats["log_p"].values
        pm.set_data({"x": np.zeros(40)}, model=model)
        found = approx.sample(10, random_seed=2).sample_stats["log_p"].values
        assert np.isfinite(found).all()
        assert (found != before).all()

    def test_draws_that_are_weighted_by_it_are_refused(self) -> None:
        model = regression()
        flow = pmf.NormalizingFlow("scale-loc", model=model, random_seed=1)
        approx = pmf.Resampled(flow, 0.0, 0.5, flow.report)
        pm.set_data({"x": [1.0, 2.0, 3.0]}, model=model)
        with pytest.raises(
            UnsupportedError, match=r"weighted by the log density.*set the data back"
        ):
            approx.sample(10)

    def test_other_failures_are_raised(self, monkeypatch: pytest.MonkeyPatch) -> None:
        approx = pmf.NormalizingFlow("scale-loc", model=eight_schools(), random_seed=1)

        def failing(*_: Any, **__: Any) -> Any:
            raise ValueError("of another kind")

        monkeypatch.setattr(ModelAtPoints, "__call__", failing)
        with pytest.raises(ValueError, match="of another kind"):
            approx.sample(10)
