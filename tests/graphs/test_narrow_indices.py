"""Random walks of more steps than eight bits count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest

import pmflow as pmf
from pmflow.graphs.evaluate import compile_once


def walk(steps: int) -> pm.Model:
    with pm.Model() as model:
        start = pm.Normal.dist(0.0, 1.0)
        # beside another variable: the walk is a slice of the latent vector
        sigma = pm.HalfNormal("sigma")
        path = pm.GaussianRandomWalk("path", sigma=sigma, init_dist=start, shape=steps)
        pm.Normal("y", path, 1.0, observed=np.zeros(steps))
    return model


def test_a_long_walk_is_compiled_without_a_word(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    inference = pmf.NFVI(model=walk(200), random_seed=1)
    how: dict[str, Any] = {"compile_kwargs": {"mode": "FAST_COMPILE"}, "progressbar": False}
    inference.fit(2, **how)
    inference.approx.sample(2)
    assert inference.approx.log_prob(np.zeros(201)) < 0
    assert "Rewrite failure" not in "".join([*capfd.readouterr(), caplog.text])


@pytest.mark.parametrize("index", [0, 3, -1, 199])
def test_an_entry_of_a_slice_is_that_entry(index: int) -> None:
    x = pt.dvector("x")
    narrow = pt.constant(np.array(index, dtype="int16"))
    graph = x[5:205][narrow]
    values = np.arange(300.0)
    found, gradient = compile_once([x], [graph, pt.grad(graph, x)])(values)
    assert found == values[5:205][index]
    np.testing.assert_array_equal(np.flatnonzero(gradient), [values[5:205][index]])
