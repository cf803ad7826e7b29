"""Searches that begin elsewhere: where they end at a frame that is known, it is that one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytest
from models import gaussian

import pmflow as pmf
from pmflow.frames import FoundFrame, build_frame
from pmflow.posterior.density import LogDensity


class Counted:
    """A density that counts the points it is asked for."""

    def __init__(self, density: LogDensity) -> None:
        self._density = density
        self.points = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._density, name)

    def value_and_gradient(self, z: Any) -> Any:
        self.points += len(z)
        return self._density.value_and_gradient(z)


def counted(model: pm.Model) -> Any:
    return Counted(pmf.NormalizingFlow("scale-loc", model=model).groups[0].log_density)


def found(density: Any, start: Any, known: tuple[FoundFrame, ...] = ()) -> FoundFrame:
    frame = build_frame("gaussian", density, np.asarray(start, dtype=float), 1, known)
    assert frame is not None
    return frame


def test_the_same_mode_is_not_searched_twice() -> None:
    density = counted(gaussian([3.0, -2.0], [[2.0, 1.9], [1.9, 2.0]]))
    first = found(density, [0.0, 0.0])
    before, density.points = density.points, 0
    assert found(density, [9.0, 5.0], (first,)) is first
    assert density.points < before / 3


def test_another_mode_is_found() -> None:
    with pm.Model() as model:
        pm.Mixture("x", [0.5, 0.5], [pm.Normal.dist(-6, 0.5), pm.Normal.dist(6, 0.8)])
    density = counted(model)
    left = found(density, [-5.0])
    right = found(density, [5.0], (left,))
    assert right is not left
    np.testing.assert_allclose([left.frame.loc[0], right.frame.loc[0]], [-6, 6], atol=0.05)
    assert found(density, [-8.0], (left, right)) is left
    assert found(density, [8.0], (left, right)) is right


@pytest.mark.slow
def test_without_a_mode_the_gaussian_itself_is_recognised() -> None:
    """A hierarchy that is centred: its density rises without end."""
    with pm.Model() as model:
        mu, tau = pm.Normal("mu", 0, 5), pm.HalfCauchy("tau", 5)
        theta = pm.Normal("theta", mu, tau, shape=8)
        pm.Normal("y", theta, 10.0, observed=[28.0, 8, -3, 7, -1, 1, 18, 12])
    density = counted(model)
    first = found(density, np.zeros(density.dim))
    rng = np.random.default_rng(2)
    ends = [found(density, rng.uniform(-2, 2, density.dim), (first,)) for _ in range(3)]
    assert sum(end is first for end in ends) >= 2


def test_few_draws_do_for_a_gaussian() -> None:
    density = counted(gaussian([3.0, -2.0], [[2.0, 1.9], [1.9, 2.0]]))
    found(density, [0.0, 0.0])
    assert density.points < 500


def test_a_flow_remembers_what_it_has_found() -> None:
    approx = pmf.NormalizingFlow(
        "scale-loc", model=gaussian([3.0], [[2.0]]), random_seed=1, jitter=0.0, frame="gaussian"
    )
    (group,) = approx.groups
    first = group.frame
    group.move(1)
    assert group.frame is first
    again = pmf.Approximation.from_state(approx.to_state(), approx.model).groups[0]
    again.move(2)
    np.testing.assert_array_equal(again.frame.factor, first.factor)
    assert len(again.to_state().found) == 1
