"""Exchanges of entries and turned signs that may be symmetries of a model.

Entries, rows or columns of all variables along axes of one length are exchanged together, as are
two variables of one shape; signs are turned of variables, or of a row or column of several.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pymc.logprob.transforms import SimplexTransform

from pmflow.posterior.density import LogDensity
from pmflow.posterior.symmetry import Move

__all__ = ["Axis", "Layout", "Trial"]

_ALL_PAIRS, _ALL_NEIGHBOURS = 6, 12
"""Lengths up to which all pairs of entries are tried, and all neighbours; of longer axes the first
two stand for all."""
_ALL_SUBSETS = 5
"""Axes of one length, or variables, of which all subsets are tried; of more, one, two, or all."""

type Integers = NDArray[np.int64]


class Axis(NamedTuple):
    """An axis of a variable."""

    variable: int
    axis: int


@dataclass(frozen=True)
class Trial:
    """A move to try."""

    move: Move
    parts: frozenset[object]
    """What it moves: axes or variables, and how."""
    entries: tuple[int, ...] = ()

    def is_within(self, other: Trial) -> bool:
        """Whether the other one does this and more, which must then be a symmetry by itself."""
        return self.entries == other.entries and self.parts < other.parts


@dataclass(frozen=True)
class Layout:
    """Where the entries of each variable are in the latent vector and what it implies.

    Attributes
    ----------
    row : ndarray of int, shape (dim,)
    places : tuple of ndarray of int
        Of each variable, in its own shape: a simplex with its last part.
    is_simplex : tuple of bool
    kind : tuple
        What two variables must have in common to be exchanged.
    """

    row: Integers
    places: tuple[Integers, ...]
    is_simplex: tuple[bool, ...]
    kind: tuple[object, ...]

    @classmethod
    def of(cls, density: LogDensity) -> Layout:
        """The layout of a model's latent vector."""
        model = density.model
        transforms = {model.rvs_to_values[rv].name: t for rv, t in model.rvs_to_transforms.items()}
        row = np.full(density.dim, -1)
        places, is_simplex, kinds = [], [], []
        implied = 0
        for name, at, shape, _ in density.ordering.values():
            transform = transforms.get(name)
            place = np.arange(at.start, at.stop).reshape(shape)
            simplex = isinstance(transform, SimplexTransform) and place.size > 0
            if simplex:
                lead = place.shape[:-1]
                numbers = implied + np.arange(int(np.prod(lead))).reshape(lead)
                row[place] = numbers[..., None]
                place = np.concatenate([place, density.dim + numbers[..., None]], axis=-1)
                implied += numbers.size
            places.append(place)
            is_simplex.append(simplex)
            kinds.append((place.shape, type(transform).__name__))
        return cls(row, tuple(places), tuple(is_simplex), tuple(kinds))

    @property
    def length(self) -> int:
        """Of the latent vector and what it implies."""
        return len(self.row) + int(self.row.max(initial=-1)) + 1

    def trials(self) -> Iterator[Trial]:
        """What is tried, the most likely first."""
        along = self._axes_by_length()
        yield from chain.from_iterable(self._exchanges(n, axes) for n, axes in along.items())
        yield from self._turned_variables()
        yield from chain.from_iterable(self._turned_slices(n, axes) for n, axes in along.items())
        yield from self._exchanged_variables()

    def _axes_by_length(self) -> dict[int, list[Axis]]:
        found: dict[int, list[Axis]] = {}
        for variable, place in enumerate(self.places):
            for axis, length in enumerate(place.shape):
                if length > 1:
                    found.setdefault(length, []).append(Axis(variable, axis))
        return found

    @property
    def _scalars(self) -> list[int]:
        return [v for v, place in enumerate(self.places) if place.size == 1]

    def _exchanges(self, length: int, axes: list[Axis]) -> Iterator[Trial]:
        """Two entries exchanged along some axes; of two entries, a share of one may turn too."""
        for pair, chosen in product(_pairs(length), _subsets(axes)):
            order = self._exchanged(chosen, *pair)
            yield self._trial(order, (), frozenset(chosen), pair)
            if length == 2:
                for v in self._scalars[:_ALL_SUBSETS]:
                    parts = frozenset([*chosen, f"turned {v}"])
                    yield self._trial(order, self.places[v].ravel(), parts, pair)

    def _exchanged(self, axes: Iterable[Axis], i: int, j: int) -> Integers:
        order = np.arange(self.length)
        by_variable: dict[int, list[int]] = {}
        for variable, axis in axes:
            by_variable.setdefault(variable, []).append(axis)
        for variable, all_axes in by_variable.items():
            place = image = self.places[variable]
            for axis in all_axes:
                numbers = np.arange(image.shape[axis])
                numbers[[i, j]] = j, i
                image = image.take(numbers, axis)
            order[place.ravel()] = image.ravel()
        return order

    def _turned_variables(self) -> Iterator[Trial]:
        whole = [v for v, simplex in enumerate(self.is_simplex) if not simplex]
        for chosen in _subsets(whole):
            turned = np.concatenate([self.places[v].ravel() for v in chosen])
            yield self._trial(np.arange(self.length), turned, frozenset(chosen))

    def _turned_slices(self, length: int, axes: list[Axis]) -> Iterator[Trial]:
        plain = [axis for axis in axes if not self.is_simplex[axis.variable]]
        entries = range(length if length <= _ALL_NEIGHBOURS else 1)
        for chosen, entry in product(_subsets(plain), entries):
            turned = np.concatenate(
                [self.places[v].take(entry, axis).ravel() for v, axis in chosen]
            )
            parts = frozenset(["turned", *chosen])
            yield self._trial(np.arange(self.length), turned, parts, (entry,))

    def _exchanged_variables(self) -> Iterator[Trial]:
        """Two variables of one shape exchanged, two pairs of them, and a share that turns."""
        alike = [
            pair
            for pair in combinations(range(len(self.places)), 2)
            if self.kind[pair[0]] == self.kind[pair[1]]
        ]
        two = (p for p in combinations(alike, 2) if not set(p[0]) & set(p[1]))
        for pairs in chain(((pair,) for pair in alike), two):
            order = np.arange(self.length)
            for a, b in pairs:
                order[self.places[a].ravel()] = self.places[b].ravel()
                order[self.places[b].ravel()] = self.places[a].ravel()
            yield self._trial(order, (), frozenset(pairs))
            used = {*chain.from_iterable(pairs)}
            for v in self._scalars[:_ALL_SUBSETS]:
                if v not in used:
                    parts = frozenset([*pairs, f"turned {v}"])
                    yield self._trial(order, self.places[v].ravel(), parts)

    def _trial(
        self,
        order: Integers,
        turned: Integers | tuple[()],
        parts: frozenset[object],
        entries: tuple[int, ...] = (),
    ) -> Trial:
        sign = np.ones(self.length)
        sign[np.asarray(turned, dtype=int)] = -1.0
        return Trial(Move(order, sign), parts, entries)


def _pairs(length: int) -> list[tuple[int, int]]:
    """Entries of an axis to exchange."""
    if length <= _ALL_PAIRS:
        return list(combinations(range(length), 2))
    last = length - 1 if length <= _ALL_NEIGHBOURS else 1
    return [(i, i + 1) for i in range(last)]


def _subsets[T](things: Sequence[T]) -> list[tuple[T, ...]]:
    """Some of them together, the smallest sets first."""
    if len(things) <= _ALL_SUBSETS:
        sizes: Iterable[int] = range(1, len(things) + 1)
    else:
        sizes = (1, 2, len(things))
    return list(chain.from_iterable(combinations(things, size) for size in sizes))
