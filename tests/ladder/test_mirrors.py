"""Posteriors with mirror images, fitted without being told of them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm
import pytest
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import norm

import pmflow as pmf
from pmflow.errors import FitWarning, ParameterError
from pmflow.ladder import climb
from pmflow.ladder.rungs import GaussianRung

DATA = np.random.default_rng(3).normal(np.array([-2.0, 2.0])[np.arange(60) % 2], 1.0)
WIDTH = 5.0
PYTHON: dict[str, Any] = {"random_seed": 1, "progressbar": False, "restarts": 6}


@pytest.fixture(scope="module")
def model() -> pm.Model:
    with pm.Model() as made:
        mu = pm.Normal("mu", 0.0, WIDTH, shape=2)
        pm.NormalMixture("y", w=[0.5, 0.5], mu=mu, sigma=1.0, observed=DATA)
    return made


@pytest.fixture(scope="module")
def grid() -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Means of both parts, the posterior there, and the log evidence."""
    at = np.linspace(-5.0, 5.0, 401)
    mu = np.stack(np.meshgrid(at, at, indexing="ij"), -1)
    parts = np.stack([norm.logpdf(DATA[:, None], at)] * 2)  # of either part
    both = np.logaddexp(parts[0][:, :, None], parts[1][:, None, :]) - np.log(2)
    log_p = both.sum(0) + norm.logpdf(mu, 0.0, WIDTH).sum(-1)
    evidence = logsumexp(log_p) + 2 * np.log(at[1] - at[0])
    return mu, np.exp(log_p - logsumexp(log_p)), float(evidence)


@pytest.fixture(scope="module")
def approx(model: pm.Model) -> pmf.Approximation:
    found = pmf.fit(model=model, **PYTHON)
    assert isinstance(found, pmf.Approximation)
    return found


def test_all_images_are_returned(approx: pmf.Approximation, grid: Any) -> None:
    mu, p, evidence = grid
    found = approx.diagnosis
    assert found.verdict == "reliable"
    assert (found.images, approx.images) == (2, 2)
    assert abs(found.log_evidence - evidence) < 3 * found.log_evidence_se + 1e-3
    z = np.asarray(approx.sample(8_000, random_seed=1)["posterior"]["mu"])[0]
    np.testing.assert_allclose((z[:, 0] > z[:, 1]).mean(), 0.5, atol=0.01)
    high, low = np.maximum(*np.moveaxis(mu, -1, 0)), np.minimum(*np.moveaxis(mu, -1, 0))
    for seen, exact in ((z.max(1), high), (z.min(1), low)):
        mean = (p * exact).sum()
        sd = np.sqrt((p * (exact - mean) ** 2).sum())
        assert abs(seen.mean() - mean) < 0.06 * sd
        assert seen.std() == pytest.approx(sd, rel=0.05)


def test_starts_in_several_images_found_one_mode(approx: pmf.Approximation) -> None:
    assert approx.starts is not None
    assert set(approx.starts.modes) == {0}
    assert approx.starts.missed == 0.0


@pytest.mark.slow
def test_one_image_if_asked_for(model: pm.Model, grid: Any) -> None:
    approx = pmf.fit(model=model, symmetry="one", **PYTHON)
    assert approx.images == 1
    found = approx.diagnosis
    assert found.verdict == "reliable"
    assert "one of 2 mirror images" in found.reasons[-1]
    assert abs(found.log_evidence - (grid[2] - np.log(2))) < 0.05
    z = np.asarray(approx.sample(2_000, random_seed=1)["posterior"]["mu"])[0]
    assert (z[:, 0] > z[:, 1]).mean() in (0.0, 1.0)
    # it is known to whoever judges it again
    assert "one of 2 mirror images" in pmf.diagnose(approx, random_seed=1).reasons[-1]


@pytest.mark.slow
def test_too_many_to_return_are_not_reliable(model: pm.Model, monkeypatch: Any) -> None:
    monkeypatch.setattr("pmflow.posterior.symmetry.MOST_IMAGES", 1)
    monkeypatch.setattr("pmflow.ladder.mirrors.MOST_IMAGES", 1)
    monkeypatch.setattr(climb, "RUNGS", (GaussianRung(),))
    with pytest.warns(FitWarning, match="one of more than 1 mirror images"):
        approx = pmf.fit(model=model, **{**PYTHON, "restarts": 1})
    assert approx.diagnosis.verdict == "not reliable"


@pytest.mark.slow
def test_images_that_a_large_fit_leaves_out_are_told() -> None:
    """The signs of two factors of one number each, and their groups."""
    rng = np.random.default_rng(1)
    with pm.Model() as model:
        slope = pm.Normal("slope", 0.0, 1.0)
        score = pm.Normal("score", 0.0, 1.0, shape=45)
        pm.Normal("y", slope * score, 0.1, observed=rng.normal(0.0, 1.0, 45))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        approx = pmf.fit(model=model, **PYTHON)
    found = approx.diagnosis
    assert approx.images == 2 or found.verdict != "reliable"


def test_others_pay_nothing() -> None:
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 1.0, shape=2)
        pm.Normal("y", mu, 1.0, observed=[1.0, 3.0])
    approx = pmf.fit(model=model, **PYTHON)
    assert isinstance(approx, pmf.NormalizingFlow)
    assert approx.report.images is None


@pytest.mark.parametrize("symmetry", ["both", None, 1])
def test_what_is_no_choice_is_refused(model: pm.Model, symmetry: Any) -> None:
    with pytest.raises(ParameterError, match="symmetry must be 'all' or 'one'"):
        pmf.fit(model=model, symmetry=symmetry)


@pytest.mark.slow
def test_a_climb_that_is_resumed_knows_the_choice(model: pm.Model, tmp_path: Path) -> None:
    path = tmp_path / "climb.safetensors"
    found = pmf.fit(model=model, symmetry="one", checkpoint=path, **PYTHON)
    again = pmf.resume(path, model, progressbar=False)
    assert (found.images, again.images) == (1, 1)
    assert again.diagnosis.reasons == found.diagnosis.reasons


def test_images_are_found_by_minibatches_too() -> None:
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, WIDTH, shape=2)
        rows = pm.Minibatch(DATA, batch_size=20)
        pm.NormalMixture("y", w=[0.5, 0.5], mu=mu, sigma=1.0, observed=rows, total_size=len(DATA))
    approx = pmf.fit(model=model, **PYTHON)
    assert approx.images == 2
    assert approx.diagnosis.verdict == "reliable"
