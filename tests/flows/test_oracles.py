"""Every layer is the one of its paper, and PyMC3's parameter values keep their meaning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numeric import numeric, points, random_params
from oracles import ORACLES, PYMC3

from pmflow.flows.catalogue import BUILT_IN, layer_class

SEEDS = range(5)
DIMS = (1, 2, 5)


def differences(oracle: Callable[..., Any], word: str, dim: int) -> list[float]:
    """How far map and log-det of a layer are from the oracle's, over points and parameters."""
    layer = layer_class(word)()
    found = []
    for seed in SEEDS:
        z, params = points(10, dim, seed=100 + seed), random_params(layer, dim, seed=seed)
        z_new, log_det = numeric(layer, dim).forward(z, params)
        for point, got, got_log_det in zip(z, z_new, log_det, strict=True):
            expected, expected_log_det = oracle(point, **params)
            scale = 1 + np.abs(expected).max()
            found += [np.abs(got - expected).max() / scale, abs(got_log_det - expected_log_det)]
    return found


def test_every_built_in_layer_has_an_oracle() -> None:
    assert set(ORACLES) == {cls.word for cls in BUILT_IN}


@pytest.mark.parametrize("dim", DIMS, ids="dim {}".format)
@pytest.mark.parametrize("word", ORACLES)
def test_a_layer_is_that_of_its_paper(word: str, dim: int) -> None:
    # 1e-12: the paper's forms lose up to 3 digits where pmflow's do not
    assert max(differences(ORACLES[word], word, dim)) < 1e-12


@pytest.mark.parametrize("dim", DIMS, ids="dim {}".format)
@pytest.mark.parametrize("word", PYMC3)
def test_pymc3s_parameter_values_give_the_same_map(word: str, dim: int) -> None:
    # 1e-8: PyMC3 adds 1e-10 to squared lengths, which here are down to 0.02
    assert max(differences(PYMC3[word], word, dim)) < 1e-8
