"""Variables along which the density is exactly Gaussian, given all others."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pmflow.posterior.density import LogDensity
from pmflow.watch import tick

__all__ = ["gaussian_given_others"]

_POINTS = 3
"""Where gradients are looked at, each with a random way of its own."""
_AROUND = 0.5
"""How far these are from the start, unconstrained: where a product is 0 it hides its factors."""
_LINEAR = 1e-8
"""What the gradient may bend along a way, relative to how it changes."""

type Floats = NDArray[np.float64]


def gaussian_given_others(
    density: LogDensity, places: Mapping[str, slice], start: Floats, seed: int
) -> NDArray[np.bool_]:
    """As many variables as are Gaussian together, the larger ones first.

    Coefficients of a regression with normal data are, whatever their scales: the gradient along
    them is affine. None of them need be so given the coefficients.

    Parameters
    ----------
    density : LogDensity
    places : mapping of str to slice
        Where each value variable is in the latent vector.
    start : ndarray, shape (dim,)
    seed : int

    Returns
    -------
    ndarray of bool, shape (dim,)
    """
    rng = np.random.default_rng(seed)
    points = start + _AROUND * rng.standard_normal((_POINTS, density.dim))
    ways = rng.standard_normal((_POINTS, density.dim))
    found = np.zeros(density.dim, dtype=bool)
    for place in sorted(places.values(), key=lambda place: place.start - place.stop):
        tick()
        more = found.copy()
        more[place] = True
        if _is_affine(density, points, np.where(more, ways, 0.0), more):
            found = more
    return found


def _is_affine(density: LogDensity, points: Floats, ways: Floats, among: NDArray[np.bool_]) -> bool:
    """Whether gradients by some coordinates do not bend along ways of these."""
    _, gradient = density.value_and_gradient(np.concatenate([points - ways, points, points + ways]))
    behind, here, ahead = np.split(gradient[:, among], 3)
    if not np.isfinite(gradient).all():
        return False
    bent = np.abs(ahead + behind - 2 * here).max(1)
    return bool((bent <= _LINEAR * np.abs(ahead - behind).max(1)).all())
