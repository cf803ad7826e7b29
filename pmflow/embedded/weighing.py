"""Weights of local variables that are drawn given the global ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pmflow.draws.standard import mirrored_draws
from pmflow.embedded.blocks import Blocks, BlockWeights
from pmflow.embedded.conditional import Conditional
from pmflow.embedded.given import Given
from pmflow.embedded.patches import patches_of
from pmflow.watch import tick

__all__ = ["Missed", "blocks_for", "missed_by", "parabola", "spread"]

_PLACES = 24
"""Places at which the marginal is held against weights: few, with many draws each."""

_PAIRS, _BLOCK_PAIRS, _CURVE_PAIRS = 16, 8, 4
"""Mirrored pairs of base draws in a group: weights of blocks are quieter, and those of densities
that are known for each variable are all but the same."""
_TO_CHOOSE = 64
"""Mirrored pairs by which it is chosen how."""
_FEWEST, _MOST = 4, 64
"""Groups of base draws."""
_WORK = 1e10
"""Numbers that the density may go through for more groups than the fewest."""
_NUMBERS_AT_ONCE = 2**23
"""Of draws that are held at a time."""
_UNCERTAIN = 2.0
"""Variance of the log weights of all local variables, above which three cumulants do not tell the
log of their mean."""
_SHARED = 1.5
"""Times that of all, up to which the variances of the log weights of patches may add up: beyond,
they are of what patches take from each other, and no part of the log weights of all."""
_QUIET = 0.02
"""Standard error, in sds of the global variables, at which no further group is drawn."""

type Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Missed:
    """What the distributions of local variables have missed of the log marginal.

    Attributes
    ----------
    by_group : ndarray, shape (groups, places)
        As each group of base draws has it, independent of the others.
    together : ndarray, shape (places,)
        By all groups.
    unevenness : float
        See `BlockWeights`; 0 where no blocks are weighed.
    """

    by_group: Floats
    together: Floats
    unevenness: float = 0.0


def missed_by(
    conditional: Conditional,
    givens: Sequence[Given],
    y: Floats,
    rng: np.random.Generator,
    blocks: Blocks | None,
    most_groups: int = _MOST,
) -> Missed:
    """What is missed at some places, by the weights of the same base draws at all of them.

    Groups of draws are added until they agree on how that changes with the global variables.

    Parameters
    ----------
    conditional : Conditional
    givens : sequence of Given
        The places, one in each.
    y : ndarray, shape (places, globals)
        Their global variables, in units of the marginal.
    rng : Generator
    blocks : Blocks or None
        By which they are weighed, see `Nested.weighed_by`.
    most_groups : int
        Of base draws.
    """
    pairs = _PAIRS if givens[0].curves is None else _CURVE_PAIRS
    found = _Together(pairs) if blocks is None else _OfBlocks(blocks)
    at_a_time = 2 * found.pairs * len(givens) * found.evaluations
    most = conditional.density.draws_within(_WORK / at_a_time, most=most_groups, least=_FEWEST)
    while len(found.groups) < most:
        number = 1 if found.groups else _FEWEST
        e = [mirrored_draws(found.pairs, len(conditional.locals), rng) for _ in range(number)]
        found.add(conditional, givens, e)
        if len(found.groups) >= _FEWEST:
            _, *slopes = _lines(np.stack(found.groups), y).T
            if (np.std(slopes, axis=1, ddof=1) < _QUIET * np.sqrt(len(found.groups))).all():
                break
    return found.missed()


def blocks_for(conditional: Conditional, given: Given) -> Blocks | None:
    """The blocks of local variables that are weighed by themselves; None where all are together.

    Those that are apart; else patches, where all are too many to be weighed together.

    Parameters
    ----------
    conditional : Conditional
    given : Given
        One place, at which it is told, by the same draws always.
    """
    if given.curves is not None:
        return None
    if conditional.blocks is not None or not np.isfinite(given.log_marginal[0]):
        return conditional.blocks
    e = mirrored_draws(_TO_CHOOSE, len(conditional.locals), np.random.default_rng(0))
    z, _, log_q = given.drawn(e, conditional.locals)
    spread = (conditional.value(z) - log_q).var()
    if not spread > _UNCERTAIN:
        return None
    patches = patches_of(conditional.factors, conditional.precisions(given.z)[0])
    if patches is None:
        return None
    _, log_weights = patches.log_weights(
        conditional.value_and_slope, given.z[0], conditional.locals, given.factor, e
    )
    is_theirs = log_weights.var(0).sum() < _SHARED * log_weights.sum(1).var()
    return patches if is_theirs else None


class _Together:
    """By the weights of all local variables at once, and their first three cumulants.

    A mean of weights is that of the largest few. Log weights of many local variables are sums of
    many small terms, so they are near to normal: half of their variance is added to their mean,
    and a sixth of their third cumulant.
    """

    evaluations = 1
    """Of the density, for each draw."""

    def __init__(self, pairs: int) -> None:
        self.pairs = pairs
        self.groups: list[Floats] = []
        self._log_weights: list[Floats] = []

    def add(self, conditional: Conditional, givens: Sequence[Given], e: Sequence[Floats]) -> None:
        """Weigh draws from groups of base draws, of shape (draws, locals) each, at each place."""
        inner, together = conditional.locals, np.concatenate(e)
        at_once = max(1, _NUMBERS_AT_ONCE // (len(together) * conditional.density.dim))
        found: list[Floats] = []
        for i in range(0, len(givens), at_once):
            tick()
            drawn = [given.drawn(together, inner) for given in givens[i : i + at_once]]
            value = conditional.value(np.concatenate([z for z, *_ in drawn]))
            found.append(value.reshape(len(drawn), -1) - np.stack([log_q for *_, log_q in drawn]))
        self._log_weights.append(np.concatenate(found))
        by_group = np.split(self._log_weights[-1], len(e), axis=1)
        self.groups += [self._by_cumulants(group) for group in by_group]

    def missed(self) -> Missed:
        """What all draws say."""
        together = self._by_cumulants(np.concatenate(self._log_weights, axis=1))
        return Missed(np.stack(self.groups), together)

    @staticmethod
    def _by_cumulants(log_weights: Floats) -> Floats:
        with np.errstate(invalid="ignore"):
            mean, variance = log_weights.mean(-1), log_weights.var(-1)
            cubes = ((log_weights - mean[..., None]) ** 3).mean(-1)
        return np.asarray(mean + variance / 2 + cubes / 6)


class _OfBlocks:
    """By the weights of each block of local variables, and of what they have to do with others."""

    pairs = _BLOCK_PAIRS
    """Of draws in a group."""

    def __init__(self, blocks: Blocks) -> None:
        self.groups: list[Floats] = []
        self.evaluations = blocks.nodes
        self._blocks = blocks
        self._across: list[Floats] = []
        self._weights: BlockWeights | None = None
        self._middle: Floats | None = None

    def add(self, conditional: Conditional, givens: Sequence[Given], e: Sequence[Floats]) -> None:
        """Weigh draws from groups of base draws, of shape (draws, locals) each, at each place."""
        if self._middle is None:
            self._middle = self._missed_in_the_middle(conditional, givens)
        for group in e:
            log_weights = []
            for given in givens:
                tick()
                _, found = self._blocks.log_weights(
                    conditional.value_and_slope, given.z[0], conditional.locals, given.factor, group
                )
                log_weights.append(found)
            new = BlockWeights.of(np.stack(log_weights))
            self._weights = new if self._weights is None else self._weights + new
            self._across.append(np.array([self._blocks.across(found) for found in log_weights]))
            self.groups.append(self._middle + new.missed() + self._across[-1])

    def missed(self) -> Missed:
        """What all draws say."""
        assert self._weights is not None
        assert self._middle is not None
        together = self._middle + self._weights.missed() + np.mean(self._across, axis=0)
        unevenness = self._weights.unevenness if self._blocks.are_apart else 0.0
        return Missed(np.stack(self.groups), together, unevenness)

    @staticmethod
    def _missed_in_the_middle(conditional: Conditional, givens: Sequence[Given]) -> Floats:
        log_p = conditional.value(np.concatenate([given.z for given in givens]))
        at_middle = np.zeros((1, len(conditional.locals)))
        return log_p - np.concatenate([given.log_density(at_middle) for given in givens])


def _lines(missed: Floats, y: Floats) -> Floats:
    """What is missed as a constant, a line and squares of the global variables, by least squares.

    Parameters
    ----------
    missed : ndarray, shape (groups, places)
    y : ndarray, shape (places, globals)

    Returns
    -------
    ndarray, shape (groups, 1 + 2 globals)
    """
    return np.asarray(missed @ np.linalg.pinv(parabola(y)).T)


def parabola(y: Floats) -> Floats:
    """1, the coordinates and their squares, of points of shape (n, globals)."""
    return np.concatenate([np.ones((len(y), 1)), y, y**2], axis=1)


def spread(places: int, coefficients: int) -> slice:
    """Some of many places, evenly among them: enough for so many coefficients of a fit to them."""
    wanted = max(_PLACES, 2 * coefficients)
    return slice(None, None, max(1, places // wanted))
