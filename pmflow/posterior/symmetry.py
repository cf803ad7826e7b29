"""Maps of the latent vector that leave a density as it is: exchanged entries, turned signs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from pmflow.records import State

__all__ = ["MOST_IMAGES", "Move", "Symmetry", "closed"]

MOST_IMAGES = 720
"""Images of a point, with itself, up to which all are known: six parts of a mixture."""

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Move:
    """A map that exchanges coordinates and turns signs: of the latent vector and what it implies.

    The last part of a simplex is implied: the other coordinates of it sum to its negative.

    Attributes
    ----------
    order : ndarray of int, shape (dim + implied,)
        Where each coordinate of the image comes from.
    sign : ndarray, shape (dim + implied,)
        1 or -1: what it is multiplied by.
    """

    order: Integers
    sign: Floats

    def after(self, first: Move) -> Move:
        """The move that does another one first."""
        return Move(first.order[self.order], self.sign * first.sign[self.order])

    @property
    def key(self) -> bytes:
        """The same for equal moves alone."""
        return (self.order * 2 + (self.sign < 0)).tobytes()


@dataclass(frozen=True, eq=False)
class Symmetry(State):
    """A group of maps of the latent vector onto itself that keep volumes, and a density.

    Attributes
    ----------
    row : ndarray of int, shape (dim,)
        Which simplex each coordinate is of, -1 for none.
    order : ndarray of int, shape (n, dim)
        Where each coordinate of an image comes from, the identity first; from `dim` on, the last
        part of a simplex.
    sign : ndarray, shape (n, dim)
    is_whole : bool
        Whether these are all maps of the group; otherwise there are more than `MOST_IMAGES`, and
        these are some that make up all others.
    """

    row: Integers
    order: Integers
    sign: Floats
    is_whole: bool

    @classmethod
    def of(cls, row: Integers, moves: Sequence[Move], *, is_whole: bool = False) -> Symmetry:
        """The maps that some moves are of the latent vector."""
        dim = len(row)
        orders, signs = zip(*((move.order[:dim], move.sign[:dim]) for move in moves), strict=True)
        return cls(row, np.array(orders), np.array(signs), is_whole)

    @property
    def number(self) -> int:
        """How many maps are known, the identity included."""
        return len(self.order)

    @cached_property
    def _implied(self) -> csr_array:
        """What the last parts of simplexes are, shape (implied, dim)."""
        at = np.flatnonzero(self.row >= 0)
        shape = int(self.row.max(initial=-1)) + 1, len(self.row)
        return csr_array((-np.ones(len(at)), (self.row[at], at)), shape=shape)

    def images(self, z: Floats) -> Iterator[Floats]:
        """Points of shape (n, dim) as each of the maps has them, one after the other."""
        extended = self._extended(z)
        for order, sign in zip(self.order, self.sign, strict=True):
            yield extended[:, order] * sign

    def images_of_each(self, z: Floats, numbers: Integers) -> Floats:
        """Points of shape (n, dim), each as a map of its own has it."""
        extended = self._extended(z)
        return np.take_along_axis(extended, self.order[numbers], 1) * self.sign[numbers]

    def _extended(self, z: Floats) -> Floats:
        if self._implied.shape[0] == 0:
            return z
        return np.concatenate([z, (self._implied @ z.T).T], axis=1)


def closed(row: Integers, moves: Sequence[Move]) -> Symmetry:
    """The group that some moves make up.

    Parameters
    ----------
    row : ndarray of int, shape (dim,)
        As of `Symmetry`.
    moves : sequence of Move, at least one
    """
    length = len(moves[0].order)
    identity = Move(np.arange(length), np.ones(length))
    known = {identity.key: identity}
    fresh = [identity]
    while fresh and len(known) <= MOST_IMAGES:
        made = [move.after(one) for one in fresh for move in moves]
        fresh = list({m.key: m for m in made if m.key not in known}.values())
        known |= {m.key: m for m in fresh}
    is_whole = len(known) <= MOST_IMAGES
    kept = list(known.values()) if is_whole else [identity, *moves]
    return Symmetry.of(row, kept, is_whole=is_whole)
