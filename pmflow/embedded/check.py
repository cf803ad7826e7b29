"""How far the nested distribution is from the posterior, to first order, at fresh draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pmflow.draws.standard import means_of_pairs, mirrored_draws
from pmflow.embedded.check_globals import moved_globals
from pmflow.embedded.check_locals import moved_locals
from pmflow.embedded.gaussian import GaussianState
from pmflow.embedded.nested import Nested
from pmflow.embedded.proposed import MOST_PROPOSED, Proposed
from pmflow.judging.weights import Weights, tail_of_squares
from pmflow.posterior.density import LogDensity
from pmflow.records import Elbo

__all__ = ["NestedCheck", "check_gaussian", "check_nested"]

_WORK, _FEWEST_PAIRS, _MOST_PAIRS = 1e10, 64, 2_048
"""Numbers that the density may go through for draws of one Gaussian, and pairs of them."""
_NUMBERS_AT_ONCE = 2**22
"""Of draws that are held at a time."""

_LIGHT = 0.3
"""The k-hat of squares below which no more places are looked at for it."""
_HOPELESS = 1.0
"""The k-hat above which the sd does not exist, as far as is seen."""

type Floats = NDArray[np.float64]
type AsSeen = Callable[[Floats], dict[str, Floats]]


@dataclass(frozen=True, eq=False)
class NestedCheck:
    """What fresh draws say.

    Attributes
    ----------
    of_globals : Weights or None
        Importance weights of proposed global variables; None where there are none.
    log_weights : ndarray, shape (places, draws)
        Of local variables given the global ones of each place.
    locals : int
        How many local variables there are.
    shift, shift_error : ndarray, shape (dim,)
        How far weighting would move means, in sds; standard errors.
    growth, growth_error : ndarray, shape (dim,)
        By what share of itself weighting would change variances: of the local variables those
        given the global ones.
    is_first_order : ndarray of bool, shape (dim,)
        Where that is told to first order: of local variables given the global ones.
    mean, sd : ndarray, shape (dim,)
        Of the draws, unconstrained.
    estimates : tuple of Elbo
        ELBO, log evidence, and the divergence between, each with its error.
    tails : dict of str to float
        Of each global variable the k-hat of what proposed ones add to its variance, the largest of
        its entries, see `tail_of_squares`.
    """

    of_globals: Weights | None
    log_weights: Floats
    locals: int
    shift: Floats
    shift_error: Floats
    growth: Floats
    growth_error: Floats
    is_first_order: NDArray[np.bool_]
    mean: Floats
    sd: Floats
    estimates: tuple[Elbo, Elbo, Elbo]
    tails: dict[str, float] = field(default_factory=dict)


def check_nested(nested: Nested, seed: int, as_seen: AsSeen) -> NestedCheck:
    r"""Weigh fresh draws.

    Weights of all local variables together say nothing in thousands of dimensions. To first order
    weighting moves the mean of a variable by its covariance with :math:`\log w`, which by Stein's
    lemma, for Gaussian draws, is the mean of :math:`\Sigma \nabla \log w`; and its variance by
    the mean of that times the deviation. Both are quiet, and know each variable by itself. Global
    variables are few, and weighed as they were proposed.

    Parameters
    ----------
    nested : Nested
    seed : int
    as_seen : callable
        Global variables, shape (n, globals), as the user sees them: by name, shape (n, entries).

    Raises
    ------
    UnsupportedError
        If no draw has a marginal at all.
    """
    rng = np.random.default_rng(seed)
    conditional = nested.conditional
    proposed, tails = _with_tails(Proposed.of(nested, rng), rng, as_seen)
    seen = moved_locals(nested, proposed, rng)
    proposed, of_globals = moved_globals(proposed, rng)
    first_order = np.empty((4, conditional.density.dim))
    first_order[:, conditional.globals] = of_globals
    first_order[:, conditional.locals] = seen.moved(conditional.locals)
    shift, shift_error, growth, growth_error = first_order
    return NestedCheck(
        of_globals=proposed.weights,
        log_weights=seen.log_weights,
        locals=len(conditional.locals),
        shift=shift,
        shift_error=shift_error,
        growth=growth,
        growth_error=growth_error,
        is_first_order=np.isin(np.arange(conditional.density.dim), conditional.locals),
        mean=seen.points.mean,
        sd=seen.points.sd,
        estimates=_estimates(proposed.weights, seen.log_weights),
        tails=tails,
    )


def _estimates(weights: Weights, log_weights: Floats) -> tuple[Elbo, Elbo, Elbo]:
    """ELBO, log evidence and divergence by global variables and local ones given them."""
    evidence = Elbo(weights.log_evidence, weights.log_evidence_se)
    missed = Elbo.of(log_weights.mean(1))
    error = float(np.hypot(missed.error, evidence.error))
    elbo = Elbo(evidence.value + missed.value, error)
    return elbo, evidence, Elbo(0.0 - missed.value, missed.error)


def _with_tails(
    proposed: Proposed, rng: np.random.Generator, as_seen: AsSeen
) -> tuple[Proposed, dict[str, float]]:
    """So many proposed places that a k-hat which seems large is not so by chance."""
    while True:
        log_weights, seen = proposed.weights.log_weights, as_seen(proposed.theta)
        tails = {name: float(tail_of_squares(log_weights, x).max()) for name, x in seen.items()}
        largest = max(tails.values(), default=0.0)
        may_be_chance = proposed.weights.k_threshold < largest < _HOPELESS
        wanted = proposed.most if may_be_chance else MOST_PROPOSED
        if largest < _LIGHT or 2 * len(proposed.theta) > wanted:
            return proposed, tails
        proposed = proposed.doubled(rng)


def check_gaussian(density: LogDensity, gaussian: GaussianState, seed: int) -> NestedCheck:
    r"""Weigh fresh draws of one Gaussian.

    The best Gaussian leaves nothing to first order, so the second is added: weighting moves the
    mean of a variable by the mean of :math:`\Sigma \nabla \log w` over the weighted draws, with
    weights :math:`1 + \log w - E \log w`.
    """
    rng = np.random.default_rng(seed)
    dim = len(gaussian.mean)
    most = min(_MOST_PAIRS, max(_FEWEST_PAIRS, _NUMBERS_AT_ONCE // dim))
    pairs = density.draws_within(_WORK / 2, most=most, least=_FEWEST_PAIRS)
    z, deviation, log_q = gaussian.drawn(mirrored_draws(pairs, dim, rng))
    log_p, gradient = density.value_and_gradient(z)
    log_weights = log_p - log_q
    steps = gaussian.factor.solve(gradient) + deviation
    variances = (deviation**2).mean(0)
    tilt = (1 + log_weights - log_weights.mean())[:, None]

    elbo = Elbo.of(log_weights)
    # to second order the divergence is half the variance of log weights
    kl = Elbo.of((log_weights - elbo.value) ** 2 / 2)
    evidence = Elbo(elbo.value + kl.value, float(np.hypot(elbo.error, kl.error)))
    sd = np.sqrt(variances)
    shift, shift_error = _of_pairs(steps * tilt) / sd
    growth, growth_error = _of_pairs(steps * deviation * tilt) / variances
    return NestedCheck(
        of_globals=None,
        log_weights=log_weights[None],
        locals=dim,
        shift=shift,
        shift_error=shift_error,
        growth=growth,
        growth_error=growth_error,
        is_first_order=np.zeros(dim, dtype=bool),
        mean=gaussian.mean,
        sd=sd,
        estimates=(elbo, evidence, kl),
    )


def _of_pairs(values: Floats) -> Floats:
    """Mean and standard error, by mirrored pairs, of values of shape (2 pairs, dim)."""
    found = means_of_pairs(values)
    return np.stack([found.mean(0), found.std(0) / np.sqrt(len(found))])
