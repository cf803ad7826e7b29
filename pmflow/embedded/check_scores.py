"""How far many global variables, and local ones given them, are from the posterior."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pmflow.embedded.bent import Bent
from pmflow.embedded.check import NestedCheck
from pmflow.embedded.check_locals import SeenLocals
from pmflow.embedded.nested import Nested, unjudged
from pmflow.judging.nested import MOST_OFF_TO_FIRST_ORDER, is_open
from pmflow.records import Elbo
from pmflow.watch import Stopped, tick

__all__ = ["check_by_scores"]

_PLACES = 64
"""That are looked at at a time."""
_DRAWS = 16
"""Of the local variables at each."""
_MOST = 6
"""Times that so many are looked at, where noise decides about the worst of many variables."""

type Floats = NDArray[np.float64]


def check_by_scores(nested: Nested, seed: int) -> NestedCheck:
    r"""Look at the scores of the marginal at fresh places.

    By Stein's lemma, to first order weighting moves the mean of a Gaussian by the mean of
    :math:`\Sigma \nabla \log w`, and its variance by the mean of that times the deviation. What is
    bent is looked at before it is bent. A skewness that is missed moves neither; to second order
    its square widens.

    Parameters
    ----------
    nested : Nested
        With a marginal of its own.
    seed : int

    Raises
    ------
    UnsupportedError
        If the local variables have no mode at some place.
    """
    rng = np.random.default_rng(seed)
    seen = _Seen(nested)
    seen.look(rng)
    with suppress(Stopped):
        for _ in range(_MOST - 1):
            if not is_open(seen.moved, MOST_OFF_TO_FIRST_ORDER):
                break
            seen.look(rng)
    shift, shift_error, growth, growth_error = seen.moved
    locals_ = len(nested.conditional.locals)
    return NestedCheck(
        of_globals=None,
        log_weights=np.zeros((len(seen.missed), _DRAWS)),
        locals=locals_,
        shift=shift,
        shift_error=shift_error,
        growth=growth,
        growth_error=growth_error,
        is_first_order=np.ones(len(shift), dtype=bool),
        mean=seen.of_locals.points.mean,
        sd=seen.of_locals.points.sd,
        estimates=seen.estimates,
    )


@dataclass
class _Seen:
    """What is seen at places as the fit has them.

    Attributes
    ----------
    nested : Nested
    y, excess : ndarray, shape (places, globals)
        Where, and how steep log p - log q is there: of the standard normal variables.
    missed : list of float
        Log p - log q itself, of the global variables, with much noise.
    of_locals : SeenLocals
    """

    nested: Nested
    y: Floats = field(init=False)
    excess: Floats = field(init=False)
    missed: list[float] = field(default_factory=list)
    of_locals: SeenLocals = field(default_factory=lambda: SeenLocals(0))

    def __post_init__(self) -> None:
        self.y = self.excess = np.empty((0, len(self.nested.conditional.globals)))

    @property
    def _marginal(self) -> Bent:
        marginal = self.nested.state.marginal
        assert marginal is not None
        return marginal

    def look(self, rng: np.random.Generator) -> None:
        """Look at so many places more."""
        nested = self.nested
        y = self._marginal.standard_draws(_PLACES, int(rng.integers(2**30)))
        theta = self._marginal.placed(y)
        scores = []
        for given in nested.each(theta):
            tick()
            if not np.isfinite(given.log_marginal[0]):
                raise unjudged("one of its draws of the global variables")
            made, score = nested.scorer.at(given, _DRAWS, rng, _DRAWS)
            self.of_locals.look_at(made, nested.state.choices)
            self.missed.append(score.missed)
            scores.append(score.of_globals)
        excess = self._marginal.excess(theta, np.stack(scores))
        self.y = np.concatenate([self.y, y])
        self.excess = np.concatenate([self.excess, excess])

    @property
    def moved(self) -> Floats:
        """Shifts and growths with their errors, shape (4, dim)."""
        conditional = self.nested.conditional
        found = np.empty((4, conditional.density.dim))
        found[:, conditional.globals] = self._of_globals
        found[:, conditional.locals] = self.of_locals.moved(conditional.locals)
        return found

    @property
    def _of_globals(self) -> Floats:
        marginal = self._marginal
        turn = marginal.root / np.sqrt(np.diag(marginal.covariance))[:, None]
        steps, away = self.excess @ turn.T, (self.y - self.y.mean(0)) @ turn.T
        shift, shift_error = _mean(steps)
        growth, growth_error = _mean(steps * away)
        # how much wider a variable becomes with each of the others: all in all its square
        for other in away.T:
            swollen, its_error = _mean(steps * away * other[:, None])
            growth = growth + np.maximum(swollen**2 - its_error**2, 0.0) / 2
        return np.stack([shift, shift_error, growth, growth_error])

    @property
    def estimates(self) -> tuple[Elbo, Elbo, Elbo]:
        """ELBO, log evidence and divergence: that of each global variable by itself."""
        elbo = Elbo.of(self.nested.state.log_evidence + np.array(self.missed))
        shift, shift_error, growth, growth_error = self._of_globals
        parts = (shift**2 - shift_error**2) / 2 + (growth**2 - growth_error**2) / 4
        error = np.hypot(shift * shift_error, growth * growth_error / 2)
        kl = Elbo(float(max(parts.sum(), 0.0)), float(np.sqrt((error**2).sum())))
        evidence = Elbo(elbo.value + kl.value, float(np.hypot(elbo.error, kl.error)))
        return elbo, evidence, kl


def _mean(values: Floats) -> Floats:
    """Mean and standard error of rows, shape (2, size)."""
    return np.stack([values.mean(0), values.std(0, ddof=1) / np.sqrt(len(values))])
