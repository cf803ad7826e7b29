"""Third derivatives of a log density whose local variables fall into blocks."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from pmflow.embedded.blocks import Blocks
from pmflow.embedded.factor import Factor, loops
from pmflow.embedded.jacobians import places_of
from pmflow.posterior.density import LogDensity

__all__ = ["ThirdDerivatives"]

_STEP = 0.02
"""Of second differences, in conditional standard deviations of all local variables."""

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]


class ThirdDerivatives:
    r"""How the precision P of the local variables changes with the global ones.

    :math:`a^\top P' b` along all global variables at once is a difference of second derivatives
    of the gradient along a and b. The trace of :math:`P^{-1} P'` is a sum of as many of these as
    the largest block has variables: one of each block is moved at a time.

    Parameters
    ----------
    density : LogDensity
    pattern : csr_array, shape (dim, dim)
    outer, inner : ndarray
        Places of the global and the local variables.
    blocks : Blocks
    """

    def __init__(
        self,
        density: LogDensity,
        pattern: csr_array,
        outer: Integers,
        inner: Integers,
        blocks: Blocks,
    ) -> None:
        self._density, self._outer, self._inner = density, outer, inner
        self._pattern, self._blocks = pattern, blocks

    @property
    def gradients(self) -> int:
        """How many a trace and the derivatives of the mode take."""
        return 2 * len(self._ones) + 2 * (int(self._colours.max()) + 1)

    def crossed(self, z: Floats, lengths: Floats) -> Floats:
        """Second derivatives by a global and a local variable, shape (globals, locals).

        Parameters
        ----------
        z : ndarray, shape (dim,)
        lengths : ndarray, shape (globals,)
            Of differences along the global variables.
        """
        colours = self._colours
        steps = np.zeros((int(colours.max()) + 1, self._density.dim))
        steps[colours, self._outer] = lengths
        _, gradient = self._density.value_and_gradient(np.concatenate([z - steps, z + steps]))
        behind, ahead = np.split(gradient[:, self._inner], 2)
        change = (ahead - behind)[colours] / (2 * lengths)[:, None]
        return np.asarray(np.where(self._meets, change, 0.0))

    def traces(self, z: Floats, here: Floats, factor: Factor, moved: Floats) -> Floats:
        """Derivatives of the log determinant of P, the local variables moving, shape (globals,).

        Parameters
        ----------
        z, here : ndarray, shape (dim,)
            A point, and the gradient there.
        factor : Factor
            Of P.
        moved : ndarray, shape (globals, locals)
            Derivatives of the local variables by the global ones.
        """
        roots = factor.coloured(factor.in_order(self._ones))
        return np.asarray(self._changes(z, here, roots, moved).sum(0))

    def products(self, z: Floats, here: Floats, a: Floats, b: Floats, moved: Floats) -> Floats:
        """A' P' b of rows of shape (n, locals), shape (n, globals); the others as of `traces`."""
        both = self._changes(z, here, np.concatenate([a + b, a - b]), moved)
        plus, minus = np.split(both, 2)
        return np.asarray((plus - minus) / 4)

    def _changes(self, z: Floats, here: Floats, directions: Floats, moved: Floats) -> Floats:
        """D' P' d of each direction d, shape (n, globals)."""
        steps = np.zeros((len(directions), self._density.dim))
        steps[:, self._inner] = _STEP * directions
        _, gradient = self._density.value_and_gradient(np.concatenate([z - steps, z + steps]))
        behind, ahead = np.split(gradient, 2)
        bent = (behind + ahead - 2 * here) / _STEP**2
        return np.asarray(-bent[:, self._outer] - bent[:, self._inner] @ moved.T)

    @cached_property
    def _ones(self) -> Floats:
        """One local variable of each block, another one in each row."""
        labels = self._blocks.labels
        order, sizes = np.argsort(labels, kind="stable"), np.bincount(labels)
        found = np.zeros((sizes.max(), len(labels)))
        within = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        found[within, order] = 1.0
        return found

    @cached_property
    def _meets(self) -> NDArray[np.bool_]:
        return np.asarray(self._pattern[self._outer][:, self._inner].toarray() != 0)

    @cached_property
    def _colours(self) -> Integers:
        """Of the global variables: of one colour no two meet the same local one."""
        meets = csr_array(self._meets.astype(np.int32))
        found: Integers = loops().apart(*places_of(csr_array(meets @ meets.T)))
        return found
