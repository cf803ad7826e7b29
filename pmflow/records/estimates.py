"""What weights of draws give: an ELBO with its error, a choice among the draws."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Elbo", "systematic_choice"]


class Elbo(NamedTuple):
    """Evidence lower bound: an estimate and its Monte Carlo standard error."""

    value: float
    error: float

    @classmethod
    def of(cls, log_weights: NDArray[np.float64]) -> Elbo:
        """From log p - log q of at least two draws; -inf and NaN where one is not finite."""
        if not np.isfinite(log_weights).all():
            return cls(-np.inf, np.nan)
        error = log_weights.std(ddof=1) / np.sqrt(len(log_weights))
        return cls(float(log_weights.mean()), float(error))

    def __str__(self) -> str:
        return f"{self.value:,.4f} ± {self.error:.4f}"


def systematic_choice(
    weights: NDArray[np.float64], number: int, offset: float
) -> NDArray[np.int64]:
    """Choose by weight, in even steps: each as often as its share says, up to one.

    The total weight is cut into `number` equal slices, with a point in each of them at the same
    place: Kitagawa (1996), https://doi.org/10.2307/1390750.

    Parameters
    ----------
    weights : ndarray, shape (n,)
        Not negative, not all 0; they need not sum to 1.
    number : int
    offset : float
        Where in its slice the point is, 0 to 1: at random for a choice without bias.

    Returns
    -------
    ndarray, shape (number,)
        Places in `weights`, in ascending order.
    """
    ends = np.cumsum(weights)
    points = (np.arange(number) + offset) * (ends[-1] / number)
    # a point on the very end falls to the last one that has a weight
    last = int(np.flatnonzero(weights)[-1])
    return np.minimum(np.searchsorted(ends, points, side="right"), last)
