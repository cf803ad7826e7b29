"""Global variables of which some draws are so far out that their sd is not known by the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pymc as pm
import pytest

import pmflow as pmf
from pmflow.judging.nested import nested_judgement, nested_shifts
from pmflow.ladder import climb
from pmflow.ladder.nested import NestedRung


@pytest.fixture(scope="module")
def approx() -> pmf.EmbeddedLaplace:
    rng = np.random.default_rng(1)
    with pm.Model() as model:
        mu, scale = pm.Normal("mu", 0.0, 2.0), pm.HalfNormal("scale", 1.0)
        effect = pm.Normal("effect", mu, scale, shape=60)
        pm.Normal("y", effect, 0.7, observed=rng.normal(size=60))
    found = pmf.fit(model=model, random_seed=1, progressbar=False)
    assert isinstance(found, pmf.EmbeddedLaplace)
    return found


def test_tails_are_of_the_global_variables_as_the_user_sees_them(
    approx: pmf.EmbeddedLaplace,
) -> None:
    tails = approx.check(1).tails
    assert set(tails) == {"scale"}
    assert tails["scale"] < 0.5


def test_one_that_is_far_out_is_named(approx: pmf.EmbeddedLaplace) -> None:
    check = approx.check(1)
    shifts = nested_shifts(check, approx.coordinate_names)
    assert nested_judgement(check, shifts)[0]
    is_good, reasons = nested_judgement(replace(check, tails={"scale": 0.9}), shifts)
    assert not is_good
    assert any("scale is so far out" in reason and "0.90" in reason for reason in reasons)


@pytest.mark.slow
def test_a_level_that_its_scale_may_let_go_is_not_called_reliable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sd of the level is 3.7 by NUTS, and 2.4 by draws of global variables: a funnel."""
    rng = np.random.default_rng(1)
    y = rng.poisson(np.exp(1 + 0.4 * rng.normal(size=30)))
    with pm.Model() as model:
        share = pm.Beta("share", 1.0, 1.0)
        level = pm.Normal("level", 0.0, 1 / pm.math.sqrt(1 - share + 1e-6))
        mean, scale = pm.Normal("mean", 0.0, 30.0), pm.HalfNormal("scale", 1.0)
        effect = pm.Normal("effect", 0.0, scale, shape=30)
        pm.Poisson("y", pm.math.exp(mean + level + effect), observed=y)
    monkeypatch.setattr(climb, "RUNGS", (NestedRung(),))
    with pytest.warns(pmf.errors.FitWarning, match="not reliable"):
        approx = pmf.fit(model=model, random_seed=1, progressbar=False)
    assert isinstance(approx, pmf.EmbeddedLaplace)
    assert max(approx.check(0).tails.values()) > 0.63
