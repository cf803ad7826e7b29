"""Weights of local variables that are drawn given the global ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pmflow.draws.standard import mirrored_draws
from pmflow.embedded.conditional import Conditional
from pmflow.embedded.nested import Given
from pmflow.watch import tick

__all__ = ["lines", "missed_by", "spread", "weighed"]

_PLACES = 24
"""Places at which the marginal is held against weights: few, with many draws each."""

_PAIRS = 16
"""Mirrored pairs of base draws in a group."""
_FEWEST, _MOST = 4, 32
"""Groups of base draws."""
_WORK = 1e10
"""Numbers that the density may go through for more groups than the fewest."""
_NUMBERS_AT_ONCE = 2**23
"""Of draws that are held at a time."""
_QUIET = 0.02
"""Standard error, in sds of the global variables, at which no further group is drawn."""

type Floats = NDArray[np.float64]


def weighed(
    conditional: Conditional, givens: Sequence[Given], y: Floats, rng: np.random.Generator
) -> Floats:
    """Log weights of local variables at some places, the same base draws at all of them.

    Groups of draws are added until they agree on how what they have missed changes with the global
    variables.

    Parameters
    ----------
    conditional : Conditional
    givens : sequence of Given
        The places, one in each.
    y : ndarray, shape (places, globals)
        Their global variables, in units of the marginal.
    rng : Generator

    Returns
    -------
    ndarray, shape (groups, places, draws)
        Log p - log q of the local variables, less the log marginal of the global ones.
    """
    at_a_time = 2 * _PAIRS * len(givens)
    most = conditional.density.draws_within(_WORK / at_a_time, most=_MOST, least=_FEWEST)
    groups: list[Floats] = []
    while len(groups) < most:
        e = mirrored_draws(_PAIRS, len(conditional.locals), rng)
        groups.append(_weighed(conditional, givens, e))
        if len(groups) >= _FEWEST:
            _, *slopes = lines(missed_by(np.stack(groups)), y).T
            if (np.std(slopes, axis=1, ddof=1) < _QUIET * np.sqrt(len(groups))).all():
                break
    return np.stack(groups)


def _weighed(conditional: Conditional, givens: Sequence[Given], e: Floats) -> Floats:
    """The same for some base draws, shape (draws, locals): shape (places, draws)."""
    inner = conditional.locals
    at_once = max(1, _NUMBERS_AT_ONCE // (len(e) * conditional.density.dim))
    found: list[Floats] = []
    for i in range(0, len(givens), at_once):
        tick()
        drawn = [given.drawn(e, inner) for given in givens[i : i + at_once]]
        value = conditional.density.value(np.concatenate([z for z, *_ in drawn]))
        found.append(value.reshape(len(drawn), -1) - np.stack([log_q for *_, log_q in drawn]))
    return np.concatenate(found)


def missed_by(log_weights: Floats) -> Floats:
    """Log of the mean weight at each place, by the first three cumulants of the log weights.

    A mean of weights is that of the largest few. Log weights of many local variables are sums of
    many small terms, so they are near to normal: half of their variance is added to their mean,
    and a sixth of their third cumulant.

    Parameters
    ----------
    log_weights : ndarray, shape (..., draws)
    """
    mean, variance = log_weights.mean(-1), log_weights.var(-1)
    cubes = ((log_weights - mean[..., None]) ** 3).mean(-1)
    return np.asarray(mean + variance / 2 + cubes / 6)


def lines(missed: Floats, y: Floats) -> Floats:
    """What is missed as a constant, a line and squares of the global variables, by least squares.

    Parameters
    ----------
    missed : ndarray, shape (groups, places)
    y : ndarray, shape (places, globals)

    Returns
    -------
    ndarray, shape (groups, 1 + 2 globals)
    """
    x = np.concatenate([np.ones((len(y), 1)), y, y**2], axis=1)
    return np.asarray(missed @ np.linalg.pinv(x).T)


def spread(places: int, coefficients: int) -> slice:
    """Some of many places, evenly among them: enough for so many coefficients of a fit to them."""
    wanted = max(_PLACES, 3 * coefficients)
    return slice(None, None, max(1, places // wanted))
