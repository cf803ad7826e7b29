"""Where a fit begins, where PyMC's own initial point is none."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest
from pymc.distributions import transforms

import pmflow as pmf
from pmflow.errors import ParameterError
from pmflow.posterior.start import LatentStart


def ordered() -> pm.Model:
    """Three ordered means, which PyMC puts at the same place."""
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 3.0, shape=3, transform=transforms.ordered)
        pm.Normal("y", mu, 1.0, observed=[-1.0, 0.5, 2.0])
    return model


def beyond() -> pm.Model:
    """Values above 5 of a normal around 0."""
    with pm.Model() as model:
        above = transforms.Interval(5.0, None)
        pm.Normal("x", 0.0, 3.0, shape=2, transform=above)
    return model


@pytest.mark.parametrize("build", [ordered, beyond])
def test_it_begins_inside_of_the_support(build: object) -> None:
    model = build()  # type: ignore[operator]
    (rv,) = model.free_RVs
    start = LatentStart(model, [rv], None)(1)
    assert np.isfinite(start).all()
    value = model.rvs_to_values[rv].name
    assert np.isfinite(model.compile_logp(mode="FAST_COMPILE")({value: start}))


@pytest.mark.slow
def test_a_fit_of_it_is_right() -> None:
    approx = pmf.fit(model=ordered(), random_seed=1, progressbar=False)
    mu = np.asarray(approx.sample(500, random_seed=1)["posterior"]["mu"])[0]
    assert (np.diff(mu, axis=1) > 0).all()
    assert approx.diagnosis.verdict == "reliable"


def test_what_the_user_gave_is_not_put_right() -> None:
    model = ordered()
    with pytest.raises(ParameterError, match="start must put 'mu' inside of its support"):
        LatentStart(model, model.free_RVs, {"mu": np.zeros(3)})(1)
