"""Draws that are weighted and chosen anew, from a proposal that is off by a known amount."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from models import gaussian
from scipy.stats import norm

import pmflow as pmf
from pmflow.errors import ParameterError, UnsupportedError

MEAN, SD = 0.3, 0.8


def draws_of(approx: pmf.Approximation, number: int, seed: int) -> Any:
    """Draws of z, shape (number,)."""
    return np.asarray(approx.sample(number, random_seed=seed)["posterior"]["z"]).ravel()


@pytest.fixture(scope="module")
def proposal() -> pmf.NormalizingFlow:
    """N(0, 1) for a posterior N(0.3, 0.8^2), whose evidence is 1."""
    frame = pmf.Frame(np.zeros(1), np.eye(1))
    return pmf.NormalizingFlow(
        "scale-loc", model=gaussian([MEAN], [[SD**2]]), random_seed=1, jitter=0.0, frame=frame
    )


@pytest.fixture(scope="module")
def approx(proposal: pmf.NormalizingFlow) -> pmf.Resampled:
    found = pmf.diagnose(proposal, 20_000, random_seed=1)
    return pmf.Resampled(proposal, found.log_evidence, found.ess, proposal.report)


def test_its_draws_are_those_of_the_posterior(approx: pmf.Resampled) -> None:
    z = draws_of(approx, 20_000, 2)
    assert z.mean() == pytest.approx(MEAN, abs=0.02)
    assert z.std() == pytest.approx(SD, abs=0.02)
    # far more than two candidates a draw are never needed, and few draws are there twice
    assert len(np.unique(z)) > 0.8 * len(z)


def test_the_proposal_is_off(proposal: pmf.NormalizingFlow, approx: pmf.Resampled) -> None:
    assert approx.proposal is proposal
    assert proposal.proposal is proposal
    assert abs(draws_of(proposal, 20_000, 2).mean()) < 0.03


def test_its_density_is_that_of_the_posterior(approx: pmf.Resampled) -> None:
    at = np.linspace(-2, 2, 9)
    np.testing.assert_allclose(approx.log_prob(at[:, None]), norm.logpdf(at, MEAN, SD), atol=0.02)
    found = approx.sample(50, random_seed=1)
    z = np.asarray(found["posterior"]["z"]).reshape(-1, 1)
    log_p, log_q = (np.asarray(found["sample_stats"][name]).ravel() for name in ("log_p", "log_q"))
    np.testing.assert_allclose(log_q, approx.log_prob(z))
    np.testing.assert_allclose(log_p - log_q, approx.log_evidence)


def test_the_same_seed_gives_the_same_draws(approx: pmf.Resampled) -> None:
    one, two, other = (draws_of(approx, 7, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


def test_its_diagnosis_is_about_its_draws(
    approx: pmf.Resampled, proposal: pmf.NormalizingFlow
) -> None:
    assert pmf.diagnose(proposal, random_seed=3).verdict == "usable after importance resampling"
    found = pmf.diagnose(approx, random_seed=3)
    assert found.verdict == "reliable"
    assert found.advice == ()
    assert "weighted and chosen anew" in found.reasons[0]


def test_weights_that_lead_nowhere_are_not_reliable() -> None:
    frame = pmf.Frame(np.zeros(1), 0.2 * np.eye(1))  # far too narrow
    narrow = pmf.NormalizingFlow(
        "scale-loc", model=gaussian([0.0], [[1.0]]), random_seed=1, jitter=0.0, frame=frame
    )
    found = pmf.diagnose(pmf.Resampled(narrow, 0.0, 0.5, narrow.report), random_seed=1)
    assert found.verdict == "not reliable"
    assert found.advice


def test_it_is_not_trained(approx: pmf.Resampled) -> None:
    with pytest.raises(UnsupportedError, match=r"approx\.proposal"):
        approx.sample_node(approx.model["z"])
    with pytest.raises(ParameterError, match="Train its `proposal`"):
        pmf.NFVI(approx)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"log_evidence": np.nan}, "log_evidence must be a finite number"),
        ({"ess": 0.0}, "ess must be above 0"),
        ({"ess": 1.5}, "at most 1"),
    ],
)
def test_wrong_numbers(proposal: pmf.NormalizingFlow, wrong: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"log_evidence": 0.0, "ess": 0.5, "report": proposal.report} | wrong
    with pytest.raises(ParameterError, match=message):
        pmf.Resampled(proposal, **given)
