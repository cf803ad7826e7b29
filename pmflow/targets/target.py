"""A density that is known up to a constant, as numbers and as a model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import ArrayLike, NDArray

from pmflow.checks import as_numbers
from pmflow.errors import ParameterError

__all__ = ["ROOT_2_PI", "Bounds", "Sampler", "Target"]

type Bounds = tuple[tuple[float, float], tuple[float, float]]
type Sampler = Callable[[int, np.random.Generator], NDArray[np.float64]]

ROOT_2_PI = math.sqrt(2 * math.pi)


@dataclass(frozen=True)
class Target:
    """A density known up to the constant that is stated.

    Attributes
    ----------
    name : str
    log_evidence : float
        Log of the integral of ``exp(log_density)``: the ELBO of a perfect fit.
    bounds : pair of pairs of float
        A window of the first two coordinates to plot it in.
    formula : callable
        ``(z, xp) -> log density`` of points of shape ``(*batch, dim)``, written over the functions
        that NumPy and PyTensor share.
    sampler : callable or None
        ``(draws, rng) -> independent draws of shape (draws, dim)``, exact; None where none is
        known.
    dim : int
        Number of coordinates.
    mean, sd : tuple of float or None
        Exact moments of each coordinate, None where they are not known in closed form. An infinite
        standard deviation is `inf`.
    """

    name: str
    log_evidence: float
    bounds: Bounds
    formula: Callable[[Any, Any], Any]
    sampler: Sampler | None = None
    dim: int = 2
    mean: tuple[float, ...] | None = None
    sd: tuple[float, ...] | None = None

    def log_density(self, z: ArrayLike) -> NDArray[np.float64]:
        """Log density, not normalised, at points of shape (*batch, dim): shape (*batch,)."""
        points = as_numbers("z", z, f"(*batch, {self.dim})")
        if points.shape[-1:] != (self.dim,):
            raise ParameterError(
                f"z must have shape (*batch, {self.dim}), but has shape {points.shape}."
            )
        return np.asarray(self.formula(points, np))

    def model(self) -> pm.Model:
        """A new model with the free variable ``z``, shape ``(dim,)``, that has this posterior."""
        with pm.Model() as model:
            z = pm.Flat("z", shape=self.dim)
            pm.Potential(self.name, self.formula(z, pt))
        return model
