"""Densities over latent vectors: a model's, and those that a test writes down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import NDArray

import pmflow as pmf
from pmflow.embedded.globals import Held
from pmflow.embedded.structure import read_structure
from pmflow.ladder.structured import density_at_start
from pmflow.posterior.density import LogDensity, density_over

__all__ = ["Array", "density_of", "log_density", "model_of"]

type Array = NDArray[np.float64]


def model_of(log_density: Callable[[Any], Any], dim: int) -> pm.Model:
    """A model whose log density is a graph of its latent vector, and nothing else."""
    with pm.Model() as model:
        x = pm.Flat("x", shape=dim)
        pm.Potential("density", log_density(pt.as_tensor(x)))
    return model


def log_density(model: pm.Model) -> LogDensity:
    return density_over(model, pmf.NormalizingFlow("loc", model=model).ordering)


def density_of(graph: Callable[[Any], Any], dim: int) -> LogDensity:
    return log_density(model_of(graph, dim))


def held_of(model: pm.Model) -> Held:
    """Its structure, as the ladder reads it."""
    flow = pmf.NormalizingFlow("scale-loc", model=model, jitter=0.0, random_seed=1)
    return read_structure(*density_at_start(flow), 1)
