"""Fits from several starts: their evidence, their mixture, and what a failing start leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytest
from models import gaussian
from scipy import stats

import pmflow as pmf
from pmflow.errors import NonFiniteError, ParameterError, UnsupportedError
from pmflow.family.stack import Stack
from pmflow.starts.restarts import StartsState, fit_from_starts

pytestmark = pytest.mark.slow

PYTHON: dict[str, Any] = {"compile_kwargs": {"mode": "FAST_COMPILE"}, "progressbar": False}

WEIGHTS, MEANS, SDS = [0.7, 0.3], [-5.0, 5.0], [0.5, 1.0]


def two_modes() -> pm.Model:
    with pm.Model(coords={"axis": ["a", "b"]}) as model:
        pm.Mixture("x", WEIGHTS, [pm.Normal.dist(m, s) for m, s in zip(MEANS, SDS, strict=True)])
        pm.Normal("y", 1.0, 2.0, dims="axis")
    return model


def target(points: np.ndarray) -> np.ndarray:
    parts = [w * stats.norm(m, s).pdf(points) for w, m, s in zip(WEIGHTS, MEANS, SDS, strict=True)]
    return np.sum(parts, axis=0)


@pytest.fixture(scope="module")
def inference() -> pmf.NFVI:
    # the Gaussian of each mode is the mode: there is nothing to train
    return pmf.NFVI("scale-loc", model=two_modes(), random_seed=3, jitter=0.0, frame="gaussian")


@pytest.fixture(scope="module")
def stack(inference: pmf.NFVI) -> Stack:
    found = inference.fit(0, restarts=6, combine="stack", **PYTHON)
    assert isinstance(found, Stack)
    return found


class TestStack:
    def test_the_weights_are_those_of_the_modes(self, stack: Stack) -> None:
        assert stack.starts is not None
        assert len(set(stack.starts.modes)) == 2
        np.testing.assert_allclose(np.sort(stack.weights), [0.3, 0.7], atol=0.02)

    def test_the_draws_are_those_of_the_mixture(self, stack: Stack) -> None:
        draws = stack.sample(4_000, random_seed=1)["posterior"].to_dataset()
        assert draws["y"].dims == ("chain", "draw", "axis")
        x = draws["x"].values.ravel()
        assert (x < 0).mean() == pytest.approx(0.7, abs=0.02)
        assert x[x < 0].std() == pytest.approx(0.5, rel=0.05)
        assert x[x > 0].std() == pytest.approx(1.0, rel=0.07)
        # in random order: neighbours have nothing in common
        assert abs(np.corrcoef(x[1:], x[:-1])[0, 1]) < 0.06

    def test_the_density_is_normalised_and_that_of_the_target(self, stack: Stack) -> None:
        grid = np.linspace(-12, 12, 4_001)
        # at the mean of y, whose density there is known
        points = np.column_stack([grid, np.ones((len(grid), 2))])
        density = np.exp(stack.log_prob(points)) / stats.norm(1, 2).pdf(1) ** 2
        assert density.sum() * (grid[1] - grid[0]) == pytest.approx(1.0, abs=0.02)
        np.testing.assert_allclose(density, target(grid), atol=0.02)
        np.testing.assert_allclose(stack.log_prob(points[7]), stack.log_prob(points)[7])

    def test_sample_says_the_density_of_its_draws(self, stack: Stack) -> None:
        found = stack.sample(50, random_seed=2)
        draws = found["posterior"].to_dataset()
        points = np.column_stack([draws["x"].values[0], draws["y"].values[0]])
        log_q, log_p = (found["sample_stats"].to_dataset()[n].values[0] for n in ("log_q", "log_p"))
        np.testing.assert_allclose(log_q, stack.log_prob(points))
        expected = np.log(target(points[:, 0])) + stats.norm(1, 2).logpdf(points[:, 1:]).sum(1)
        np.testing.assert_allclose(log_p, expected, rtol=1e-6)

    def test_the_same_seed_gives_the_same_draws(self, stack: Stack) -> None:
        one, two, other = (stack.sample(20, random_seed=s)["posterior"]["x"] for s in (1, 1, 2))
        np.testing.assert_array_equal(one, two)
        assert not np.array_equal(one, other)

    @pytest.mark.parametrize("draws", [1, 2, 5])
    def test_few_draws(self, stack: Stack, draws: int) -> None:
        assert stack.sample(draws, random_seed=1)["posterior"].sizes["draw"] == draws

    def test_it_is_diagnosed_and_resampled(self, stack: Stack) -> None:
        found = pmf.diagnose(stack, random_seed=1)
        assert found.kl < 0.01
        assert found.starts is stack.starts
        assert found.verdict == "reliable"
        assert found.log_evidence == pytest.approx(0.0, abs=0.02)
        kept = pmf.importance_resample(stack, 500, random_seed=1)["posterior"].to_dataset()
        assert float((kept["x"] < 0).mean()) == pytest.approx(0.7, abs=0.03)

    def test_the_moments_are_of_all_modes(self, stack: Stack) -> None:
        assert float(stack.state.mean["x"]) == pytest.approx(0.7 * -5 + 0.3 * 5, abs=0.2)

    def test_it_leaves_the_flow_where_it_was(self, inference: pmf.NFVI, stack: Stack) -> None:
        point = [[-5.0, 1.0, 1.0]]
        before = inference.approx.log_prob(point)
        stack.sample(10)
        stack.log_prob(point)
        np.testing.assert_array_equal(inference.approx.log_prob(point), before)

    def test_it_is_not_trained(self, stack: Stack) -> None:
        with pytest.raises(ParameterError, match="not trained further"):
            pmf.NFVI(stack)
        with pytest.raises(UnsupportedError, match="several fits"):
            stack.sample_node(stack.model["x"])


def test_sample_starts_has_a_chain_for_each_start(inference: pmf.NFVI, stack: Stack) -> None:
    assert stack.starts is not None
    found = inference.sample_starts(200, random_seed=1)
    posterior = found["posterior"].to_dataset()
    assert dict(posterior.sizes) == {"chain": 6, "draw": 200, "axis": 2}
    np.testing.assert_array_equal(posterior.chain, np.arange(6))
    of_chain = (posterior["x"].mean("draw") > 0).values
    mode = np.array(stack.starts.modes)
    assert all(len(set(of_chain[mode == m].tolist())) == 1 for m in (0, 1))
    assert found["sample_stats"]["log_q"].shape == (6, 200)


def test_the_best_is_the_heavier_mode() -> None:
    inference = pmf.NFVI(model=two_modes(), random_seed=3, jitter=0.0, frame="gaussian")
    approx = inference.fit(0, restarts=6, **PYTHON)
    assert approx is inference.approx
    assert approx.starts is not None
    assert approx.starts.missed == pytest.approx(0.3, abs=0.02)
    assert float(approx.sample(100)["posterior"]["x"].mean()) == pytest.approx(-5, abs=0.3)
    # a fit from one start knows nothing of others
    inference.fit(1, **PYTHON)
    assert inference.approx.starts is None
    with pytest.raises(ParameterError, match="one start only"):
        inference.sample_starts()


def test_trained_starts_of_one_mode_agree() -> None:
    model = gaussian([1.0, -1.0], [[1.0, 0.5], [0.5, 2.0]])
    inference = pmf.NFVI("tril-loc", model=model, random_seed=1)
    approx = inference.fit(
        150, obj_n_mc=16, restarts=3, combine="stack", estimator="path",
        obj_optimizer=pm.adam(learning_rate=0.05), **PYTHON,
    )  # fmt: skip
    assert approx is inference.approx  # one mode needs no mixture
    assert approx.starts is not None
    assert set(approx.starts.modes) == {0}
    assert approx.starts.missed == 0
    assert inference.hist.shape == (450,)
    firsts = inference.hist[[0, 150, 300]]
    assert np.ptp(firsts) > 0.1  # each start is elsewhere
    assert approx.fit_state is not None
    assert approx.fit_state.steps == 150


class TestFailures:
    """Of some of the starts, with a training that is made up."""

    def run(self, outcomes: list[type[BaseException] | None]) -> pmf.Approximation:
        approx = pmf.NormalizingFlow("loc", model=gaussian([0.0], [[1.0]]), random_seed=1, jitter=0)
        here, left = approx.params[0], list(enumerate(outcomes))

        def fit_once(_: StartsState) -> None:
            number, error = left.pop(0)
            here.set_value([0.2 * number])
            if error is not None:
                raise error("made up")

        return fit_from_starts(approx, [lambda: None] * (len(outcomes) - 1), "best", fit_once)

    def test_a_start_that_fails_is_left_out(self) -> None:
        approx = self.run([NonFiniteError, None, NonFiniteError, None])
        assert approx.starts is not None
        assert len(approx.starts.elbo) == 2
        assert float(approx.params[0].get_value()[0]) == pytest.approx(0.2)

    def test_the_only_one_left(self) -> None:
        approx = self.run([None, NonFiniteError])
        assert approx.starts is None
        assert float(approx.params[0].get_value()[0]) == 0.0

    def test_all_fail(self) -> None:
        with pytest.raises(NonFiniteError, match="made up"):
            self.run([NonFiniteError, NonFiniteError])

    def test_an_interrupt_keeps_the_fits_before_it(self) -> None:
        approx = self.run([None, None, KeyboardInterrupt, None])
        assert approx.starts is not None
        assert len(approx.starts.elbo) == 2
        with pytest.raises(KeyboardInterrupt):
            self.run([KeyboardInterrupt, None])


class TestArguments:
    @pytest.mark.parametrize("restarts", [0, 1.5, True, "4"])
    def test_restarts(self, inference: pmf.NFVI, restarts: Any) -> None:
        with pytest.raises(ParameterError, match="restarts must be an integer >= 1"):
            inference.fit(1, restarts=restarts, **PYTHON)

    def test_combine(self, inference: pmf.NFVI) -> None:
        with pytest.raises(ParameterError, match="'best', 'stack', but is 'all'"):
            inference.fit(1, restarts=2, combine="all", **PYTHON)

    def test_groups(self) -> None:
        with two_modes() as model:
            groups = [pmf.Group([model["x"]], "planar"), pmf.Group(None, "scale-loc")]
            inference = pmf.NFVI(pmf.Approximation(groups))
        with pytest.raises(ParameterError, match="approximation of 2 groups"):
            inference.fit(1, restarts=2, **PYTHON)
        with pytest.raises(ParameterError, match="anneal=True needs one flow"):
            inference.fit(1, anneal=True, **PYTHON)
