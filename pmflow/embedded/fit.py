"""From a density and its pattern to globals by their marginal and locals given them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pmflow.draws.standard import mirrored_draws
from pmflow.embedded.conditional import Conditional
from pmflow.embedded.explore import Explored, HigherElsewhereError, explore
from pmflow.embedded.given import Given
from pmflow.embedded.marginal import (
    Centre,
    NoCentreError,
    best_centre,
    find_centre,
    is_independent,
)
from pmflow.embedded.nested import Nested, NestedState, features
from pmflow.embedded.proposal import Proposal
from pmflow.embedded.weighing import missed_by, spread
from pmflow.records import systematic_choice
from pmflow.watch import Stopped, result_exists, stage, tick

__all__ = ["CURVATURES", "fit_nested"]

CURVATURES = 800
"""About how many second derivatives of the local variables a fit takes."""

_FIRST, _MOST = 128, 1_024
"""Global variables of the first round of exploring, and of all."""
_PLACES = 64
"""Global variables at which corrections are estimated."""
_PAIRS = 8
"""Mirrored pairs of draws of the local variables at each, for their mean."""
_KNOWN = 0.9
"""Share of the explored global variables at which independent variables must be integrated."""
_CENTRES = 3
"""Modes of the marginal that are explored from, each found by draws around the one before."""
_SHIFTS = 3
"""Steps from the mode to the mean."""
_FARTHEST = 0.5
"""Variance of the log weights for each local variable: a fit that is reliable may have 0.02 (see
`judging.nested`), and has 0.004 on crossed effects, 0.02 on a map of 3,000 areas. Item response
with two parameters has 1, which corrections make worse."""
_UNEVEN = 0.02
"""Variance of the weights of a block, in units of their mean, above which it is no Gaussian."""
_RIDGE = 1e-2
_MOVED = 0.5
"""In sds: a correction that moves the global variables farther is estimated anew around there."""

type Floats = NDArray[np.float64]


def fit_nested(conditional: Conditional, start: Floats, seed: int) -> Nested:
    """Find the marginal of the global variables, and what follows from them.

    Parameters
    ----------
    conditional : Conditional
    start : ndarray, shape (dim,)
    seed : int

    Returns
    -------
    Nested
        Not corrected yet, where the search was stopped on the way.

    Raises
    ------
    NoCentreError
        If the marginal is not found.
    Stopped
        If the search was stopped before it was.
    """
    with stage("Integrating local variables out"):
        try:
            centre = best_centre(conditional, start, seed)
            is_alone = is_independent(conditional, centre)
            if conditional.blocks is None:
                _check_near(conditional, centre, seed)
            found = _explored_from(conditional, centre, seed, independent=is_alone)
            if is_alone and not np.isfinite(found[1].log_marginal).mean() > _KNOWN:
                is_alone = False
                found = _explored_from(conditional, centre, seed, independent=False)
            centre, explored, proposal = found
            nested = plain = _uncorrected(
                conditional, centre, explored, proposal, independent=is_alone
            )
            result_exists()
            if is_alone:
                return nested
            rng = np.random.default_rng(seed)
            with suppress(Stopped):
                nested, moved = _corrected(plain, nested, explored, rng)
                if moved > _MOVED:
                    nested, _ = _corrected(plain, nested, explored, rng)
        except np.linalg.LinAlgError as error:
            raise NoCentreError("the search overflowed") from error
    return nested


def _check_near(conditional: Conditional, centre: Centre, seed: int) -> None:
    """See whether Gaussians are anywhere near what the local variables are.

    Raises
    ------
    NoCentreError
        If not: no correction leads there, and to judge it would take long.
    """
    inner = conditional.locals
    given = Given(centre.z[None], (centre.factor,), np.zeros(1))
    e = mirrored_draws(_PAIRS, len(inner), np.random.default_rng(seed))
    z, _, log_q = given.drawn(e, inner)
    log_weights = conditional.value(z) - log_q
    if not log_weights.var() < _FARTHEST * len(inner):
        raise NoCentreError("the local variables are far from Gaussian, given the global ones")


def _explored_from(
    conditional: Conditional, centre: Centre, seed: int, *, independent: bool
) -> tuple[Centre, Explored, Proposal]:
    """What exploring finds, from a higher mode where its draws come upon one."""
    for _ in range(_CENTRES):
        try:
            found = explore(conditional, centre, _FIRST, seed, _MOST, independent=independent)
        except HigherElsewhereError as error:
            centre = find_centre(conditional, error.z)
        else:
            return centre, *found
    raise NoCentreError("its draws have led to one higher mode of the marginal after the other")


def _uncorrected(
    conditional: Conditional,
    centre: Centre,
    explored: Explored,
    proposal: Proposal,
    *,
    independent: bool,
) -> Nested:
    size = len(conditional.globals)
    state = NestedState(
        centre=centre,
        unit=proposal,
        proposal=proposal,
        sds=conditional.sds,
        locals_by="curves" if independent else "gaussian",
        correction=np.zeros(1),
        pull=np.zeros((1 + size, len(conditional.locals))),
        log_evidence=explored.weights.log_evidence,
        ess=float(explored.weights.ess),
    )
    return Nested(conditional, state)


def _corrected(
    plain: Nested, last: Nested, explored: Explored, rng: np.random.Generator
) -> tuple[Nested, float]:
    """The distribution with its means and its marginal corrected, and how far that moved it.

    Parameters
    ----------
    plain : Nested
        Without corrections.
    last : Nested
        What is known so far: corrections are estimated where its global variables are.
    explored : Explored
    rng : Generator
    """
    conditional = plain.conditional
    before = _weighted(last, explored)
    places = _places(before, rng)
    givens = list(plain.each(places))
    y = plain.state.unit.standardised(places)
    pull = np.zeros_like(plain.state.pull)
    for _ in range(_SHIFTS):
        step = _pull(conditional, givens, y, rng)
        pull += step
        for given, pulled in zip(givens, features(y, len(step)) @ step, strict=True):
            given.z[:, conditional.locals] += given.factor.solve(pulled[None])
    there = Nested(conditional, replace(plain.state, pull=pull))
    correction, unevenness = _correction(there, givens, y, rng)
    found = replace(there.state, correction=correction)
    if unevenness > _UNEVEN:
        found = replace(found, locals_by="weights")
    made = Nested(conditional, found)
    after = _weighted(made, explored)
    near = plain.state.proposal
    mean, covariance = after.moments(near)
    moved = np.abs(mean - before.moments(near)[0]) / np.sqrt(np.diag(covariance))
    weights = after.weights
    state = replace(
        made.state,
        proposal=Proposal.of_moments(mean, covariance),
        log_evidence=weights.log_evidence,
        ess=float(max(weights.ess, 1 / len(explored.theta))),
    )
    return Nested(conditional, state), float(moved.max())


def _weighted(nested: Nested, explored: Explored) -> Explored:
    """What was explored, by the corrected marginal."""
    correction = nested.correction(explored.theta)
    return replace(explored, log_marginal=explored.log_marginal + correction)


def _places(explored: Explored, rng: np.random.Generator) -> Floats:
    """Global variables that are spread as the marginal is."""
    shares = np.exp(explored.weights.log_weights)
    chosen = systematic_choice(shares, _PLACES, 1 - rng.random())
    return explored.theta[np.unique(chosen)]


def _pull(
    conditional: Conditional, givens: list[Given], y: Floats, rng: np.random.Generator
) -> Floats:
    """The mean gradient at draws, linear in the globals: by the covariance, from mode to mean.

    One natural-gradient step of the mean. The draws are mirrored, so that what is linear in them
    cancels. Not the step is linear in the globals: where a scale is small, so is the step.
    """
    inner = conditional.locals
    slopes = []
    for given in givens:
        tick()
        draws, *_ = given.drawn(mirrored_draws(_PAIRS, len(inner), rng), inner)
        _, slope = conditional.value_and_slope(draws)
        slopes.append(slope.mean(0))
    return _ridge(features(y, 1 + y.shape[1]), np.stack(slopes))


def _correction(
    nested: Nested, givens: list[Given], y: Floats, rng: np.random.Generator
) -> tuple[Floats, float]:
    """What the Laplace approximation has missed of the log marginal, as a quadratic.

    By the weights of draws of the local variables. The base draws are the same everywhere: what
    they have missed is nearly the same everywhere too, and does not bend the marginal. With the
    unevenness of the weights of blocks.
    """
    size = y.shape[1]
    number = 1 + 2 * size + size * (size - 1) // 2
    if 2 * number > len(y):
        number = 1 + 2 * size
    few = spread(len(y), number)
    by_weights = missed_by(nested.conditional, givens[few], y[few], rng, nested.weighed_by)
    missed = by_weights.together
    known = np.isfinite(missed)  # not where the density is 0 at a draw
    if known.sum() < number:
        return np.zeros(1), 0.0
    found = _ridge(features(y[few][known], number), missed[known, None])[:, 0]
    return found, by_weights.unevenness


def _ridge(x: Floats, y: Floats) -> Floats:
    penalty = _RIDGE * np.eye(x.shape[1])
    penalty[0, 0] = 0.0
    found: Floats = np.linalg.solve(x.T @ x + penalty, x.T @ y)
    return found
