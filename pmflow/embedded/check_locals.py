"""How far local variables are from the posterior, given the global ones of some places."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from pmflow.draws.standard import means_of_pairs, mirrored_draws
from pmflow.embedded.choices import CHOICES, Chosen, chosen_at
from pmflow.embedded.given import Given
from pmflow.embedded.nested import Nested
from pmflow.embedded.proposed import Proposed
from pmflow.judging.nested import MOST_OFF_TO_FIRST_ORDER, is_open
from pmflow.records import systematic_choice
from pmflow.watch import Stopped, tick

__all__ = ["Running", "SeenLocals", "moved_locals"]

_PLACES = 64
"""Where local variables are looked at."""
_PAIRS = 8
"""Mirrored pairs of draws at each place, at a time."""
_MOST = 8
"""Times that all places are looked at, where noise decides about the worst of many variables."""

type Floats = NDArray[np.float64]


class Running:
    """Means and sds of rows that come some at a time."""

    def __init__(self) -> None:
        self._number = 0
        self.mean = np.zeros(0)
        self._squares = np.zeros(0)

    def add(self, rows: Floats) -> None:
        """Take rows of shape (n, size)."""
        mean = rows.mean(0)
        squares = ((rows - mean) ** 2).sum(0)
        if not self._number:
            self.mean, self._squares = mean, squares
        else:
            away, share = mean - self.mean, len(rows) / (self._number + len(rows))
            self.mean = self.mean + share * away
            self._squares += squares + self._number * share * away**2
        self._number += len(rows)

    @property
    def sd(self) -> Floats:
        """Standard deviation of the rows."""
        return np.asarray(np.sqrt(self._squares / self._number))

    @property
    def error(self) -> Floats:
        """Standard error of their mean."""
        return np.asarray(self.sd / np.sqrt(self._number))


class SeenLocals:
    """What draws of the local variables say, at places as the fit has them.

    Attributes
    ----------
    log_weights : ndarray, shape (places, draws)
        Of local variables given the global ones of each place.
    points : Running
        Of the draws of all variables.
    """

    def __init__(self, places: int) -> None:
        self.log_weights = np.empty((places, 0))
        self.points = Running()
        self._steps, self._widened, self._squares = Running(), Running(), Running()

    def look(self, nested: Nested, places: list[Given], rng: np.random.Generator) -> None:
        """Draw at all places once more."""
        seen = []
        for given in places:
            tick()
            if nested.state.locals_by == "weights":
                seen.append(np.zeros(CHOICES))
                self.look_at(chosen_at(nested.conditional, given, CHOICES, rng), CHOICES)
            else:
                seen.append(self._look_around(nested, given, rng))
        self.log_weights = np.concatenate([self.log_weights, np.stack(seen)], axis=1)

    def look_at(self, made: Chosen, choices: int) -> None:
        """Take draws of blocks that are chosen by their weights.

        That leaves the error of a choice among few, see `Chosen.lost`.

        Parameters
        ----------
        made : Chosen
        choices : int
            Of how many one is chosen where the fit is drawn from.
        """
        deviation = made.deviation - made.mean
        squares = made.weights * deviation**2
        lost = made.lost / (choices // 2)
        self._add(lost * deviation, lost * (deviation**2 - squares.mean(0)), squares, made.z)

    def _look_around(self, nested: Nested, given: Given, rng: np.random.Generator) -> Floats:
        """Take Gaussian draws at one place, and give their log weights."""
        inner = nested.conditional.locals
        z, deviation, log_q = given.drawn(mirrored_draws(_PAIRS, len(inner), rng), inner)
        log_p, slope = nested.conditional.value_and_slope(z)
        # the gradient of log w in units of the covariance
        step = given.factor.solve(slope) - given.slope(deviation)
        self._add(step, step * deviation, deviation**2, z)
        return log_p - log_q

    def _add(self, step: Floats, widened: Floats, squares: Floats, points: Floats) -> None:
        self._steps.add(means_of_pairs(step))
        self._widened.add(means_of_pairs(widened))
        self._squares.add(squares)
        self.points.add(points)

    def moved(self, inner: NDArray[np.int64]) -> Floats:
        """Shifts and growths of the local variables with their errors, shape (4, locals)."""
        sds, variances = self.points.sd[inner], self._squares.mean
        return np.stack(
            [
                self._steps.mean / sds,
                self._steps.error / sds,
                self._widened.mean / variances,
                self._widened.error / variances,
            ]
        )


def moved_locals(nested: Nested, proposed: Proposed, rng: np.random.Generator) -> SeenLocals:
    """How far weighting moves the local variables, known so well that it can be told."""
    # a place as often as its weight says: what is averaged is averaged over the fit
    chosen = systematic_choice(proposed.shares, _PLACES, 1 - rng.random())
    places = [proposed.every[number] for number in chosen]
    found = SeenLocals(len(places))
    found.look(nested, places, rng)
    with suppress(Stopped):
        for _ in range(_MOST - 1):
            if not is_open(found.moved(nested.conditional.locals), MOST_OFF_TO_FIRST_ORDER):
                break
            found.look(nested, places, rng)
    return found
