"""Local variables in blocks that are independent given the global ones: weights of each block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from pmflow.draws.standard import means_of_pairs
from pmflow.embedded.factor import Factor

__all__ = ["BlockWeights", "Blocks", "chosen", "relative_weights"]

_LARGEST = 32
"""Local variables of a block: weights of more of them at once are uneven."""
_FEWEST = 8
"""Blocks: of fewer, the weights of all variables together say as much."""
_NODES = 4
"""Evaluations of the density along the way from the middle to a draw."""
_MOST_LOG = 100.0
"""Of a weight, which is kept finite."""

type Floats = NDArray[np.float64]


class Blocks:
    """Which local variables are a block.

    Parameters
    ----------
    labels : ndarray of int, shape (locals,)
        The number of the block that each is in.

    Attributes
    ----------
    labels
        As given.
    """

    are_apart: ClassVar[bool] = True
    """Whether each is independent of the others, given the global variables."""
    nodes: ClassVar[int] = _NODES
    """Evaluations of the density that a draw takes."""

    def __init__(self, labels: NDArray[np.int32]) -> None:
        size = len(labels)
        places = (labels, np.arange(size))
        self.labels = labels
        self._sums = csr_array((np.ones(size), places), shape=(int(labels.max()) + 1, size))

    @classmethod
    def of_pattern(cls, pattern: csr_array) -> Blocks | None:
        """The blocks of a pattern of shape (locals, locals); None where it is not of many small."""
        if not pattern.shape[0]:
            return None
        number, labels = connected_components(pattern, directed=False)
        is_small = number >= _FEWEST and np.bincount(labels).max() <= _LARGEST
        return cls(labels) if is_small else None

    @classmethod
    def of_any(cls, pattern: csr_array) -> Blocks:
        """The same, however few and large they are."""
        return cls(connected_components(pattern, directed=False)[1])

    def across(self, log_weights: Floats) -> float:
        """What the log of the mean weight of all has beside those of each, by log weights.

        Parameters
        ----------
        log_weights : ndarray, shape (2 pairs, blocks)
            Of draws whose mirrored ones come after them.
        """
        return 0.0

    def log_weights(
        self,
        value_and_slope: Callable[[Floats], tuple[Floats, Floats]],
        middle: Floats,
        inner: NDArray[np.int64],
        factor: Factor,
        e: Floats,
    ) -> tuple[Floats, Floats]:
        """Draws around one place, and the log weights of each block, relative to the middle.

        The log density of one block is no part of the model's that could be asked for by itself.
        But along the straight way from the middle to a draw it changes by the integral of its part
        of the gradient, and all blocks are followed at once.

        Parameters
        ----------
        value_and_slope : callable
            Log density, and its gradient by the local variables, at points of shape (n, dim).
        middle : ndarray, shape (dim,)
        inner : ndarray
            Places of the local variables in the latent vector.
        factor : Factor
            Of the precision of the Gaussian that they are draws of.
        e : ndarray, shape (n, locals)
            Base draws.

        Returns
        -------
        deviation : ndarray, shape (n, locals)
            Of the draws from the middle.
        log_weights : ndarray, shape (n, blocks)
            NaN where the density is 0 on the way: of which block it is, is not known.
        """
        deviation = factor.coloured(e)
        nodes, shares = np.polynomial.legendre.leggauss(self.nodes)
        along = (1 + nodes) / 2
        points = np.repeat(middle[None], len(along) * len(e), axis=0)
        points[:, inner] += (along[:, None, None] * deviation).reshape(len(points), -1)
        value, gradient = value_and_slope(points)
        slope = gradient.reshape(len(along), len(e), -1)
        risen = np.tensordot(shares / 2, slope, 1) * deviation
        risen += factor.slopes(e) * deviation / 2  # less the log density of the Gaussian
        log_weights = np.asarray((self._sums @ risen.T).T)
        log_weights[~np.isfinite(value).reshape(len(along), -1).all(0)] = np.nan
        return deviation, log_weights


def relative_weights(log_weights: Floats) -> Floats:
    """Weights of the blocks at some draws, shape (draws, blocks), with means of 1.

    Draws whose weights are not known have none.
    """
    known = np.where(np.isnan(log_weights), -np.inf, log_weights)
    weights = np.exp(known - known.max(0))
    return np.asarray(weights / weights.mean(0))


def chosen(weights: Floats, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draws of each block as often as their weights say, shape (number, blocks)."""
    cumulative = np.cumsum(weights, axis=0) / weights.sum(0)
    # evenly from the first to the last, then mixed, as blocks are independent
    at = (np.arange(number)[:, None] + rng.random((1, weights.shape[1]))) / number
    found = (at[:, None] > cumulative[None, :-1]).sum(1)
    return np.asarray(rng.permuted(found, axis=0))


@dataclass(frozen=True, eq=False)
class BlockWeights:
    """Sums of the weights of blocks over draws, to which those of further draws are added.

    Attributes
    ----------
    pairs : int
        How many pairs of mirrored draws there are.
    sums, squares, squares_of_pairs : ndarray, shape (places, blocks)
        Of the means of the weights of each pair, of the means of their squares, and of the squares
        of their means.
    """

    pairs: int
    sums: Floats
    squares: Floats
    squares_of_pairs: Floats

    @classmethod
    def of(cls, log_weights: Floats) -> BlockWeights:
        """Those of draws whose mirrored ones come after them, shape (places, 2 pairs, blocks)."""
        with np.errstate(invalid="ignore"):
            weights = np.exp(np.minimum(log_weights, _MOST_LOG))
        of_pairs = means_of_pairs(weights)
        squares = (weights**2).sum(1) / 2
        return cls(of_pairs.shape[1], of_pairs.sum(1), squares, (of_pairs**2).sum(1))

    def __add__(self, other: BlockWeights) -> BlockWeights:
        return BlockWeights(
            self.pairs + other.pairs,
            self.sums + other.sums,
            self.squares + other.squares,
            self.squares_of_pairs + other.squares_of_pairs,
        )

    def missed(self) -> Floats:
        """Logs of the mean weights summed, less what their noise adds to it, shape (places,)."""
        mean = self.sums / self.pairs
        variance = (self.squares_of_pairs / self.pairs - mean**2) / (self.pairs - 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((np.log(mean) + variance / (2 * mean**2)).sum(-1))

    @property
    def unevenness(self) -> float:
        """Variance of the weights of the block where it is largest, in units of their mean."""
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = self.squares * self.pairs / self.sums**2 - 1
        return float(variance.mean(0).max())
