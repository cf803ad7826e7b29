"""Large fits: their memory, each in a process of its own, and how they begin."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pymc as pm
import pytest
from benchmarks.scale import measure_dim, measure_rows

import pmflow as pmf

pytestmark = pytest.mark.slow

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="RssAnon is known on Linux alone")

MATRIX = 10_000**2 * 8 / 2**20
"""Of so many dimensions squared, in MiB."""


@only_linux
def test_rows_on_disk_are_fitted_in_constant_memory() -> None:
    few, many = (measure_rows(rows, "set_data") for rows in (50_000, 3_000_000))
    growth = (many["peak"] - many["before"]) - (few["peak"] - few["before"])
    assert growth < 6  # MiB; the larger file has 23
    assert many["mean"] == pytest.approx(2.0, abs=0.2)


@only_linux
@pytest.mark.parametrize("formula", ["scale-loc", "lowrank[rank=10]-loc"])
def test_memory_is_linear_in_the_dimension(formula: str) -> None:
    found = measure_dim(formula, 10_000)
    assert found["peak"] - found["before"] < MATRIX / 4


MANY = 10_000
FAST: dict[str, Any] = {"compile_kwargs": {"mode": "FAST_COMPILE"}, "progressbar": False}


def standard_normal() -> pm.Model:
    """A target that every layer starts near: its log evidence is 0."""
    with pm.Model() as model:
        pm.Normal("x", shape=MANY)
    return model


# the mean loss is the divergence. A scale off by a jitter of 0.1 costs 0.004 nats, a location 0.005
@pytest.mark.parametrize(
    ("formula", "most"),
    [
        *(("lowrank", 6), ("lowrank[rank=10]", 6), ("lowrank[rank=10]-loc", 12), ("scale-loc", 12)),
        *(("planar", 6), ("planar*4", 20), ("radial", 1), ("sylvester", 1), ("hh*3", 1)),
        *(("sylvester[m=10]", 1), ("coupling[hidden=8]", 40), ("spline[hidden=0]", 40)),
        *(("sinh", 40), ("iaf[hidden=8]", 40)),
    ],
)
def test_the_start_is_near_the_base_in_any_dimension(formula: str, most: float) -> None:
    vi = pmf.NFVI(formula, model=standard_normal(), random_seed=1)
    vi.fit(1, obj_n_mc=8, obj_optimizer=pm.sgd(learning_rate=0.0), **FAST)
    # nats per thousand dimensions; noise of the loss is far below that
    assert -0.1 < vi.hist[0] / MANY * 1000 < most


def test_lowrank_is_trained_in_many_dimensions() -> None:
    # one direction of sd 10 among 10,000, against the best diagonal flow's loss
    direction = np.random.default_rng(1).standard_normal(MANY)
    direction /= np.linalg.norm(direction)
    with pm.Model() as model:
        x = pm.Flat("x", shape=MANY)
        along = x @ direction
        pm.Potential("p", -0.5 * ((x**2).sum() - along**2 * (1 - 0.1**2)))
    vi = pmf.NFVI("lowrank[rank=10]", model=model, random_seed=1)
    vi.fit(250, obj_n_mc=8, **FAST)
    losses = vi.hist - -0.5 * MANY * np.log(2 * np.pi)
    assert losses[:5].mean() < 100
    assert losses[-20:].mean() < losses[:20].mean() - 10
    assert losses.max() < losses[0] + 50
