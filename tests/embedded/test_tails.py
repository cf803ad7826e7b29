"""Local variables whose densities go on for long: logarithms of what lies beyond a limit."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest
from pymc.distributions import transforms
from scipy.special import logsumexp
from scipy.stats import halfnorm, norm

import pmflow as pmf

pytestmark = pytest.mark.slow

LIMIT, ROWS = 2.0, 150
DATA = np.random.default_rng(1).normal(1.0, 2.0, ROWS)
SEEN = DATA[DATA < LIMIT]


@pytest.fixture(scope="module")
def approx() -> pmf.Approximation:
    """Values beyond the limit are imputed: given mean and sd each is a normal that is cut."""
    with pm.Model() as model:
        mu, sigma = pm.Normal("mu", 0.0, 5.0), pm.HalfNormal("sigma", 5.0)
        above = transforms.Interval(LIMIT, None)
        pm.Normal("beyond", mu, sigma, transform=above, shape=ROWS - len(SEEN))
        pm.Normal("seen", mu, sigma, observed=SEEN)
    made = pmf.fit(model=model, random_seed=1, progressbar=False)
    assert isinstance(made, pmf.EmbeddedLaplace)
    return made


def test_imputed_values_are_integrated_over(approx: pmf.EmbeddedLaplace) -> None:
    """Moments and evidence, beside those of a likelihood with the tail in it, on a grid."""
    at = np.linspace(-0.5, 2.5, 201), np.linspace(1.0, 3.5, 201)
    mu, sigma = np.meshgrid(*at, indexing="ij")
    log_p = norm.logpdf(mu, 0.0, 5.0) + halfnorm.logpdf(sigma, scale=5.0)
    log_p += norm.logpdf(SEEN[:, None, None], mu, sigma).sum(0)
    log_p += (ROWS - len(SEEN)) * norm.logsf(LIMIT, mu, sigma)
    p = np.exp(log_p - logsumexp(log_p))
    evidence = logsumexp(log_p) + sum(np.log(grid[1] - grid[0]) for grid in at)
    found = approx.diagnosis
    assert found.verdict == "reliable"
    assert approx.global_names == ["mu", "sigma_log__"]
    assert abs(found.log_evidence - evidence) < 0.05
    draws = approx.sample(4_000, random_seed=1)["posterior"]
    for name, value in (("mu", mu), ("sigma", sigma)):
        mean = (p * value).sum()
        sd = np.sqrt((p * (value - mean) ** 2).sum())
        seen = np.asarray(draws[name]).ravel()
        assert abs(seen.mean() - mean) < 0.06 * sd
        assert seen.std() == pytest.approx(sd, rel=0.05)


def test_their_tails_are_exponential(approx: pmf.EmbeddedLaplace) -> None:
    """How near to the limit they lie: as often as a density that is not 0 there says."""
    draws = approx.sample(4_000, random_seed=2)["posterior"]
    mu, sigma = (np.asarray(draws[name])[0, :, None] for name in ("mu", "sigma"))
    beyond = np.asarray(draws["beyond"])[0]
    assert (beyond > LIMIT).all()
    seen = norm.sf(beyond, mu, sigma) / norm.sf(LIMIT, mu, sigma)  # uniform, if drawn right
    for level in (0.001, 0.01, 0.5, 0.99, 0.999):
        assert (seen < level).mean() == pytest.approx(level, rel=0.1, abs=0.0005)
    assert (seen > 0.999).mean() == pytest.approx(0.001, rel=0.1)
