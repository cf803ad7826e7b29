"""From a density and its pattern to many globals, by the scores of their marginal."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmflow.draws.standard import mirrored_draws
from pmflow.embedded.bent import Bent
from pmflow.embedded.choices import CHOICES
from pmflow.embedded.conditional import Conditional
from pmflow.embedded.marginal import (
    Centre,
    NoCentreError,
    RisesError,
    best_centre,
)
from pmflow.embedded.matched import matched, moved
from pmflow.embedded.nested import Nested, NestedState
from pmflow.embedded.proposal import Proposal
from pmflow.embedded.scores import Score, Scorer
from pmflow.embedded.tilt import MOST, Tilt
from pmflow.embedded.values import integrated, with_values
from pmflow.watch import Stopped, result_exists, stage, tick

__all__ = ["MANY", "fit_by_scores"]

MANY = 100
"""Entries of all global variables together."""

_FOR_PULL = (8, 8)
"""Places of the rounds in which the local variables alone are looked at."""
_PLACES = (32, 64)
"""Of the first round after these, and of each further one."""
_FEWEST_ROUNDS, _MOST_ROUNDS = 3, 16
_FEWEST_PAIRS, _MOST_PAIRS, _PAIRS_FOR_UNEVENNESS = 2, 16, 20.0
"""Mirrored pairs of draws of the local variables at each place: few draws are off by how uneven the
weights of a block are."""
_PAIRS_AT_FIRST = 8
_FEW_CHOICES, _LOST = 16, 0.02
"""Draws of a block of which one is chosen, where that moves the mean of no local variable by more,
in conditional sds, before it is taken off."""
_KEPT, _KEPT_AT_LAST = 256, 768
"""Places that are looked back to, by each round and at last."""
_MOST_AT_LAST, _WORK, _GRADIENTS = (128, 256), 2e10, 100
"""Places of the last round and of one after it, numbers that the density may go through for more
than in the others, and about how many gradients a place takes."""
_PRODUCTS_FOR_VALUES = 1_000
"""Of a tilt by which places are only proposed: twice as many take five times as long."""
_FAR_FROM_GAUSSIAN = 0.85
"""Effective draws of a tilted Gaussian below which places are looked at where it is tilted to."""
_NEAR, _SETTLED = 0.3, 0.08
"""In sds: what a round moves up to which few draws are enough, and what needs no further round; of
sds half of that."""
_UNEVEN = 2.0
"""Variance of the weights of a block, on average, above which few draws say nothing."""
_LEAST_KNOWN = 0.5
"""Share of the places at which the local variables must have a mode."""

type Floats = NDArray[np.float64]


def fit_by_scores(conditional: Conditional, start: Floats, seed: int) -> Nested:
    r"""Find the marginal of many global variables by its gradient.

    At each of some places the local variables are drawn by weights, block by block, and the
    gradient of the log density by the global variables is averaged over the draws: by Fisher's
    identity that is the gradient of their log marginal, with no Gaussian in between. What these
    weights leave in the *value* of the marginal is nats where groups are hundreds; in the gradient,
    in sds of the global variables, it is no more than for one group.

    Parameters
    ----------
    conditional : Conditional
        Of blocks that are independent given the global variables.
    start : ndarray, shape (dim,)
    seed : int

    Returns
    -------
    Nested
        As far as it has come, where the search was stopped on the way.

    Raises
    ------
    NoCentreError
        If the marginal is not found.
    Stopped
        If the search was stopped before it was.
    """
    with stage("Integrating local variables out"):
        try:
            centre = _centre(conditional, start, seed)
            search = _Search.begun(_begun(conditional, centre), seed)
            result_exists()
            with suppress(Stopped):
                search.run()
                exactly = integrated(conditional, centre)
                search.tilt(MOST if exactly is None else _PRODUCTS_FOR_VALUES)
                weighed = None if exactly is None else with_values(search.nested, exactly, seed)
                if weighed is not None:
                    return weighed
                search.look_again()
        except np.linalg.LinAlgError as error:
            raise NoCentreError("the search overflowed") from error
    return search.nested


def _centre(conditional: Conditional, start: Floats, seed: int) -> Centre:
    """Where rounds begin: near a mode, though it need not be one.

    The density of a covariance matrix by its Cholesky factor has no mode where a scale may be 0:
    there it rises without end, over next to no volume.
    """
    try:
        return best_centre(conditional, start, seed)
    except RisesError as error:
        return error.nearest


def _begun(conditional: Conditional, centre: Centre) -> Nested:
    mean, covariance = centre.z[conditional.globals], np.linalg.inv(centre.precision)
    proposal = Proposal.of_moments(mean, covariance)
    state = NestedState(
        centre=centre,
        unit=proposal,
        proposal=proposal,
        marginal=Bent.gaussian(mean, covariance),
        sds=conditional.sds,
        locals_by="weights",
        correction=np.zeros(1),
        pull=np.zeros((1, len(conditional.locals))),
        log_evidence=0.0,
        ess=1.0,
    )
    return Nested(conditional, state)


@dataclass
class _Search:
    """Rounds of places, each around where those before have led.

    Attributes
    ----------
    nested : Nested
    scorer : Scorer
    rng : Generator
    theta, scores : ndarray, shape (n, globals)
        Of all rounds but those for the local variables alone.
    pairs, wanted : int
        Mirrored pairs of draws of the local variables at each place, and how many there must be at
        last.
    """

    nested: Nested
    scorer: Scorer
    rng: np.random.Generator
    theta: Floats
    scores: Floats
    pairs: int = _PAIRS_AT_FIRST
    wanted: int = _PAIRS_AT_FIRST

    @classmethod
    def begun(cls, nested: Nested, seed: int) -> _Search:
        """With the local variables pulled from their mode to their mean."""
        none = np.empty((0, len(nested.conditional.globals)))
        search = cls(nested, nested.scorer, np.random.default_rng(seed), none, none)
        search._pull()
        return search

    def _pull(self) -> None:
        for number in _FOR_PULL:
            _, seen = self._seen(number)
            self._pulled(seen)
        self.pairs = _FEWEST_PAIRS

    def run(self) -> None:
        """Look and match, until little moves."""
        for number in range(_MOST_ROUNDS):
            way = self._round(_PLACES[min(number, 1)])
            if way < _NEAR and self.pairs < self.wanted:
                self._forget()
            elif number >= _FEWEST_ROUNDS and way < _SETTLED:
                break
        self._last_look(_MOST_AT_LAST[0])

    def tilt(self, most: int = MOST) -> None:
        """Weight by what no Gaussian has, however it is bent: by so many products."""
        theta, scores = self._seen_all
        y, excess = self._marginal.standardised(theta), self._marginal.excess(theta, scores)
        self._take(marginal=replace(self._marginal, tilt=Tilt.matched(y, excess, most)))

    def look_again(self) -> None:
        """Look where it is tilted to, where that is far from where it was."""
        tilt = self._marginal.tilt
        if tilt is not None and tilt.ess < _FAR_FROM_GAUSSIAN:
            self._last_look(_MOST_AT_LAST[1])
            self.tilt()

    def _last_look(self, most: int) -> None:
        """Look at more places, and match all of them."""
        density = self.nested.conditional.density
        more = density.draws_within(_WORK / _GRADIENTS, most=most, least=_PLACES[1])
        seen = self._look(2 * (more // 2))
        lost = np.abs(np.mean([score.lost for score in seen], axis=0)).max()
        choices = _FEW_CHOICES if lost < _LOST * _FEW_CHOICES / 2 else CHOICES
        self._take(marginal=self._matched_to_all, choices=choices)

    def _forget(self) -> None:
        """Go on with as many draws as are wanted, without what fewer have said."""
        self.pairs = self.wanted
        self.theta, self.scores = self.theta[:0], self.scores[:0]

    @property
    def _seen_all(self) -> tuple[Floats, Floats]:
        return self.theta[-_KEPT_AT_LAST:], self.scores[-_KEPT_AT_LAST:]

    @property
    def _matched_to_all(self) -> Bent:
        return matched(replace(self._marginal, tilt=None), *self._seen_all)

    def _round(self, places: int) -> float:
        """How far one round has moved the distribution."""
        seen = self._look(places)
        before = self._marginal
        after = matched(before, self.theta[-_KEPT:], self.scores[-_KEPT:])
        missed = float(np.mean([score.missed for score in seen]))
        self._take(marginal=after, log_evidence=self.nested.state.log_evidence + missed)
        self._pulled(seen)
        return moved(before, after)

    def _look(self, places: int) -> list[Score]:
        """What is seen at some places, which is remembered."""
        theta, seen = self._seen(places)
        self.theta = np.concatenate([self.theta, theta])
        self.scores = np.concatenate([self.scores, [score.of_globals for score in seen]])
        return seen

    def _seen(self, places: int) -> tuple[Floats, list[Score]]:
        """What is seen at some places, and these: of those that have modes of the local variables.

        Raises
        ------
        NoCentreError
            If these are too few.
        """
        nested, marginal = self.nested, self._marginal
        if marginal.tilt is None:
            y = mirrored_draws(places // 2, len(nested.conditional.globals), self.rng)
        else:
            y = marginal.standard_draws(places, int(self.rng.integers(2**30)))
        theta = marginal.placed(y)
        found, known = [], np.zeros(len(theta), dtype=bool)
        for number, given in enumerate(nested.each(theta)):
            tick()
            if np.isfinite(given.log_marginal[0]):
                _, score = self.scorer.at(given, 2 * self.pairs, self.rng, 2 * self.pairs)
                known[number] = np.isfinite(score.of_globals).all()
                found += [score] if known[number] else []
        if not known.mean() > _LEAST_KNOWN:
            raise NoCentreError("the local variables have no mode at most of the global ones")
        return theta[known], found

    def _pulled(self, seen: list[Score]) -> None:
        """Take what was seen of the local variables for what comes after.

        Raises
        ------
        NoCentreError
            If their weights say too little.
        """
        unevenness = float(np.mean([score.unevenness for score in seen]))
        if not unevenness < _UNEVEN:
            raise NoCentreError("the local variables are far from Gaussian, given the global ones")
        wanted = math.ceil(_PAIRS_FOR_UNEVENNESS * unevenness)
        self.wanted = int(np.clip(wanted, _FEWEST_PAIRS, _MOST_PAIRS))
        pull = np.mean([score.pull for score in seen], axis=0)
        self._take(pull=self.nested.state.pull + pull)

    @property
    def _marginal(self) -> Bent:
        marginal = self.nested.state.marginal
        assert marginal is not None
        return marginal

    def _take(self, **found: Any) -> None:
        state = replace(self.nested.state, **found)
        if "marginal" in found:
            proposal = found["marginal"].by_moments
            state = replace(state, unit=proposal, proposal=proposal)
        self.nested = Nested(self.nested.conditional, state)
