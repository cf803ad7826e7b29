"""The local variables given the global ones, as smooth functions of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmflow.embedded.bent_lines import bent_lines
from pmflow.embedded.blocks import relative_weights
from pmflow.embedded.factor import SparseFactor
from pmflow.embedded.nested import Nested, modes_at
from pmflow.embedded.triangular import triangular
from pmflow.errors import UnsupportedError
from pmflow.records import Triangle
from pmflow.watch import stage

__all__ = ["Interpolated", "interpolated", "smooth_features"]

_POINTS = 128
"""Global variables at which the local ones are looked at, or twice the number of features."""
_KNOTS = ((4, (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)), (40, (-1.5, 0.0, 1.5)))
"""Up to so many global variables: where their straight lines may bend, in sds. With knots 1.5 sds
apart eight schools, centred, had five times as many divergences as with knots one sd apart."""
_PAIRS = 8
"""Global variables of which two may act together."""
_FAR = 3.0
"""In sds: farther out two act together as they do there."""
_RIDGE = 1e-6

type Floats = NDArray[np.float64]


def smooth_features(y: Any, size: int, xp: Any) -> Any:
    """What smooth functions of global variables are made of: see `bent_lines`.

    Straight far out is what logs of precisions are in logs of scales.

    Parameters
    ----------
    y : array_like, shape (..., size)
        Global variables, standardised.
    size : int
    xp : module
        Of the array: `numpy` or `pytensor.tensor`.

    Returns
    -------
    array_like, shape (..., features)
    """
    knots = next((places for most, places in _KNOTS if size <= most), ())
    parts = bent_lines(y, knots, xp)
    if size <= _PAIRS:
        first, second = np.triu_indices(size, 1)
        bounded = _FAR * xp.tanh(y / _FAR)
        parts.append(bounded[..., first] * bounded[..., second])
    return xp.concatenate(parts, axis=-1)


@dataclass(frozen=True, eq=False)
class Interpolated:
    r"""Mode and precision of the local variables u as smooth functions of the global ones.

    The precision P is :math:`A^\top L D L^\top A`, with a permutation A; the entries of the unit
    triangle L, the logs of D and the mode m are combinations of `smooth_features`, so that the
    precision is one everywhere and its determinant is that of D.

    Attributes
    ----------
    outer, inner : ndarray
        Places of the global and the local variables in the latent vector.
    mean : ndarray, shape (globals,)
    root : ndarray, shape (globals, globals)
        Lower triangular, of the covariance of the global variables.
    mode : ndarray, shape (features, locals)
    log_diagonal : ndarray, shape (features, locals)
        Of D, in the order of the local variables.
    entries : ndarray, shape (features, entries)
        Of L, by `triangle`.
    triangle : Triangle
    """

    outer: NDArray[np.int64]
    inner: NDArray[np.int64]
    mean: Floats
    root: Floats
    mode: Floats
    log_diagonal: Floats
    entries: Floats
    triangle: Triangle


def interpolated(nested: Nested, seed: int) -> Interpolated:
    """Read the local variables off where global ones are likely.

    Raises
    ------
    UnsupportedError
        If modes are found at too few of these places.
    """
    conditional, state = nested.conditional, nested.state
    size = len(conditional.globals)
    wanted = smooth_features(np.zeros((1, size)), size, np).shape[1]
    theta = state.proposal.draws(max(_POINTS, 2 * wanted), seed)
    explicit = state.source.log_density(theta) if state.is_explicit else None
    modes: list[Floats] = []
    factors: list[SparseFactor] = []
    log_marginal = np.full(len(theta), -np.inf)
    with stage("Reading the local variables off"):
        for part, found in modes_at(conditional, state.centre, theta, independent=False):
            marginal = found.log_marginal if explicit is None else explicit[part]
            is_known = np.isfinite(found.log_marginal) & [f is not None for f in found.factors]
            log_marginal[part] = np.where(is_known, marginal, -np.inf)
            known = np.flatnonzero(np.isfinite(log_marginal[part]))
            modes += [found.z[i, conditional.locals] for i in known]
            factors += [triangular(found.factors[i]) for i in known]
    is_known = np.isfinite(log_marginal)
    if is_known.sum() < wanted:
        raise UnsupportedError(
            f"The mode of the local variables was found at {is_known.sum()} places of "
            f"{len(theta)}, and {wanted} are needed to see how it depends on the global ones."
        )
    theta, log_marginal = theta[is_known], log_marginal[is_known]
    x = smooth_features(state.proposal.standardised(theta), size, np)
    # by the square root of the density: farther out than draws are, and not much farther
    weights = relative_weights(log_marginal / 2 - state.proposal.log_density(theta))
    (first, *_) = factors
    log_diagonal = _fitted(x, weights, [np.log(f.diagonal) for f in factors])
    entries = _fitted(x, weights, [f.entries for f in factors])
    return Interpolated(
        conditional.globals,
        conditional.locals,
        state.proposal.mean,
        state.proposal.factor,
        _fitted(x, weights, modes),
        log_diagonal[:, np.argsort(first.order)],
        entries,
        first.triangle,
    )


def _fitted(x: Floats, weights: Floats, values: list[Floats]) -> Floats:
    """Coefficients by least squares, all but the first one kept small."""
    ridge = np.full(x.shape[1], _RIDGE * len(x))
    ridge[0] = 0.0
    weighted = weights[:, None] * x
    return np.asarray(
        np.linalg.solve(weighted.T @ x + np.diag(ridge), weighted.T @ np.array(values))
    )
