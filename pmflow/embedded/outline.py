"""Which variables of a model meet, in words and as a matrix."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

__all__ = ["Structure"]

_FEW = 8
"""Others of its own variable that an entry meets, on average, up to which it is chained to them."""


@dataclass(frozen=True, eq=False)
class Structure:
    """Which coordinates of a model's latent vector meet, and what that makes of its variables.

    Two coordinates meet if the second derivative of the log density by both can be other than 0.
    What is not joined by a path, once some variables are held, is independent of each other given
    these.

    Attributes
    ----------
    pattern : csr_array of bool, shape (dim, dim)
        Symmetric, with its diagonal.
    places : dict of str to slice
        Where each value variable is in the latent vector; transformed ones by their PyMC name.
    roles : dict of str to str
        Of each: ``"global"`` governs how wide others are; entries that are ``"local"`` meet no
        other of their own variable, ``"chained"`` ones few, and ``"joined"`` ones many.
    sums : tuple of int
        How many coordinates are in each of the sums that the log density is a function of beside:
        a constraint on the sum of a spatial field, say. They make all of these meet, which the
        pattern leaves out.
    """

    pattern: csr_array = field(repr=False)
    places: dict[str, slice]
    roles: dict[str, str]
    sums: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        pattern: csr_array,
        places: dict[str, slice],
        is_global: NDArray[np.bool_],
        sums: tuple[int, ...] = (),
    ) -> Structure:
        """From what was read of a model.

        Parameters
        ----------
        pattern : csr_array, shape (dim, dim)
        places : dict of str to slice
        is_global : ndarray of bool, shape (dim,)
        sums : tuple of int
        """
        roles = {
            name: "global" if is_global[place].all() else _role(csr_array(pattern[place, place]))
            for name, place in places.items()
        }
        return cls(pattern, places, roles, sums)

    def __str__(self) -> str:
        dim, entries = self.pattern.shape[0], self.pattern.nnz
        width = max(map(len, self.places))
        head = f"{dim:,} dimensions, {entries:,} pairs that meet ({entries / dim**2:.2%} of all)"
        lines = [
            f"  {name:{width}}  {place.stop - place.start:>8,}  {self.roles[name]}"
            for name, place in self.places.items()
        ]
        joined = [f"  and a sum of {number:,} of them" for number in self.sums]
        return "\n".join([head, *lines, *joined])

    __repr__ = __str__


def _role(block: csr_array) -> str:
    others = block.nnz - block.shape[0]
    if not others:
        return "local"
    return "chained" if others <= _FEW * block.shape[0] else "joined"
