"""Whether a fit at one step size still gains anything."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["has_settled", "rhat_over_windows"]

_RHAT = 1.1
_SHARE = 0.9
"""The share of the parameters that must have an R-hat below the limit."""

_BATCHES = 20


def rhat_over_windows(iterates: NDArray[np.floating], windows: int = 4) -> NDArray[np.float64]:
    """R-hat of each parameter, with consecutive windows of its iterates in place of chains.

    Parameters
    ----------
    iterates : ndarray, shape (n, size)
    windows : int

    Returns
    -------
    ndarray, shape (size,)
        Near 1 where the windows can't be told apart: the iterates wander about one place.

    References
    ----------
    Welandawe et al. (2022), Robust, automated, and accurate black-box variational inference,
    https://arxiv.org/abs/2203.15945
    """
    length = len(iterates) // windows
    chains = np.asarray(iterates[-length * windows :], dtype=float).reshape(windows, length, -1)
    within = chains.var(1, ddof=1).mean(0)
    between = chains.mean(1).var(0, ddof=1)
    with np.errstate(all="ignore"):
        rhat = np.sqrt((length - 1) / length + between / within)
    return np.where(within > 0, rhat, np.where(between > 0, np.inf, 1.0))


def has_settled(
    losses: NDArray[np.floating], iterates: NDArray[np.floating], tolerance: float
) -> bool:
    """Whether the second half of a stage is no better than the first, or can't be told from it.

    Parameters
    ----------
    losses : ndarray, shape (steps,)
        Losses of the last windows of a stage.
    iterates : ndarray, shape (n, size)
        Parameters after the same steps, thinned.
    tolerance : float
        A gain that is not worth as many steps again, in nats.
    """
    if float(np.mean(rhat_over_windows(iterates) < _RHAT)) >= _SHARE:
        return True
    finite = losses[np.isfinite(losses)]
    if len(finite) < 2 * _BATCHES:
        return False
    means = [batch.mean() for batch in np.array_split(finite, _BATCHES)]
    before, after = np.split(np.array(means), 2)
    gain = before.mean() - after.mean()
    error = np.sqrt((before.var(ddof=1) + after.var(ddof=1)) / len(after))
    return bool(gain < max(tolerance, error))
