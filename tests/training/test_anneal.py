"""Annealing: how far a step may go, and what the loss is on the way."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from models import conjugate_normal, gaussian
from pymc.variational.operators import KL
from scipy import stats

import pmflow as pmf
from pmflow.graphs.evaluate import compile_once
from pmflow.objectives.estimators import AnnealedKL, PathKL, ReverseKL, best_estimator
from pmflow.objectives.fresh import FreshElbo
from pmflow.training.anneal import Annealing, next_share

PYTHON: dict[str, Any] = {"compile_kwargs": {"mode": "FAST_COMPILE"}, "progressbar": False}
MEAN, COV = [0.5, -1.0], [[2.0, -1.0], [-1.0, 3.0]]
START = np.array([2.0, 1.0])


class TestNextShare:
    @pytest.mark.parametrize("share", [0.0, 0.3])
    def test_of_two_weights_it_is_where_the_ess_is_four_fifths(self, share: float) -> None:
        # weights 1 and w: (1 + w)^2 / 2 / (1 + w^2) = 0.8 at 0.6 w^2 - 2 w + 0.6 = 0, w = 1 / 3
        ratio = np.tile([0.0, -50.0], 200)
        assert next_share(share, ratio) == pytest.approx(share + np.log(3) / 50, rel=1e-6)

    def test_of_normal_log_weights(self) -> None:
        # ratio x with x ~ N(0, s^2): the ESS of exp(t x) is exp(-t^2 s^2)
        ratio = 40 * stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000)
        assert next_share(0.0, ratio) == pytest.approx(np.sqrt(-np.log(0.8)) / 40, rel=1e-3)

    def test_equal_weights_go_all_the_way(self) -> None:
        assert next_share(0.0, np.full(100, -7.0)) == 1.0
        assert next_share(0.9, np.linspace(0, 0.1, 100)) == 1.0

    def test_draws_of_weight_zero_count_as_draws(self) -> None:
        ratio = np.r_[np.zeros(90), np.full(10, -np.inf)]
        assert next_share(0.0, ratio) == 1.0  # 90 of 100
        assert next_share(0.0, np.r_[np.zeros(70), np.full(30, -np.inf)]) == 0.005

    def test_there_is_always_some_way_forward(self) -> None:
        assert next_share(0.2, np.full(10, np.nan)) == pytest.approx(0.205)
        assert next_share(0.2, np.array([0.0, -1e9])) == pytest.approx(0.205)
        assert next_share(0.999, np.array([0.0, -1e9])) == 1.0


class FakeHandles:
    params: Any = np.empty(0)
    average = losses = np.empty(0)

    def __init__(self) -> None:
        self.annealed, self.learning_rate, self.accumulate = 1.0, 0.5, 4

    def put(self, params: Any) -> None: ...

    def set(self, **handles: float) -> None:
        vars(self).update(handles)

    def restart(self) -> None: ...

    def begin_average(self) -> None: ...


class FakeRatio:
    def values(self, seed: int) -> np.ndarray:
        return 10 * np.random.default_rng(seed).normal(size=1_000)


class TestSegments:
    def shares(self, rate: float | None) -> tuple[list[float], FakeHandles]:
        handles = FakeHandles()
        annealing = Annealing(FakeRatio(), 1, steps=30, rate=rate)  # type: ignore[arg-type]
        segments = iter(partial(annealing.next, handles), None)
        assert next(segments) == 1
        found = []
        for steps in segments:
            assert steps == 30
            found.append(handles.annealed)
        return found, handles

    def test_it_grows_to_the_posterior(self) -> None:
        shares, _ = self.shares(None)
        assert shares[-1] == 1.0
        assert (np.diff(shares) > 0).all()
        # a way of sqrt(-log 0.8) / 10 each time
        assert len(shares) == pytest.approx(10 / np.sqrt(-np.log(0.8)), abs=3)

    def test_the_rate_is_that_of_the_optimiser_or_the_one_given(self) -> None:
        assert self.shares(None)[1].learning_rate == 0.5
        given = self.shares(0.02)[1]
        assert (given.learning_rate, given.accumulate) == (0.02, 1)

    def test_after_an_interrupt_the_target_is_the_posterior(self) -> None:
        handles = FakeHandles()
        annealing = Annealing(FakeRatio(), 1)  # type: ignore[arg-type]
        segments = iter(partial(annealing.next, handles), None)
        assert [next(segments), next(segments)] == [1, 150]
        assert handles.annealed < 1
        annealing.finish(handles)
        assert handles.annealed == 1


def flow(**kwargs: Any) -> pmf.NormalizingFlow:
    start = {"z": START}
    return pmf.NormalizingFlow(
        "tril-loc", model=gaussian(MEAN, COV), random_seed=1, start=start, jitter=0.4, **kwargs
    )


def loss_of(approx: pmf.Approximation, operator: KL) -> Callable[..., Any]:
    noise = pt.matrix()
    given = {approx.groups[0].symbolic_initial: noise}
    return compile_once([noise], [operator(None)(5, more_replacements=given)])


@pytest.mark.slow
class TestObjective:
    noise = np.random.default_rng(3).standard_normal((5, 2))

    @pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
    @pytest.mark.parametrize("estimator", ["total", "path"])
    @pytest.mark.parametrize(
        "frame", [None, pmf.Frame(np.array([5.0, -5.0]), np.array([2.0, 0.5]))]
    )
    def test_the_loss_is_the_divergence_from_the_density_on_the_way(
        self, share: float, estimator: str, frame: pmf.Frame | None
    ) -> None:
        approx = flow(frame=frame)
        operator = AnnealedKL(approx, 1.0, estimator)
        operator.share.set_value(share)
        z = approx.groups[0].steps_at(pt.as_tensor(self.noise))[-1].eval(mode="FAST_COMPILE")
        logp = stats.multivariate_normal(MEAN, COV).logpdf(z)
        start = (
            stats.norm(START, 1) if frame is None else stats.norm([5.0, -5.0], [2.0, 0.5])
        ).logpdf(z)
        expected = approx.log_prob(z) - share * logp - (1 - share) * start.sum(-1)
        (loss,) = loss_of(approx, operator)(self.noise)
        assert loss == pytest.approx(expected.mean(), rel=1e-9)

    @pytest.mark.parametrize("beta", [1.0, 3.0])
    def test_at_its_end_it_is_the_divergence_from_the_posterior(self, beta: float) -> None:
        model = conjugate_normal(np.array([1.0, 2.0]))
        approx = pmf.NormalizingFlow("scale-loc", model=model, random_seed=1)
        noise = self.noise[:, :1]
        (annealed,) = loss_of(approx, AnnealedKL(approx, beta, "total"))(noise)
        (plain,) = loss_of(approx, KL(approx, beta=beta))(noise)
        assert annealed == pytest.approx(float(plain), rel=1e-10)

    def test_the_objective_has_it_where_it_is_asked_for(self) -> None:
        approx = flow()
        made = partial(ReverseKL().function, approx, 2.0, draws=1)
        annealed = made(estimator="path", anneal=True)
        assert isinstance(annealed.op, AnnealedKL)
        assert annealed.op.beta == 2.0
        assert isinstance(annealed.op.kl, PathKL)
        assert type(made(estimator="total", anneal=False).op) is KL
        assert best_estimator(approx) == "path"


class TestFresh:
    def test_log_weights_are_those_of_the_draws(self) -> None:
        approx = flow()
        found = FreshElbo(approx, draws=2_000)
        weights = found.values(1)
        np.testing.assert_array_equal(weights, found.values(1))
        assert not np.array_equal(weights, found.values(2))
        # closed form: KL(q || p) of two normals
        mean, cov = (getattr(approx, name).eval(mode="FAST_COMPILE") for name in ("mean", "cov"))
        precision, gap = np.linalg.inv(COV), np.array(MEAN) - mean
        kl = np.trace(precision @ cov) + gap @ precision @ gap - 2
        kl = (kl + np.log(np.linalg.det(COV) / np.linalg.det(cov))) / 2
        assert weights.mean() == pytest.approx(-kl, abs=5 * weights.std() / 2_000**0.5)

    def test_beta_weighs_prior_and_flow(self) -> None:
        data = np.array([1.0, 2.0])
        approx = pmf.NormalizingFlow("scale-loc", model=conjugate_normal(data), random_seed=1)
        draws = approx.sample(50, random_seed=7)
        mu = draws["posterior"].to_dataset()["mu"].values.ravel()
        datalogp = stats.norm(mu[:, None], 1).logpdf(data).sum(1)
        rest = stats.norm(0, 2).logpdf(mu) - approx.log_prob(mu[:, None])
        one, three = (FreshElbo(approx, 4_000, beta=beta).values(1) for beta in (1.0, 3.0))
        # the same draws: their difference is twice the part that beta weighs
        difference = (three - one).mean() / 2
        assert difference == pytest.approx(rest.mean(), abs=5 * rest.std() / 50**0.5)
        whole = datalogp + rest
        assert one.mean() == pytest.approx(whole.mean(), abs=5 * whole.std() / 50**0.5)

    def test_minibatches_are_many_and_the_same_by_the_same_seed(self) -> None:
        data = 30 * np.random.default_rng(2).normal(size=40)
        approx = pmf.NormalizingFlow(
            "scale-loc", model=conjugate_normal(data, batch=4), random_seed=1
        )
        found = FreshElbo(approx, draws=200)
        weights = found.values(1)
        np.testing.assert_array_equal(weights, found.values(1))
        # 20 draws share a minibatch: the means of these differ more than draws would
        batches = weights.reshape(10, 20)
        assert batches.mean(1).std() > 3 * batches.std(1).mean() / 20**0.5


@pytest.mark.slow
def test_a_fit_ends_at_the_posterior() -> None:
    model = gaussian([4.0, -4.0], COV)
    inference = pmf.NFVI("tril-loc", model=model, random_seed=1, start={"z": [0.0, 0.0]})
    adam = pm.adam(learning_rate=0.1)
    approx = inference.fit(
        400, anneal=True, estimator="path", obj_n_mc=4, obj_optimizer=adam, **PYTHON
    )
    assert pmf.diagnose(approx, random_seed=1).kl < 0.01
    assert approx.fit_state is not None
    assert approx.fit_state.ended == "steps"
    # a segment of 150 steps for each share on the way, and those asked for
    assert approx.fit_state.steps == len(inference.hist)
    assert (len(inference.hist) - 401) % 150 == 0
    assert len(inference.hist) >= 401 + 3 * 150
