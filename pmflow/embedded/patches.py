"""Local variables in patches that are nearly independent: blocks that meet at their borders."""

from __future__ import annotations

from typing import ClassVar, override

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from pmflow.draws.standard import means_of_pairs
from pmflow.embedded.blocks import Blocks, relative_weights
from pmflow.embedded.factor import loops
from pmflow.embedded.factors import Factors, is_dense

__all__ = ["Patches", "patches_of"]

_LARGEST = 16
"""Local variables of a patch: weights of more of them at once are uneven."""
_NODES = 2
"""Evaluations of the density along the way to a draw: exact for a cubic, and what is far from one
is not in patches."""
_HUB = 0.5
"""Share of all patches that one of them meets, from which all have to do with each other: it has
the slopes of a regression, say."""
_FEWEST = 8
"""Patches: of fewer, the weights of all variables together say as much."""

type Floats = NDArray[np.float64]


class Patches(Blocks):
    """Blocks whose weights are not independent of those of the blocks around them.

    The log of the mean of the product of all weights is the sum of the logs of their means, and of
    the covariances of the weights, in units of their means, of any two that have to do with each
    other. What is left is what three of them share.

    Parameters
    ----------
    labels : ndarray of int, shape (locals,)
    near : csr_array or None, shape (patches, patches)
        Which of them have to do with each other, without its diagonal; all for None.
    """

    are_apart: ClassVar[bool] = False
    nodes: ClassVar[int] = _NODES

    def __init__(self, labels: NDArray[np.int32], near: csr_array | None) -> None:
        super().__init__(labels)
        self._near = near

    @override
    def across(self, log_weights: Floats) -> float:
        """The sum of the covariances of the weights of any two, in units of their means."""
        weights = relative_weights(log_weights)
        of_pairs = means_of_pairs(weights)
        pairs, means = len(of_pairs), of_pairs.mean(0)[None]
        # the product of two means from pairs that are not the same
        squared = (pairs * self._products(means) - self._products(of_pairs)) / (pairs - 1)
        return float(self._products(weights) - squared) / 2

    def _products(self, values: Floats) -> float:
        """Mean over draws of the sum of the products of values of any two."""
        if self._near is None:
            return float((values.sum(1) ** 2 - (values**2).sum(1)).mean())
        return float(((values @ self._near) * values).sum(1).mean())


def patches_of(factors: Factors, precisions: Floats) -> Patches | None:
    """Patches of the local variables, those together that hang together most.

    Two of them have to do with each other if they meet, or both meet a third one; all do where
    one meets most others, or where the density has a sum of them.

    None where these are too few, or all of them meet.

    Parameters
    ----------
    factors : Factors
    precisions : ndarray
        Entries of one precision, as `factors` takes them.
    """
    if is_dense(factors.pattern) or factors.dim < _FEWEST * _LARGEST:
        return None
    rows, columns = factors.rows, factors.columns
    entries = precisions[: len(rows)]
    size = np.sqrt(np.abs(entries[factors.on_diagonal]))
    strength = np.abs(entries) / np.maximum(size[rows] * size[columns], 1e-300)
    order = np.argsort(-strength, kind="stable")
    order = order[rows[order] != columns[order]]
    labels = loops().joined(factors.dim, rows[order], columns[order], _LARGEST)
    number = int(labels.max()) + 1
    if number < _FEWEST:
        return None
    if factors.has_crossed(precisions):
        return Patches(labels, None)
    both = np.concatenate([rows, columns]), np.concatenate([columns, rows])
    meets = csr_array((np.ones(len(both[0])), (labels[both[0]], labels[both[1]])))
    if np.diff(meets.indptr).max() > _HUB * number:
        return Patches(labels, None)
    near = csr_array(meets @ meets)
    near.setdiag(0.0)
    near.eliminate_zeros()
    near.data[:] = 1.0
    return Patches(labels, near)
