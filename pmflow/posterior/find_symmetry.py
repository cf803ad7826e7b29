"""Which entries of a model's variables may be exchanged, and which signs turned.

The density itself is asked: where it is the same at an image of a point, to rounding, at points
without any pattern, the map is a symmetry. What is tried stands in `moves`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from pmflow.posterior.density import LogDensity
from pmflow.posterior.moves import Layout, Trial
from pmflow.posterior.symmetry import Move, Symmetry, closed

__all__ = ["Symmetries", "find_symmetries"]

_WORK, _NUMBERS, _MOST_TRIED, _FEWEST_TRIED = 5e7, 4e6, 400, 40
"""Numbers that the density may go through for a look, numbers of all maps together, and how many
maps are tried at least and at most: it takes less than judging a fit."""
_ROUNDING = 1e-9
"""Of a density, and of the unit of it: how far two values of it may be apart by rounding."""
_MOVED = 1.0
"""Sds from which on an image of a fit is another mode: as two starts are."""

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Symmetries:
    """What was found: moves of several kinds, each kind by itself.

    Attributes
    ----------
    row : ndarray of int, shape (dim,)
        Which simplex each coordinate is of, -1 for none.
    kinds : tuple of tuple of Move
    """

    row: Integers
    kinds: tuple[tuple[Move, ...], ...] = ()

    def moving(self, modes: Sequence[Floats]) -> Symmetry | None:
        """The group of those kinds that take a fit somewhere else; None where none does.

        Parameters
        ----------
        modes : sequence of ndarray, each of shape (n, dim)
            Draws of each mode of the fit.
        """
        moving: list[Move] = []
        for kind in self.kinds:
            maps = Symmetry.of(self.row, kind)
            pairs = ((draws, image) for draws in modes for image in maps.images(draws))
            if any(_is_elsewhere(draws, image) for draws, image in pairs):
                moving += kind
        return closed(self.row, moving) if moving else None


def _is_elsewhere(draws: Floats, image: Floats) -> bool:
    sd = np.sqrt((draws.var(0) + image.var(0)) / 2)
    distance = np.abs(draws.mean(0) - image.mean(0))
    return bool((distance > _MOVED * sd).any())


def find_symmetries(density: LogDensity, points: Floats) -> Symmetries:
    """Look for symmetries of a density.

    Parameters
    ----------
    density : LogDensity
    points : ndarray, shape (n, dim)
        Two or more at which the density is finite, as draws of a fit are.
    """
    layout = Layout.of(density)
    most = int(np.clip(_NUMBERS / layout.length, _FEWEST_TRIED, _MOST_TRIED))
    most = density.draws_within(_WORK, most=most, least=_FEWEST_TRIED)
    tried = list(islice(layout.trials(), most))
    if not tried:
        return Symmetries(layout.row)
    held = _holding(density, layout, [trial.move for trial in tried], points)
    kinds: list[tuple[Move, ...]] = []
    found: list[Trial] = []
    for trial, is_held in zip(tried, held, strict=True):
        if is_held and not any(one.is_within(trial) for one in found):
            found.append(trial)
    for parts in dict.fromkeys(trial.parts for trial in found):
        kinds.append(tuple(trial.move for trial in found if trial.parts == parts))
    return Symmetries(layout.row, tuple(kinds))


def _holding(
    density: LogDensity, layout: Layout, moves: Sequence[Move], points: Floats
) -> NDArray[np.bool_]:
    """Which moves leave the density as it is, at one point after the other."""
    held = np.ones(len(moves), dtype=bool)
    for point in points:
        if not held.any():
            break
        left = [move for move, is_held in zip(moves, held, strict=True) if is_held]
        images = Symmetry.of(layout.row, left).images(point[None])
        here, *there = density.value(np.concatenate([point[None], *images]))
        with np.errstate(invalid="ignore"):
            held[held] = np.abs(np.array(there) - here) <= _ROUNDING * (1 + abs(here))
    return held
