"""A fit as the prior of new rows."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pymc as pm
import pytest
from models import NOISE_SD, PRIOR_SD, conjugate_posterior
from scipy import stats

import pmflow as pmf
from pmflow.errors import ParameterError, UnsupportedError

QUIET: dict[str, Any] = {"random_seed": 1, "progressbar": False, "restarts": 2}
DATA = np.random.default_rng(2).normal(1.0, NOISE_SD, size=900)


def model() -> pm.Model:
    with pm.Model() as made:
        y = pm.Data("y", DATA[:3])
        pm.Normal("seen", pm.Normal("mu", 0.0, PRIOR_SD), NOISE_SD, observed=y)
    return made


@cache
def fit_of(begin: int, end: int) -> pmf.Approximation:
    approx: pmf.Approximation = pmf.fit(model=model(), rows={"y": DATA[begin:end]}, **QUIET)
    return approx


def log_evidence(data: np.ndarray) -> float:
    """Of a normal mean with a normal prior, in closed form."""
    covariance = NOISE_SD**2 * np.eye(len(data)) + PRIOR_SD**2
    return float(stats.multivariate_normal(cov=covariance).logpdf(data))


def test_rows_after_rows_give_the_posterior_of_all() -> None:
    approx = fit_of(0, 300)
    for begin in (300, 600):
        approx = pmf.update(approx, {"y": DATA[begin : begin + 300]}, **QUIET)
    mean, sd = conjugate_posterior(DATA)
    draws = approx.sample(20_000, random_seed=1).posterior["mu"].values
    assert draws.mean() == pytest.approx(mean, abs=0.04 * sd)
    assert draws.std() == pytest.approx(sd, rel=0.03)
    assert approx.diagnosis is not None
    assert approx.diagnosis.verdict == "reliable"


def test_log_evidences_add_up() -> None:
    first = fit_of(0, 300)
    second = pmf.update(first, {"y": DATA[300:600]}, **QUIET)
    assert first.diagnosis is not None
    assert second.diagnosis is not None
    total = first.diagnosis.log_evidence + second.diagnosis.log_evidence
    assert total == pytest.approx(log_evidence(DATA[:600]), abs=0.01)


def test_what_was_observed_once_counts_once() -> None:
    with pm.Model() as two:
        mu = pm.Normal("mu", 0.0, PRIOR_SD)
        pm.Normal("seen", mu, NOISE_SD, observed=pm.Data("y", DATA[:3]))
        pm.Normal("before", mu, NOISE_SD, observed=DATA[300:600])
        pm.Potential("again", pm.logp(pm.Normal.dist(mu, NOISE_SD), DATA[600:]).sum())
    approx = pmf.update(
        pmf.fit(model=two, rows={"y": DATA[:100]}, **QUIET), {"y": DATA[100:300]}, **QUIET
    )
    mean, sd = conjugate_posterior(DATA)
    draws = approx.sample(20_000, random_seed=1).posterior["mu"].values
    assert draws.mean() == pytest.approx(mean, abs=0.04 * sd)
    assert draws.std() == pytest.approx(sd, rel=0.03)


@pytest.mark.filterwarnings("ignore:Numba will use object mode")
def test_training_the_first_fit_on_does_not_move_the_prior() -> None:
    flow = pmf.NFVI("scale-loc", model=pmf.with_rows(model(), {"y": DATA[:300]}), random_seed=1)
    approx = flow.fit(
        300, obj_optimizer=pm.adam(learning_rate=0.05), progressbar=False, obj_n_mc=10
    )
    second = pmf.update(approx, {"y": DATA[300:]}, **QUIET)
    prior = second.model.compile_logp(vars=[second.model.potentials[0], second.model["mu"]])
    before, density = prior({"mu": 0.9}), approx.log_prob([[0.9]])
    assert before == pytest.approx(density[0], rel=1e-9)
    flow.refine(200, progressbar=False)
    assert abs(approx.log_prob([[0.9]])[0] - density[0]) > 1e-6
    prior = second.model.compile_logp(vars=[second.model.potentials[0], second.model["mu"]])
    assert prior({"mu": 0.9}) == before


def test_what_can_be_no_prior_is_refused() -> None:
    with pytest.raises(ParameterError, match="must be a fit of pmflow, but is of type str"):
        pmf.update("fit", {"y": DATA})  # type: ignore[arg-type]
    gaussian = fit_of(0, 300).proposal
    assert isinstance(gaussian, pmf.NormalizingFlow)
    stack = pmf.Stack(gaussian, [gaussian.point], [1.0], gaussian.report)
    with pytest.raises(UnsupportedError, match="density of a Stack is no graph"):
        pmf.update(stack, {"y": DATA})
