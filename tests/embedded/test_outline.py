"""Which variables of a model meet, as its user sees it."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest

import pmflow as pmf
from pmflow.errors import ParameterError, UnsupportedError
from pmflow.plots import plot_structure


def hierarchy() -> pm.Model:
    with pm.Model() as model:
        tau = pm.HalfNormal("tau", 1.0)
        u = pm.Normal("u", 0.0, tau, shape=100)
        x = pm.GaussianRandomWalk("x", 0.0, 0.1, init_dist=pm.Normal.dist(), shape=50)
        pm.Poisson("y", pm.math.exp(u + x[np.arange(100) // 2]), observed=np.arange(100) % 5)
    return model


def test_it_says_what_each_variable_is() -> None:
    found = pmf.structure(hierarchy())
    assert found.roles == {"tau_log__": "global", "u": "local", "x": "chained"}
    # tau with all of u, u with itself and one of x, x with itself and its two neighbours
    assert found.pattern.nnz == 1 + 2 * 100 + 100 + 2 * 100 + 50 + 2 * 49
    assert str(found).splitlines() == [
        "151 dimensions, 649 pairs that meet (2.85% of all)",
        "  tau_log__         1  global",
        "  u               100  local",
        "  x                50  chained",
    ]


def test_many_that_meet_are_joined() -> None:
    rows = np.random.default_rng(1).normal(size=(60, 30))
    with pm.Model() as model:
        b = pm.Normal("b", shape=30)
        pm.Normal("y", rows @ b, 1.0, observed=np.zeros(60))
    assert pmf.structure(model).roles == {"b": "joined"}


def test_what_cannot_be_read_is_an_error() -> None:
    with pm.Model() as model:
        x = pm.Normal("x", shape=2_000)
        pm.Potential("all", -pm.math.logsumexp(x))
    with pytest.raises(UnsupportedError, match="nearly all of its variables meet"):
        pmf.structure(model)


def test_the_figure_has_each_variable_as_a_block() -> None:
    found = pmf.structure(hierarchy())
    (ax,) = plot_structure(found).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "tau_log__ (1)",
        "u (100)",
        "x (50)",
    ]
    assert ax.get_title() == "151 coordinates, 649 pairs meet"
    (image,) = ax.images
    drawn = np.asarray(image.get_array())
    tau, u, x = (round(at) for at in ax.get_yticks())
    assert drawn[tau, u] == pytest.approx(1.0)
    assert drawn[tau, x] == 0.0
    assert drawn[u, u + 20] == 0.0
    assert drawn == pytest.approx(drawn.T)


def test_a_model_is_no_structure() -> None:
    with pytest.raises(ParameterError, match=r"Use plot_structure\(pmflow.structure\(model\)\)"):
        plot_structure(hierarchy())
