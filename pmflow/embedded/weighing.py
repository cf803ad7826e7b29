"""Weights of local variables that are drawn given the global ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pmflow.draws.standard import mirrored_draws
from pmflow.embedded.conditional import Conditional
from pmflow.embedded.nested import Given
from pmflow.watch import tick

__all__ = ["missed_by", "spread", "weighed"]

_PLACES = 24
"""Places at which the marginal is held against weights: few, with many draws each."""

_PAIRS = 16
"""Mirrored pairs of base draws in a group."""
_FEWEST, _MOST = 4, 32
"""Groups of base draws."""
_WORK = 1e10
"""Numbers that the density may go through for more groups than the fewest."""
_QUIET = 0.01
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
        if len(groups) >= _FEWEST and _are_quiet(np.stack(groups), y):
            break
    return np.stack(groups)


def _are_quiet(groups: Floats, y: Floats) -> bool:
    missed = np.stack([missed_by(group, third=True) for group in groups])
    x = np.concatenate([np.ones((len(y), 1)), y, y**2], axis=1)
    slopes = (missed @ np.linalg.pinv(x).T)[:, 1:]
    return bool((slopes.std(0, ddof=1) < _QUIET * np.sqrt(len(groups))).all())


def _weighed(conditional: Conditional, givens: Sequence[Given], e: Floats) -> Floats:
    """The same for some base draws, shape (draws, locals): shape (places, draws)."""
    found = []
    for given in givens:
        tick()
        deviation = given.factors[0].coloured(e)
        draws = np.repeat(given.z, len(e), axis=0)
        draws[:, conditional.locals] += deviation
        value, _ = conditional.density.value_and_gradient(draws)
        found.append(value - given.log_density(0, deviation) - given.log_marginal[0])
    return np.stack(found)


def missed_by(log_weights: Floats, *, third: bool) -> Floats:
    """Log of the mean weight at each place, by the first cumulants of the log weights.

    A mean of weights is that of the largest few. Log weights of many local variables are sums of
    many small terms, so they are near to normal: half of their variance is added to their mean,
    and a sixth of their third cumulant.

    Parameters
    ----------
    log_weights : ndarray, shape (..., draws)
    third : bool
        Whether the third is asked for: of few draws it is little but noise.
    """
    mean, variance = log_weights.mean(-1), log_weights.var(-1)
    cubes = ((log_weights - mean[..., None]) ** 3).mean(-1)
    return np.asarray(mean + variance / 2 + (cubes / 6 if third else 0.0))


def spread[T](places: Sequence[T], coefficients: int) -> list[T]:
    """Some of many places, evenly among them: enough for so many coefficients of a fit to them."""
    wanted = max(_PLACES, 3 * coefficients)
    return list(places[:: max(1, len(places) // wanted)])
