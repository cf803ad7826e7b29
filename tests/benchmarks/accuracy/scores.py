"""How far draws are from what is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .posteriors import Posterior

__all__ = ["moments"]


def moments(draws: NDArray[np.float64], posterior: Posterior) -> tuple[float, float]:
    """The largest error of a mean, in standard deviations, and the worst ratio of those.

    Parameters
    ----------
    draws : array of shape (draws, columns)
    posterior : Posterior

    Returns
    -------
    tuple of float
        The ratio, drawn over known, is the one whose logarithm is farthest from 0. Both are NaN if
        a draw is.
    """
    error = np.abs(draws.mean(0) - posterior.reference_mean) / posterior.reference_sd
    with np.errstate(divide="ignore"):
        distance = np.log(draws.std(0) / posterior.reference_sd)
    return float(error.max()), float(np.exp(distance[np.argmax(np.abs(distance))]))
