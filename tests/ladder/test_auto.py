"""A fit that is told nothing: which families it tries, and which one it takes."""

from __future__ import annotations

import logging
import time
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pymc as pm
import pytest
from models import conjugate_normal, conjugate_posterior, gaussian

import pmflow as pmf
from pmflow.errors import FitWarning, NonFiniteError, NotContinuousError, ParameterError
from pmflow.family.placed_flow import PlacedFlow
from pmflow.ladder import automatic as auto
from pmflow.ladder import climb
from pmflow.ladder.rungs import RUNGS, FlowRung, GaussianRung, ResampledRung
from pmflow.watch import tick

PYTHON: dict[str, Any] = {"compile_kwargs": {"mode": "FAST_COMPILE"}, "progressbar": False}


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing was to be trained")

    monkeypatch.setattr(pmf.NFVI, "carry_out", fit)


def skewed() -> pm.Model:
    """Log of a gamma variable: a tail to the left that no Gaussian has."""
    with pm.Model() as model:
        pm.Gamma("g", 1.0, 2.0)
    return model


@pytest.mark.usefixtures("no_training")
class TestGaussian:
    def test_a_gaussian_posterior_needs_no_flow(self) -> None:
        data = np.random.default_rng(1).normal(3, 1, size=30)
        approx = pmf.fit(model=conjugate_normal(data), random_seed=1, progressbar=False)
        mean, sd = conjugate_posterior(data)
        assert float(approx.mean.eval(mode="FAST_COMPILE")[0]) == pytest.approx(mean, abs=1e-3)
        assert float(approx.std.eval(mode="FAST_COMPILE")[0]) == pytest.approx(sd, rel=1e-3)
        assert [rung.formula for rung in approx.ladder.rungs] == ["Gaussian"]
        assert approx.ladder.taken == 0
        assert approx.diagnosis.verdict == "reliable"
        assert approx.fit_state.ended == "converged"
        assert str(approx.ladder).startswith("-> Gaussian (")

    @pytest.mark.slow
    def test_correlations_and_dims_are_kept(self) -> None:
        cov = [[1.0, 0.9], [0.9, 1.0]]
        with pm.Model(coords={"axis": ["a", "b"]}) as model:
            pm.MvNormal("z", [1.0, -1.0], cov, dims="axis")
            approx = pmf.fit(random_seed=1, progressbar=False)  # the model of the context
        np.testing.assert_allclose(approx.cov.eval(mode="FAST_COMPILE"), cov, atol=0.01)
        draws = approx.sample(10)["posterior"]["z"]
        assert draws.dims == ("chain", "draw", "axis")
        assert model["z"].ndim == 1

    @pytest.mark.slow
    def test_the_same_seed_gives_the_same_fit(self) -> None:
        model = gaussian([1.0, 2.0], [[1.0, 0.5], [0.5, 2.0]])
        one, two = (pmf.fit(model=model, random_seed=5, progressbar=False) for _ in range(2))
        np.testing.assert_array_equal(
            one.sample(5)["posterior"]["z"], two.sample(5)["posterior"]["z"]
        )

    @pytest.mark.slow
    def test_two_gaussian_modes_are_stacked(self) -> None:
        with pm.Model() as model:
            pm.Mixture("x", [0.7, 0.3], [pm.Normal.dist(-6, 0.5), pm.Normal.dist(6, 1.0)])
        approx = pmf.fit(model=model, random_seed=3, restarts=6, progressbar=False)
        np.testing.assert_allclose(np.sort(approx.weights), [0.3, 0.7], atol=0.02)
        assert approx.starts.missed == 0
        assert approx.diagnosis.verdict == "reliable"
        assert "2 modes, which are all kept" in str(approx.diagnosis)


@pytest.fixture(scope="module")
def approx() -> pmf.Approximation:
    return pmf.fit(model=skewed(), random_seed=1, restarts=1, **PYTHON)


def ladder_of(model: pm.Model, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        return pmf.fit(model=model, random_seed=1, restarts=1, progressbar=False, **options)


@pytest.mark.usefixtures("no_training")
class TestWithoutTraining:
    """What a map of few parameters, or weights, can do."""

    def test_a_regression_ends_with_a_map_of_few_parameters(self) -> None:
        rng = np.random.default_rng(3)
        x = rng.normal(size=20)
        with pm.Model() as model:
            b = pm.Normal("b", 0, 5, shape=2)
            sd = pm.HalfNormal("sd", 5)
            pm.Normal("y", b[0] + b[1] * x, sd, observed=1 + x + rng.normal(size=20))
        approx = ladder_of(model)
        assert [rung.formula for rung in approx.ladder.rungs] == ["Gaussian", "sinh-bend-reverse"]
        assert approx.diagnosis.verdict == "reliable"
        assert approx.diagnosis.kl < 0.01 < approx.ladder.rungs[0].diagnosis.kl
        assert str(approx.formula) == "sinh-bend-reverse"
        assert approx.fit_state.by == "fit"
        assert len(approx.hist) == approx.fit_state.steps > 0

    def test_a_map_that_gains_nothing_is_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(climb.Climb, "_is_done", lambda self, _: len(self._tried) > 1)
        with pm.Model() as model:
            pm.Normal("x", shape=3)
        approx = ladder_of(model)
        _, left_out = approx.ladder.rungs
        assert left_out.diagnosis is None
        assert str(left_out).endswith("s): no better than the Gaussian")
        assert approx.ladder.taken == 0
        assert approx.diagnosis.verdict == "reliable"

    def test_good_weights_are_an_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # at once where a map would take long
        monkeypatch.setattr("pmflow.ladder.rungs._BENT_WORK_IF_USABLE", 0)
        with pm.Model() as model:
            pm.Gamma("g", 6.0, 1.0)
        approx = ladder_of(model)
        assert isinstance(approx, pmf.Resampled)
        assert [rung.formula for rung in approx.ladder.rungs] == ["Gaussian", "resampled"]
        gaussian, resampled = (rung.diagnosis for rung in approx.ladder.rungs)
        assert gaussian.verdict == "usable after importance resampling"
        assert resampled.verdict == "reliable"
        draws = np.asarray(approx.sample(20_000, random_seed=1)["posterior"]["g"])
        assert draws.mean() == pytest.approx(6, abs=0.08)
        assert draws.std() == pytest.approx(6**0.5, rel=0.03)

    @pytest.mark.slow
    def test_a_bend_of_each_mode(self) -> None:
        with pm.Model() as model:
            bumps = [pm.SkewNormal.dist(a, mu=m, sigma=1) for a, m in ((4, -9), (-4, 9))]
            pm.Mixture("x", [0.6, 0.4], bumps)
            pm.Normal("y")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FitWarning)
            approx = pmf.fit(model=model, random_seed=3, restarts=6, progressbar=False)
        stack = approx.proposal
        assert isinstance(stack, pmf.Stack)
        assert str(stack.formula) == "sinh-bend-reverse"
        assert approx.diagnosis.verdict == "reliable"
        share = (np.asarray(approx.sample(4000, random_seed=1)["posterior"]["x"]) < 0).mean()
        assert share == pytest.approx(0.6, abs=0.03)

    @pytest.mark.slow
    def test_a_network_that_is_asked_for_keeps_jax_out(self) -> None:
        density = ladder_of(many_rows(), backend="numba").groups[0].log_density
        assert density._machine is None
        pytest.importorskip("jax")
        assert ladder_of(many_rows()).groups[0].log_density._machine is not None


def many_rows() -> pm.Model:
    x = np.random.default_rng(1).normal(size=20_000)
    with pm.Model() as model:
        mu = pm.Normal("mu")
        pm.Normal("y", mu, 1.0, observed=x)
    return model


@pytest.mark.slow
@pytest.mark.parametrize(("within", "taken"), [(0.0, 1), (np.inf, 2)])
def test_a_network_is_not_tried_from_far_away(
    monkeypatch: pytest.MonkeyPatch, within: float, taken: int
) -> None:
    network = FlowRung("planar-scale-loc", within=within)
    monkeypatch.setattr(climb, "RUNGS", (GaussianRung(), network))
    found = ladder_of(skewed(), compile_kwargs={"mode": "FAST_COMPILE"})
    assert len(found.ladder.rungs) == taken


def test_weights_of_a_poor_fit_are_no_answer() -> None:
    class Ground:
        best = (
            None,
            pmf.diagnose(
                pmf.NormalizingFlow(
                    "scale-loc",
                    model=gaussian([0.0], [[1.0]]),
                    frame=pmf.Frame(np.zeros(1), 0.1 * np.eye(1)),
                    jitter=0.0,
                    random_seed=1,
                ),
                random_seed=1,
            ),
        )

    assert not ResampledRung().applies(Ground())  # type: ignore[arg-type]


@pytest.mark.parametrize("is_resampled", [True, False])
def test_what_is_resampled_is_not_resampled_again(*, is_resampled: bool) -> None:
    best = SimpleNamespace(is_resampled=is_resampled)
    found = SimpleNamespace(verdict="usable after importance resampling")
    ground: Any = SimpleNamespace(best=(best, found))
    assert ResampledRung().applies(ground) is not is_resampled


@pytest.mark.slow
class TestClimb:
    def test_a_skewed_posterior_ends_with_a_reliable_flow(self, approx: Any) -> None:
        ladder = approx.ladder
        assert ladder.rungs[0].diagnosis.verdict != "reliable"
        assert ladder.taken >= 1
        assert approx.diagnosis is ladder.rungs[ladder.taken].diagnosis
        assert approx.diagnosis.verdict == "reliable"
        assert approx.diagnosis.elbo == max(rung.diagnosis.elbo for rung in ladder.rungs)
        taken = [r.formula for r in ladder.rungs[: ladder.taken + 1] if r.formula != "resampled"]
        assert str(approx.formula) == taken[-1]

    def test_the_draws_are_those_of_the_posterior(self, approx: Any) -> None:
        found = np.sort(approx.sample(4_000, random_seed=1)["posterior"]["g"].values.ravel())
        shares = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
        expected = -np.log1p(-shares) / 2  # quantiles of the exponential distribution
        # probability that the fit gives to what lies below them
        below = np.searchsorted(found, expected) / len(found)
        np.testing.assert_allclose(below, shares, atol=0.03)


@pytest.fixture
def networks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the Gaussian."""
    kept = (rung for rung in RUNGS if isinstance(rung, GaussianRung | FlowRung))
    monkeypatch.setattr(climb, "RUNGS", tuple(kept))


@pytest.mark.slow
@pytest.mark.usefixtures("networks_only")
class TestWhatGoesWrong:
    """In a flow: the Gaussian is there already."""

    def climb(self, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]) -> Any:
        calls = []

        def fit(inference: pmf.NFVI, *_: Any, **__: Any) -> None:
            calls.append(str(inference.approx.formula))
            raise error("made up")

        monkeypatch.setattr(pmf.NFVI, "carry_out", fit)
        with pytest.warns(FitWarning, match="best of"):
            approx = pmf.fit(model=skewed(), random_seed=1, restarts=1, **PYTHON)
        assert calls
        assert approx.ladder.taken == 0
        return approx

    def test_a_flow_that_fails(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING, "pmflow"):
            approx = self.climb(monkeypatch, NonFiniteError)
        assert "left out: made up" in caplog.text
        flows = approx.ladder.rungs[1:]
        assert flows
        assert all(rung.diagnosis is None for rung in flows)
        assert "can't be fitted" in str(flows[0])

    def test_an_interrupt(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert len(self.climb(monkeypatch, KeyboardInterrupt).ladder.rungs) == 1

    def test_no_further_flow_after_a_fit_that_was_stopped(self) -> None:
        def stop(*_: Any) -> None:
            raise StopIteration("enough")

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FitWarning)
            approx = pmf.fit(model=skewed(), random_seed=1, restarts=1, callbacks=[stop], **PYTHON)
        assert len(approx.ladder.rungs) == 2


class TestArguments:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"n": 100, "method": "auto"}, "chooses n by itself"),
            ({"obj_optimizer": pm.adam(learning_rate=0.1)}, "chooses obj_optimizer by itself"),
            ({"combine": "best"}, "chooses combine by itself"),
            ({"inf_kwargs": {"jitter": 1.0}}, "jitter can't be honoured"),
            ({"obj_nmc": 3}, "fit has no 'obj_nmc'"),
            ({"restarts": 0}, "restarts must be an integer >= 1"),
            ({"obj_n_mc": 0}, "obj_n_mc must be an integer >= 1"),
            ({"progressbar": 3}, "progressbar must be True or False"),
            ({"estimator": "half"}, "estimator must be one of"),
            ({"callbacks": [3]}, "callbacks must be callable"),
        ],
    )
    def test_bad_ones_are_refused_first(
        self, given: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(auto, "Climb", None)  # nothing is begun
        with pytest.raises(ParameterError, match=message):
            pmf.fit(model=skewed(), **given)

    def test_discrete_variables(self) -> None:
        with pm.Model() as model:
            pm.Poisson("k", 3.0)
        with pytest.raises(NotContinuousError, match="k is discrete"):
            pmf.fit(model=model)

    def test_with_n_it_is_one_flow(self) -> None:
        approx = pmf.fit(2, model=skewed(), random_seed=1, **PYTHON)
        assert str(approx.formula) == "scale-loc"
        assert approx.ladder is None
        assert approx.fit_state.ended == "steps"


@pytest.mark.slow
def test_a_long_search_has_fewer_starts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pmflow.ladder.rungs._SEARCH_WORK", 0)
    with caplog.at_level(logging.INFO, "pmflow"), warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        approx = pmf.fit(model=skewed(), random_seed=1, progressbar=False)
    assert "The search is long: 2 of 8 starts are taken." in caplog.text
    assert len(approx.starts.elbo) == 2


@pytest.mark.slow
def test_a_start_that_takes_much_longer_than_the_first_is_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pmflow.ladder.rungs._TIMES_LONGER", 1.0)
    real, moved = PlacedFlow.move, []

    def move(self: PlacedFlow, seed: int, spread: float = 1.0) -> None:
        moved.append(seed)
        while len(moved) == 3:  # as where a series does not converge
            tick()
            time.sleep(0.01)
        real(self, seed, spread)

    monkeypatch.setattr(PlacedFlow, "move", move)
    with caplog.at_level(logging.INFO, "pmflow"), warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        approx = pmf.fit(model=skewed(), random_seed=1, progressbar=False)
    assert "The search is long: 3 of 8 starts are taken." in caplog.text
    assert len(approx.starts.elbo) == 3
    assert approx.fit_state.ended == "converged"
    assert "given" not in caplog.text  # no budget was
