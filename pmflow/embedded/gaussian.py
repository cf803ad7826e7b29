"""The Gaussian with the precision of the model's pattern that is nearest to the posterior."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pmflow.draws.standard import mirrored_draws
from pmflow.embedded.conditional import Conditional
from pmflow.embedded.factor import Factor
from pmflow.embedded.globals import Held
from pmflow.embedded.structure import check_affordable
from pmflow.records import State
from pmflow.watch import Stopped, result_exists, stage, tick

__all__ = ["GaussianState", "NoGaussianError", "fit_gaussian", "gaussian_of"]

_PAIRS = 8
"""Mirrored pairs of draws of a step."""
_QUICK, _RATE = 64, 0.7
"""Steps on the way at most, and how far each goes towards what its draws say."""
_LOOK = 5
"""Steps whose ELBO is compared with that of as many before: no more, and the way is at its end."""
_SLOW = 24
"""Steps that are averaged, the k-th of which goes 1 / (k + 1) of the way."""
_CURVATURES = 2 * _PAIRS * (_QUICK + _SLOW)
"""At most."""
_LONGEST = 10.0
"""Conditional sds that a coordinate moves in one step."""
_HALVINGS = 6
_STARTS, _APART, _ROUNDS = 6, 2.0, 30
"""Further starts from which modes are looked for, how far away they are at most, unconstrained, and
curvatures on the way."""
_SAME, _MATTERS = 1.0, 3.0
"""Sds within which two modes are one, and nats by which the lower of two may be below the other to
matter: a twentieth of the evidence."""
_LOST = 1e3
"""Nats that the ELBO may fall below the best so far, for each dimension."""

type Floats = NDArray[np.float64]


class NoGaussianError(Exception):
    """No such Gaussian was found; the message says why."""


@dataclass(frozen=True, eq=False)
class GaussianState(State):
    """A Gaussian over the latent space.

    Attributes
    ----------
    mean : ndarray, shape (dim,)
    factor : Factor
        Of its precision.
    """

    mean: Floats
    factor: Factor

    def drawn(self, e: Floats) -> tuple[Floats, Floats, Floats]:
        """Draws of shape (n, dim) from base draws, their deviations, and their log densities."""
        deviation = self.factor.coloured(e)
        return self.mean + deviation, deviation, self._log_density((e**2).sum(1))

    def log_density(self, points: Floats) -> Floats:
        """Log density at points of shape (n, dim), shape (n,)."""
        return self._log_density(self.factor.squared_norm(points - self.mean))

    def _log_density(self, squared_norm: Floats) -> Floats:
        constant = self.factor.log_det - len(self.mean) * math.log(2 * math.pi)
        return np.asarray((constant - squared_norm) / 2)


def gaussian_of(held: Held, seed: int) -> GaussianState:
    """Climb the ELBO from where the larger variables are at their mode.

    Raises
    ------
    NoGaussianError, NoStructureError, Stopped
        See `fit_gaussian`; if the second derivatives take too long, or there are several modes.
    """
    density, pattern = held.whole.density, held.whole.pattern
    whole = Conditional(density, pattern, np.zeros(density.dim, dtype=bool), _CURVATURES)
    check_affordable(whole, _CURVATURES)
    found = fit_gaussian(whole, held.of_larger, seed)
    _check_modes(whole, found, held.start, seed)
    return found


def _check_modes(whole: Conditional, found: GaussianState, start: Floats, seed: int) -> None:
    """See whether climbs from elsewhere end at the mode that the Gaussian has.

    Raises
    ------
    NoGaussianError
        If one ends at another mode that matters.
    """
    rng = np.random.default_rng(seed)
    starts = start + rng.uniform(-_APART, _APART, (_STARTS, len(start)))
    modes = whole.modes(np.concatenate([found.mean[None], starts]), _ROUNDS)
    here, *others = modes.log_marginal
    sd = np.sqrt(found.factor.variances)
    for z, evidence in zip(modes.z[1:], others, strict=True):
        is_same = np.abs((z - modes.z[0]) / sd).max() < _SAME
        if np.isfinite([here, evidence]).all() and not is_same and evidence > here - _MATTERS:
            raise NoGaussianError("there are several modes, and one would be missed")


def fit_gaussian(whole: Conditional, start: Floats, seed: int) -> GaussianState:
    r"""Climb the ELBO by natural gradients.

    At the best of all Gaussians the precision is minus the mean second derivative of the log
    density, which has the zeros of the model's pattern, and the mean gradient is 0 (Opper &
    Archambeau, 2009, https://doi.org/10.1162/neco.2008.08-07-592). Each step goes a part of the
    way to what some draws say of both (Khan & Lin, 2017, https://arxiv.org/abs/1703.04265); the
    last steps are averages.

    Parameters
    ----------
    whole : Conditional
        Of all coordinates, none of them global.
    start : ndarray, shape (dim,)
        A place where the local variables are at their mode, given the others.
    seed : int

    Raises
    ------
    NoGaussianError
        If the climb is lost.
    Stopped
        If the search was stopped before it has begun to average.
    """
    rng = np.random.default_rng(seed)
    whole.measure(start)
    try:
        factor, _, values = whole.factors.damped(whole.precisions(start[None])[0])
    except np.linalg.LinAlgError as error:
        raise NoGaussianError("the density has no curvature at the start") from error
    at = _Place(GaussianState(start, factor), values)
    with stage("Finding the Gaussian"):
        at = _led(whole, at, rng)
        result_exists()
        with suppress(Stopped):
            for number in range(_SLOW):
                tick(number)
                at, _ = _step(whole, at, 1 / (number + 2), rng)
    return at.state


@dataclass(frozen=True, eq=False)
class _Place:
    """A Gaussian, with the entries of its precision in the order of `Factors`."""

    state: GaussianState
    values: Floats


def _led(whole: Conditional, at: _Place, rng: np.random.Generator) -> _Place:
    """Long steps, until the ELBO does not grow any more."""
    elbos: list[float] = []
    for number in range(_QUICK):
        tick(number)
        at, elbo = _step(whole, at, _RATE, rng)
        if not elbo > max(elbos, default=elbo - 1.0) - _LOST * len(at.state.mean):
            raise NoGaussianError("the climb to the best Gaussian is lost")
        elbos.append(elbo)
        last, before = elbos[-_LOOK:], elbos[-2 * _LOOK : -_LOOK]
        if len(before) == _LOOK and np.mean(last) <= np.mean(before):
            break
    return at


def _step(
    whole: Conditional, at: _Place, rate: float, rng: np.random.Generator
) -> tuple[_Place, float]:
    """A part of the way to what some draws say, and the ELBO by them."""
    z, _, log_q = at.state.drawn(mirrored_draws(_PAIRS, len(at.state.mean), rng))
    log_p, gradient = whole.density.value_and_gradient(z)
    is_good = np.isfinite(log_p)
    if not is_good.any():
        return at, -np.inf
    wanted = whole.precisions(z[is_good]).mean(0)
    factor, values = at.state.factor, at.values
    for _ in range(_HALVINGS):
        ahead = (1 - rate) * at.values + rate * wanted
        found = whole.factors.of(ahead)
        if found is not None:
            factor, values = found, ahead
            break
        rate /= 2
    precisions = whole.factors.diagonal(values)
    step = rate * factor.solve(gradient[is_good].mean(0, keepdims=True))[0]
    step *= min(1.0, _LONGEST / max(float(np.abs(step * np.sqrt(precisions)).max()), 1e-300))
    whole.take_units(1 / np.sqrt(precisions))
    return _Place(GaussianState(at.state.mean + step, factor), values), float(
        (log_p - log_q)[is_good].mean()
    )
