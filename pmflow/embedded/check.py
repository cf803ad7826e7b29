"""How far the nested distribution is from the posterior, to first order, at fresh draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pmflow.draws.standard import mirrored_draws
from pmflow.embedded.conditional import Conditional
from pmflow.embedded.gaussian import GaussianState
from pmflow.embedded.given import Given
from pmflow.embedded.nested import CHOICES, Nested
from pmflow.embedded.weighing import missed_by
from pmflow.errors import UnsupportedError
from pmflow.judging.weights import Weights, importance_weights
from pmflow.posterior.density import LogDensity
from pmflow.records import Elbo, systematic_choice
from pmflow.watch import tick

__all__ = ["NestedCheck", "check_gaussian", "check_nested"]

_PROPOSED, _WANTED, _MOST_PROPOSED = 128, 64.0, 512
"""Global variables that are proposed; more of them where these are fewer effective draws."""
_PLACES, _PLACES_OF_GLOBALS = 64, (64, 128)
"""Where local variables are looked at, and, of the proposed places, where the marginal is: at more
of them if these leave more noise."""
_LEAST_SHARE = 1e-8
"""Of the largest: places with less are no part of the fit."""
_QUIET = 0.02
"""Standard error of the mean or the sd of a global variable, in sds."""
_PAIRS = 8
"""Mirrored pairs of draws at each place, for what is asked of the local variables."""
_WORK, _FEWEST_PAIRS, _MOST_PAIRS = 1e10, 64, 2_048
"""Numbers that the density may go through for draws of one Gaussian, and pairs of them."""
_NUMBERS_AT_ONCE = 2**22
"""Of draws that are held at a time."""

type Floats = NDArray[np.float64]


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
    mean, sd : ndarray, shape (dim,)
        Of the draws, unconstrained.
    """

    of_globals: Weights | None
    log_weights: Floats
    locals: int
    shift: Floats
    shift_error: Floats
    growth: Floats
    growth_error: Floats
    mean: Floats
    sd: Floats

    @property
    def estimates(self) -> tuple[Elbo, Elbo, Elbo]:
        """ELBO, log evidence, and the divergence between, each with its error.

        Of one Gaussian to second order: the divergence is half the variance of log weights.
        """
        weights = self.of_globals
        if weights is None:
            elbo = Elbo.of(self.log_weights[0])
            kl = Elbo.of((self.log_weights[0] - elbo.value) ** 2 / 2)
            return elbo, Elbo(elbo.value + kl.value, float(np.hypot(elbo.error, kl.error))), kl
        evidence = Elbo(weights.log_evidence, weights.log_evidence_se)
        missed = Elbo.of(self.log_weights.mean(1))
        error = float(np.hypot(missed.error, evidence.error))
        return (
            Elbo(evidence.value + missed.value, error),
            evidence,
            Elbo(0.0 - missed.value, missed.error),
        )


def check_nested(nested: Nested, seed: int) -> NestedCheck:
    r"""Weigh fresh draws.

    Weights of all local variables together say nothing in thousands of dimensions. To first order
    weighting moves the mean of a variable by its covariance with :math:`\log w`, which by Stein's
    lemma, for Gaussian draws, is the mean of :math:`\Sigma \nabla \log w`; and its variance by
    the mean of that times the deviation. Both are quiet, and know each variable by itself. Global
    variables are few, and weighed as they were proposed.

    Raises
    ------
    UnsupportedError
        If no draw has a marginal at all.
    """
    rng = np.random.default_rng(seed)
    conditional = nested.conditional
    proposed = _PROPOSED
    while nested.state.ess * proposed < _WANTED and proposed < _MOST_PROPOSED:
        proposed *= 2
    theta = nested.state.proposal.draws(proposed, int(rng.integers(2**30)))
    every = list(nested.each(theta))
    log_marginal = np.concatenate([given.log_marginal for given in every])
    weights = importance_weights(log_marginal, nested.state.proposal.log_density(theta))
    shares = np.exp(weights.log_weights)
    if not shares.any():  # too few are finite to be weighted; the verdict says so
        shares = np.isfinite(log_marginal).astype(float)
    if not shares.any():
        raise UnsupportedError(
            "The fit can't be judged: at none of its draws of the global variables a mode of the "
            "others was found. Has the model changed since it was fitted? Fit it again: "
            "approx = pmf.fit(model=model)."
        )
    mean = shares @ theta / shares.sum()
    sds = np.sqrt(shares @ (theta - mean) ** 2 / shares.sum())
    (known,) = np.nonzero(shares > _LEAST_SHARE * shares.max())
    for most in _PLACES_OF_GLOBALS:
        few = known[:most]
        y, given = (theta[few] - mean) / sds, [every[number] for number in few]
        of_globals = _of_globals(conditional, given, y, np.log(shares[few]), rng)
        _, of_shift, _, of_growth = of_globals
        if most >= len(known) or max(of_shift.max(), of_growth.max() / 2) < _QUIET:
            break
    # a place as often as its weight says: what is averaged is averaged over the fit
    chosen = systematic_choice(shares, _PLACES, 1 - rng.random())
    log_weights, of_locals, flat = _of_locals(nested, [every[number] for number in chosen], rng)
    sd = flat.std(0)
    first_order = np.empty((4, len(sd)))
    first_order[:, conditional.globals] = of_globals
    of_locals[:2] /= sd[conditional.locals]
    first_order[:, conditional.locals] = of_locals
    shift, shift_error, growth, growth_error = first_order
    return NestedCheck(
        of_globals=weights,
        log_weights=log_weights,
        locals=len(conditional.locals),
        shift=shift,
        shift_error=shift_error,
        growth=growth,
        growth_error=growth_error,
        mean=flat.mean(0),
        sd=sd,
    )


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
        mean=gaussian.mean,
        sd=sd,
    )


def _of_pairs(values: Floats) -> Floats:
    """Mean and standard error, by mirrored pairs, of values of shape (..., 2 pairs, size).

    The mean of a pair is free of what is odd in it.
    """
    pairs, size = values.shape[-2] // 2, values.shape[-1]
    halves = (values[..., :pairs, :] + values[..., pairs:, :]).reshape(-1, size) / 2
    return np.stack([halves.mean(0), halves.std(0) / np.sqrt(len(halves))])


def _of_globals(
    conditional: Conditional,
    places: list[Given],
    y: Floats,
    log_shares: Floats,
    rng: np.random.Generator,
) -> tuple[Floats, Floats, Floats, Floats]:
    """Shifts of the global variables, and growths of their variances, each with its errors.

    Proposed places are weighed by the fit, and by what it has missed at each: there are more of
    them in its tails than draws of it. Errors are by leaving out one place, or one group of base
    draws, at a time.
    """
    missed = missed_by(conditional, places, y, rng).by_group
    mean = missed.mean(0)
    ((shift, growth),) = _moved(log_shares[None], mean[None], y)
    all_but_one = log_shares + np.where(np.eye(len(y), dtype=bool), -np.inf, 0.0)
    of_places = _moved(all_but_one, mean[None], y)
    of_groups = _moved(log_shares[None], (missed.sum(0) - missed) / (len(missed) - 1), y)
    errors = np.sqrt(_jackknife(of_places) ** 2 + _jackknife(of_groups) ** 2)
    return shift, errors[0], growth, errors[1]


def _moved(log_shares: Floats, log_weights: Floats, y: Floats) -> Floats:
    """What weights do to means and variances of places, in units of their sds.

    Parameters
    ----------
    log_shares, log_weights : ndarray, shape (n or 1, places)
        What the places count, and what they are weighed by.
    y : ndarray, shape (places, globals)

    Returns
    -------
    ndarray, shape (n, 2, globals)
    """
    before, variance_before = _moments(log_shares, y)
    mean, variance = _moments(log_shares + log_weights, y)
    sd = np.sqrt(variance_before)
    return np.stack([(mean - before) / sd, variance / variance_before - 1], axis=1)


def _moments(log_weights: Floats, y: Floats) -> tuple[Floats, Floats]:
    shares = np.exp(log_weights - log_weights.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    mean = shares @ y
    return mean, shares @ y**2 - mean**2


def _jackknife(found: Floats) -> Floats:
    """Standard errors by values of shape (n, ...), that leave one out each."""
    return np.asarray(np.sqrt((len(found) - 1) * found.var(0)))


def _of_locals(
    nested: Nested, places: list[Given], rng: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """Log weights at each place, shifts and growths with their errors, and all draws."""
    at_place = _of_choices if nested.state.locals_by == "weights" else _at_place
    seen = [at_place(nested, given, rng) for given in places]
    log_weights, steps, widened, squares, points = map(np.stack, zip(*seen, strict=True))
    growths = _of_pairs(widened) / squares.mean((0, 1))
    found = np.concatenate([_of_pairs(steps), growths])
    return log_weights, found, points.reshape(-1, points.shape[-1])


def _at_place(
    nested: Nested, given: Given, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Log weights of draws at one place, what weighting adds to means and variances, and points.

    The fourth are squared deviations.
    """
    tick()
    inner = nested.conditional.locals
    z, deviation, log_q = given.drawn(mirrored_draws(_PAIRS, len(inner), rng), inner)
    log_p, slope = nested.conditional.value_and_slope(z)
    # the gradient of log w in units of the covariance
    step = given.factor.solve(slope) - given.slope(deviation)
    return log_p - log_q, step, step * deviation, deviation**2, z


def _of_choices(
    nested: Nested, given: Given, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """The same where blocks of local variables are chosen by their weights.

    That leaves the error of a choice among few: to first order, what is chosen is off by its
    covariance with the squared weights, over their number.
    """
    tick()
    made = nested.chosen(given, CHOICES, rng)
    deviation = made.deviation - (made.weights * made.deviation).mean(0)
    squares = made.weights * deviation**2
    lost = made.weights**2 / CHOICES
    widened = lost * (deviation**2 - squares.mean(0))
    return np.zeros(CHOICES), lost * deviation, widened, squares, made.z
