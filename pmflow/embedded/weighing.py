"""Weights of local variables that are drawn given the global ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pmflow.embedded.conditional import Conditional
from pmflow.embedded.nested import Given
from pmflow.posterior.density import LogDensity
from pmflow.watch import tick

__all__ = ["missed_by", "pairs_within", "spread", "weighed"]

_PLACES = 24
"""Places at which the marginal is held against weights: few, with many draws each."""

_FEWEST, _MOST = 8, 256
_WORK = 1e10
"""Numbers that the density may go through for more pairs than the fewest."""

_FOR_THE_THIRD = 100
"""Draws from which on a third cumulant is known well enough."""

type Floats = NDArray[np.float64]


def pairs_within(density: LogDensity, places: int) -> int:
    """How many mirrored pairs of draws are weighed at each of some places."""
    return density.draws_within(_WORK / (2 * places), most=_MOST, least=_FEWEST)


def weighed(conditional: Conditional, givens: Sequence[Given], e: Floats) -> Floats:
    """Log weights of the same base draws at all places.

    Parameters
    ----------
    conditional : Conditional
    givens : sequence of Given
        The places, one in each.
    e : ndarray, shape (draws, locals)
        Base draws.

    Returns
    -------
    ndarray, shape (places, draws)
        Log p - log q of the local variables, less the log marginal of the global ones.
    """
    found = []
    for given in givens:
        tick()
        deviation = given.factors[0].coloured(e)
        draws = np.repeat(given.z, len(e), axis=0)
        draws[:, conditional.locals] += deviation
        value, _ = conditional.density.value_and_gradient(draws)
        found.append(value - given.log_density(0, deviation) - given.log_marginal[0])
    return np.stack(found)


def missed_by(log_weights: Floats) -> Floats:
    """Log of the mean weight at each place, by the first cumulants of the log weights.

    A mean of weights is that of the largest few. Log weights of many local variables are sums of
    many small terms, so they are near to normal: half of their variance is added to their mean,
    and a sixth of their third cumulant, where draws are enough to know it.
    """
    mean, variance = log_weights.mean(1), log_weights.var(1)
    third = ((log_weights - mean[:, None]) ** 3).mean(1)
    is_known = log_weights.shape[1] >= _FOR_THE_THIRD
    return np.asarray(mean + variance / 2 + (third / 6 if is_known else 0.0))


def spread[T](places: Sequence[T], coefficients: int) -> list[T]:
    """Some of many places, evenly among them: enough for so many coefficients of a fit to them."""
    wanted = max(_PLACES, 3 * coefficients)
    return list(places[:: max(1, len(places) // wanted)])
