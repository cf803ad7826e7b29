"""The density of the global variables, the local ones integrated out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pmflow.embedded.conditional import Conditional
from pmflow.embedded.curvature import along
from pmflow.embedded.factor import Factor, log_dets_of
from pmflow.embedded.given import Modes
from pmflow.embedded.slopes import curves_at
from pmflow.records import State
from pmflow.watch import tick

__all__ = [
    "Centre",
    "NoCentreError",
    "RisesError",
    "best_centre",
    "find_centre",
    "is_independent",
]

_FIRST_ROUNDS, _ROUNDS = 60, 12
"""Curvatures of a climb from the start, and of one from a prediction."""
_STEP = 1e-2
"""Of differences along a global variable, in its standard deviations given the local ones."""
_STEPS = 60
_LONGEST = 0.7
"""Step of a global variable: more than that, and the local ones are lost."""
_HALVINGS = 8
_FLAT = 0.02
"""Newton's decrement of the global variables at which the climb ends, in sds."""
_LEFT = 0.3
"""Newton's decrement of a climb that found no further step, above which it is at no mode."""
_FLATTEST, _STEEPEST = 0.05, 1e10
"""Curvature of the marginal that is believed: of sds of 4.5 and less."""

_STARTS, _APART, _STARTS_WORK = 4, 1.0, 2e9
"""Starts of the climb, how far from the first the others are, unconstrained, and numbers that the
density may go through for them before the last."""
_SAME, _SAME_LOCALS = 0.5, 5.0
"""Distances at which two ends are one: of globals in sds, of a local variable in its conditional
sds, as the locals move with the globals."""
_MATTERS = 3.0
"""Nats between the evidences of two modes: less, and the smaller has 5 % of both."""

type Floats = NDArray[np.float64]


class NoCentreError(Exception):
    """The marginal has no mode that is found; the message says why."""


class RisesError(NoCentreError):
    """The marginal rises without end, as far as was seen.

    Attributes
    ----------
    nearest : Centre
        Where on the way it was nearest to a mode, with its precision there.
    """

    def __init__(self, steps: int, nearest: Centre) -> None:
        super().__init__(f"the marginal of the global variables rises for {steps} steps")
        self.nearest = nearest


@dataclass(frozen=True, eq=False)
class Centre(State):
    r"""The mode of the marginal, and how the local variables follow from there.

    Attributes
    ----------
    z : ndarray, shape (dim,)
        The whole point, unconstrained: the local variables at their conditional mode.
    log_marginal : float
    slope : ndarray, shape (globals,)
        Gradient of the log marginal.
    precision : ndarray, shape (globals, globals)
        Minus the second derivatives of the log marginal, about.
    follow : ndarray, shape (globals, locals)
        Derivatives of the conditional mode by the global variables.
    factor : Factor
        Of the precision of the local variables.
    """

    z: Floats
    log_marginal: float
    slope: Floats
    precision: Floats
    follow: Floats
    factor: Factor

    @property
    def log_evidence(self) -> float:
        """Of a Gaussian marginal around it, less a constant."""
        return self.log_marginal - float(np.linalg.slogdet(self.precision)[1]) / 2

    @property
    def is_on_its_way(self) -> bool:
        """Whether the climb was left before it was at a mode."""
        return float(self.slope @ np.linalg.solve(self.precision, self.slope)) > _LEFT**2

    def predicted(self, conditional: Conditional, theta: Floats) -> Floats:
        """Whole points for global variables of shape (n, globals), the local ones by a line."""
        away = theta - self.z[conditional.globals]
        z = np.repeat(self.z[None], len(theta), axis=0)
        z[:, conditional.globals] = theta
        z[:, conditional.locals] += away @ self.follow
        return z


def best_centre(conditional: Conditional, start: Floats, seed: int) -> Centre:
    """The centre that climbs from several starts agree on.

    From further starts only as long as they are cheap: each is a climb.

    Raises
    ------
    NoCentreError
        If there is none, or modes of the marginal are apart that both matter.
    """
    density = conditional.density
    best = find_centre(conditional, start)
    sds = conditional.sds
    rng = np.random.default_rng(seed)
    begun = density.spent
    for _ in range(_STARTS - 1):
        if density.spent - begun > _STARTS_WORK:
            break
        try:
            other = find_centre(conditional, start + rng.uniform(-_APART, _APART, density.dim))
        except NoCentreError:
            continue
        away = (other.z - best.z)[conditional.globals]
        is_same = away @ best.precision @ away < _SAME**2
        is_same &= np.abs((other.z - best.z)[conditional.locals] / sds).max() < _SAME_LOCALS
        if is_same or (other.is_on_its_way and other.log_evidence < best.log_evidence):
            continue
        first, second = sorted((best, other), key=lambda centre: -centre.log_evidence)
        is_close = first.log_evidence - second.log_evidence < _MATTERS
        if is_close and not second.is_on_its_way:
            raise NoCentreError("there are several modes, and one would be missed")
        best, sds = first, conditional.sds if first is other else sds
    conditional.measure(best.z)
    return best


def find_centre(conditional: Conditional, start: Floats) -> Centre:
    """Climb to the mode of the marginal, from a point of the latent space.

    The joint mode is none of its stations: there the scales of a hierarchy are 0.

    Raises
    ------
    NoCentreError
        If the conditional mode of the local variables is not found at the start.
    RisesError
        If the marginal rises without end.
    """
    conditional.measure(start)
    modes = conditional.modes(start[None], _FIRST_ROUNDS)
    if not np.isfinite(modes.log_marginal[0]):
        raise NoCentreError("no conditional mode of the local variables was found at the start")
    conditional.measure(modes.z[0])
    here = _centre(conditional, modes, None)
    nearest, least = here, np.inf
    for number in range(_STEPS):
        tick(number)
        step = np.linalg.solve(here.precision, here.slope)
        decrement = float(step @ here.slope)
        if decrement < _FLAT**2:
            return here
        if decrement < least:
            nearest, least = here, decrement
        ahead = _ahead(conditional, here, step)
        if ahead is None:
            return here
        here = ahead
    raise RisesError(_STEPS, _with_own_precision(conditional, nearest))


def is_independent(conditional: Conditional, centre: Centre) -> bool:
    """Whether each local variable can be integrated over by itself."""
    if not conditional.is_independent:
        return False
    precisions = centre.factor.precisions[None]
    ((*_, is_all),) = curves_at(conditional.density, centre.z[None], conditional.locals, precisions)
    return is_all


def _ahead(conditional: Conditional, here: Centre, step: Floats) -> Centre | None:
    """Where a step leads that does not go down, None where there is none."""
    step = step * min(1.0, _LONGEST / np.abs(step).max())
    theta = here.z[conditional.globals]
    for _ in range(_HALVINGS):
        start = here.predicted(conditional, theta[None] + step)
        modes = conditional.modes(start, _ROUNDS, here.factor)
        if modes.log_marginal[0] >= here.log_marginal - 1e-6:
            conditional.measure(modes.z[0])
            return _centre(conditional, modes, here)
        step = step / 3
    return None


def _centre(conditional: Conditional, modes: Modes, before: Centre | None) -> Centre:
    """Slope and curvature at one conditional mode, with what was learnt on the way to it."""
    outer, z, factor = conditional.globals, modes.z[0], modes.factors[0]
    units = np.full(len(outer), 0.1) if before is None else 1 / np.sqrt(np.diag(before.precision))
    lengths = _STEP * np.minimum(units, 1.0)
    # the curvature along the global variables is learnt on the way, from one that is known
    is_known = before is not None and conditional.is_in_blocks
    is_less = is_known and conditional.third.gradients < len(outer) * (conditional.gradients + 2)
    derivatives = _with_blocks if is_less else _by_differences
    slope, precision, follow = derivatives(conditional, z, factor, lengths)
    found = Centre(z, float(modes.log_marginal[0]), slope, precision, follow, factor)
    return found if before is None else replace(found, precision=_learnt(found, before, outer))


def _with_own_precision(conditional: Conditional, centre: Centre) -> Centre:
    conditional.measure(centre.z)
    lengths = _STEP * np.minimum(1 / np.sqrt(np.diag(centre.precision)), 1.0)
    slope, precision, follow = _by_differences(conditional, centre.z, centre.factor, lengths)
    return replace(centre, slope=slope, precision=precision, follow=follow)


def _by_differences(
    conditional: Conditional, z: Floats, factor: Factor, lengths: Floats
) -> tuple[Floats, Floats, Floats]:
    """Slope and precision of the marginal, and how the local variables follow."""
    density, inner, outer = conditional.density, conditional.locals, conditional.globals
    size = len(outer)
    steps = along(outer, lengths, density.dim)
    _, gradient = density.value_and_gradient(np.concatenate([z - steps, z + steps, z[None]]))
    change = (gradient[:size] - gradient[size:-1]) / (2 * lengths[:, None])
    cross = change[:, inner]  # minus the second derivatives
    follow = -factor.solve(cross)
    # by the conditional modes' line, the logarithm of the determinant to first order
    moved = steps.copy()
    moved[:, inner] = lengths[:, None] * follow
    precisions = conditional.precisions(np.concatenate([z[None], z + moved]))
    here, *ahead = log_dets_of(map(conditional.factors.of, precisions))
    bent = (np.array(ahead) - here) / lengths
    precision = _definite(change[:, outer] + cross @ follow.T)
    return gradient[-1, outer] - bent / 2, precision, follow


def _with_blocks(
    conditional: Conditional, z: Floats, factor: Factor, lengths: Floats
) -> tuple[Floats, Floats, Floats]:
    """The same but for the precision, which is learnt, by fewer gradients."""
    _, (here,) = conditional.density.value_and_gradient(z[None])
    follow = factor.solve(conditional.third.crossed(z, lengths))
    bent = conditional.third.traces(z, here, factor, follow)
    return here[conditional.globals] - bent / 2, np.eye(len(lengths)), follow


def _learnt(here: Centre, before: Centre, outer: NDArray[np.int64]) -> Floats:
    """BFGS: curvature before, made to agree with how the slope has changed."""
    step, change = (here.z - before.z)[outer], before.slope - here.slope
    old = before.precision
    if not step.any():
        return old
    along = old @ step
    # damped, so that it stays positive definite (Powell, 1978)
    inner, wanted = step @ along, step @ change
    share = 1.0 if wanted >= 0.2 * inner else 0.8 * inner / (inner - wanted)
    change = share * change + (1 - share) * along
    new = old - np.outer(along, along) / inner + np.outer(change, change) / (step @ change)
    return _definite(new)


def _definite(matrix: Floats) -> Floats:
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return np.asarray((vectors * np.clip(np.abs(values), _FLATTEST, _STEEPEST)) @ vectors.T)
