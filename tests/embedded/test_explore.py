"""Exploring the marginal of the global variables: a higher mode that draws come upon."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from latent import log_density
from numpy.typing import NDArray

from pmflow.embedded.conditional import Conditional
from pmflow.embedded.explore import HigherElsewhereError, explore
from pmflow.embedded.fit import fit_nested
from pmflow.embedded.marginal import find_centre
from pmflow.embedded.structure import read_pattern

LOW, HIGH, SD = 0.0, 2.5, 0.4
SHARE = 0.01
type Floats = NDArray[np.float64]


@cache
def conditional() -> Conditional:
    """A mean with a mode at 0 that has a hundredth, and ten variables around it."""
    with pm.Model() as model:
        mean = pm.Flat("mean")
        away = [pt.log(p) - ((mean - at) / SD) ** 2 / 2 for p, at in ((SHARE, LOW), (0.99, HIGH))]
        pm.Potential("modes", pt.logaddexp(*away))
        pm.Normal("u", mean, 1.0, shape=10)
    density = log_density(model)
    return Conditional(density, read_pattern(density), np.arange(11) == 0)


def test_draws_tell_of_a_mode_that_is_higher() -> None:
    centre = find_centre(conditional(), np.full(11, LOW))
    assert centre.z[0] == pytest.approx(LOW, abs=0.05)
    with pytest.raises(HigherElsewhereError) as caught:
        explore(conditional(), centre, 128, 1, 1_024, independent=False)
    assert caught.value.z[0] == pytest.approx(HIGH, abs=1.2)


def test_it_is_fitted_from_there() -> None:
    nested = fit_nested(conditional(), np.full(11, LOW), 1)
    assert nested.state.centre.z[0] == pytest.approx(HIGH, abs=0.05)
    draws, _ = nested.draws(4_000, 1)
    assert (draws[:, 0] < (LOW + HIGH) / 2).mean() == pytest.approx(SHARE, abs=0.01)
    assert draws[:, 0].mean() == pytest.approx(HIGH - SHARE * (HIGH - LOW), abs=0.05)


def test_integrals_that_move_the_marginal_by_many_sds_are_followed() -> None:
    counts = np.random.default_rng(1).poisson(1.0, 200)
    with pm.Model() as model:
        mean = pm.Normal("mean", 0.0, 10.0)
        u = pm.Normal("u", mean, 0.5, shape=200)
        pm.Poisson("y", pt.exp(u), observed=counts)
    density = log_density(model)
    seen = Conditional(density, read_pattern(density), np.arange(201) == 0)
    centre = find_centre(seen, np.zeros(201))
    wanted, near = explore(seen, centre, 128, 1, 1_024, independent=True)
    sd = centre.precision[0, 0] ** -0.5
    away = replace(centre, z=centre.predicted(seen, centre.z[None, :1] + 8 * sd)[0])
    found, _ = explore(seen, away, 128, 2, 1_024, independent=True)
    for one, other in zip(found.moments(near), wanted.moments(near), strict=True):
        assert one == pytest.approx(other, rel=0.1, abs=0.05 * sd)
    # where they are Gaussian, the centre is the mode of the same marginal: there is another one
    with pytest.raises(HigherElsewhereError):
        explore(seen, away, 128, 2, 1_024, independent=False)
