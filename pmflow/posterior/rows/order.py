"""Whether the order of rows tells something that the model does not know of."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pmflow.posterior.rows.streamed import Chosen, RowSum

__all__ = ["Drift", "drift_of"]

_PARTS, _PIECES, _LEAST = 32, 16, 50
"""Parts of the rows one after the other, pieces of each that tell its noise, and the rows of a
piece at least."""
_DRIFTS = 4.0
"""Mean square of what a part adds over its noise, 1 where the order says nothing, 8/7 for the noise
of so few pieces: from here on sds are less than half of what the parts differ by."""

type Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Drift:
    """That parts of the rows differ by more than by chance.

    Attributes
    ----------
    coordinate : int
        Of the latent vector, the one that differs the most.
    spread : float
        By how many times their noise the parts differ in it.
    change : float
        From the first part to the last, as far as these tell it, in sds of the posterior.
    """

    coordinate: int
    spread: float
    change: float


def drift_of(rows: RowSum, centre: Floats, factor: Floats) -> Drift | None:
    """Look at the scores of rows in their order, at the mode: a test of parameter stability.

    Under the model the scores of rows have mean 0 at the parameters, whatever their covariates, so
    that sums of them over parts of the rows differ by noise alone (Hansen, 1992,
    https://doi.org/10.1016/0161-8938(92)90019-9; Zeileis & Hornik, 2007,
    https://doi.org/10.1111/j.1467-9574.2007.00371.x). The noise of a part is told by its pieces.

    Parameters
    ----------
    rows : RowSum
    centre : ndarray, shape (dim,)
        Mode of the posterior by all rows.
    factor : ndarray, shape (dim, dim) or (dim,)
        Of its covariance there.

    Returns
    -------
    Drift or None
        None where the order says nothing, or the rows are too few to tell.
    """
    number = len(rows.table)
    if number < _PARTS * _PIECES * _LEAST:
        return None
    ends = np.linspace(0, number, _PARTS * _PIECES + 1).astype(int)
    scores = np.empty((_PARTS * _PIECES, len(centre)))
    for i, (begin, end) in enumerate(pairwise(ends)):
        piece = Chosen(np.arange(begin, end), np.ones(end - begin))
        scores[i] = rows.value_and_gradient(centre[None], piece)[1][0] / (end - begin)
    pieces = scores.reshape(_PARTS, _PIECES, -1)
    parts, noise = pieces.mean(1), pieces.std(1, ddof=1) / np.sqrt(_PIECES)
    known = noise > 0  # rows of other groups say nothing of a group's effect
    with np.errstate(divide="ignore", invalid="ignore"):
        # together they are what priors pull by, each part as much of it as it tells
        parts -= np.where(known, parts.sum(0) * noise**2 / (noise**2).sum(0), 0.0)
        spread = np.where(known, (parts / noise) ** 2, 0.0).mean(0)
    coordinate = int(np.argmax(spread))
    if not spread[coordinate] > _DRIFTS:
        return None
    # where a step of Newton's would take the mode, were all rows like those of a part
    covariance = factor @ factor.T if factor.ndim == 2 else np.diag(factor**2)
    change = number * (parts[-1] - parts[0]) @ covariance[coordinate]
    sd = np.sqrt(covariance[coordinate, coordinate])
    return Drift(coordinate, float(np.sqrt(spread[coordinate])), float(change / sd))
