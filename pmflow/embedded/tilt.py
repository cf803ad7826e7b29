"""What a polynomial makes of standard normal variables, told by its gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations_with_replacement
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from pmflow.draws.standard import t_points
from pmflow.records import State, systematic_choice

__all__ = ["MOST", "Tilt"]

_FAR = 4.0
"""In sds: farther out the polynomial is what it is there."""
_ALL = 30
"""Variables up to which there are products of any three; of more, of two of them only."""
MOST = 2_000
"""Products: of more, those are taken that say most by themselves."""
_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Of coefficients, relative to the mean square of their products' gradients."""
_CANDIDATES, _FOR_MASS = 8, 1 << 14
"""Standard normal draws for each that is chosen, and for the integral."""
_LEAST_SPREAD = 0.5
"""Of the sds of a few points, relative to those that they are stretched to."""
_AT_ONCE = 2**23

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Tilt(State):
    """Standard normal variables weighted by the exponential of a polynomial of third degree.

    Attributes
    ----------
    size : int
        How many variables there are.
    factors : ndarray of int, shape (products, 3)
        Variables of which each product is made, `size` where it has fewer.
    coefficients : ndarray, shape (products,)
    df : float
        Degrees of freedom of the variables, which are normal where they are infinite.
    """

    size: int
    factors: Integers
    coefficients: Floats
    df: float = np.inf

    @classmethod
    def matched(cls, y: Floats, excess: Floats, most: int = MOST) -> Self | None:
        """The polynomial whose gradients are nearest to those seen; None where none foretells any.

        By least squares with a penalty: that by which one half of the places foretells the other.

        Parameters
        ----------
        y, excess : ndarray, shape (n, size)
            Standard normal places, and gradients there.
        most : int
            Products.
        """
        plain = cls._of_most(y, excess, most)
        halves = [np.arange(len(y)) % 2 == k for k in range(2)]
        sums = [plain._sums(y[half], excess[half]) for half in halves]
        best, found = 0.0, None
        for penalty in _PENALTIES:
            solved = [_solved(*part, penalty) for part in sums]
            others = zip(solved, reversed(sums), strict=True)
            missed = float(np.sum([c @ squares @ c - 2 * (c @ by) for c, (squares, by) in others]))
            if missed < best:
                best, found = missed, penalty
        if found is None:
            return None
        squares, products = (sum(parts) for parts in zip(*sums, strict=True))
        return replace(plain, coefficients=_solved(squares, products, found))

    @classmethod
    def _of_most(cls, y: Floats, excess: Floats, most: int) -> Self:
        """With the products that say most about the gradients, each by itself."""
        size = y.shape[1]
        factors = _products(size)
        every = cls(size, factors, np.zeros(len(factors)))
        if len(factors) <= most:
            return every
        said, squares = np.zeros(len(factors)), np.zeros(len(factors))
        seen = np.column_stack([excess, np.zeros(len(y))])
        for by, slopes in every._slopes(y):
            said += (seen[:, by] * slopes).sum(0)
            squares += (slopes**2).sum(0)
        said_most = np.sort(np.argsort(-(said**2) / squares)[:most])
        return cls(size, factors[said_most], np.zeros(most))

    def __call__(self, y: Floats) -> Floats:
        """The polynomial at points of shape (n, size), shape (n,)."""
        bounded = self._bounded(y)
        found = np.empty(len(y))
        at_once = max(1, _AT_ONCE // len(self.factors))
        for i in range(0, len(y), at_once):
            part = slice(i, i + at_once)
            products = bounded[part][:, self.factors].prod(-1)
            found[part] = products @ self.coefficients
        return found

    def gradient(self, y: Floats) -> Floats:
        """Its gradient there, shape (n, size)."""
        found = np.zeros((len(y), self.size + 1))
        for by, slopes in self._slopes(y):
            places = (np.arange(len(by)), by)
            sums = csr_array((self.coefficients, places), shape=(len(by), self.size + 1))
            found += slopes @ sums
        return found[:, :-1]

    def chosen(self, number: int, seed: int) -> Floats:
        """Points of its distribution, shape (number, size): normal ones, by their weights.

        Moved and stretched to its means and sds, which are those of few points only by chance.
        """
        y = t_points(_CANDIDATES * number, self.size, seed, self.df)
        value = self(y)
        rng = np.random.default_rng(seed)
        which = systematic_choice(np.exp(value - value.max()), number, 1 - rng.random())
        found = y[rng.permutation(which)]
        mean, sd = self._moments
        spread = np.maximum(found.std(0), _LEAST_SPREAD * sd)  # a single point has none
        return np.asarray(mean + (found - found.mean(0)) * (sd / spread))

    @cached_property
    def _moments(self) -> tuple[Floats, Floats]:
        y, (_, shares) = self._plain, self._weighted
        mean = shares @ y
        return mean, np.sqrt(shares @ (y - mean) ** 2)

    @property
    def log_mass(self) -> float:
        """Log of the mean of its exponential."""
        return self._weighted[0]

    @property
    def ess(self) -> float:
        """Effective draws of those that it weights, as a fraction of them."""
        _, shares = self._weighted
        return float(1 / (shares**2).sum() / len(shares))

    @property
    def _plain(self) -> Floats:
        return t_points(_FOR_MASS, self.size, 0, self.df)

    @cached_property
    def _weighted(self) -> tuple[float, Floats]:
        """Log of the mean weight of the variables as they are without it, and the share of each."""
        value = self(self._plain)
        weights = np.exp(value - value.max())
        return float(value.max() + np.log(weights.mean())), weights / weights.sum()

    def _bounded(self, y: Floats) -> Floats:
        """Variables that end far out, and a 1."""
        return np.column_stack([_FAR * np.tanh(y / _FAR), np.ones(len(y))])

    def _slopes(self, y: Floats) -> Iterator[tuple[Integers, Floats]]:
        """Of each product by each of its factors: which these are, and derivatives."""
        bounded = self._bounded(y)
        slopes = np.column_stack([1 / np.cosh(y / _FAR) ** 2, np.zeros(len(y))])
        for k in range(3):
            by, *others = np.roll(self.factors, -k, axis=1).T
            yield by, slopes[:, by] * bounded[:, others].prod(1)

    def _sums(self, y: Floats, excess: Floats) -> tuple[Floats, Floats]:
        """Of squares and products for least squares of gradients."""
        number = len(self.factors)
        squares, products = np.zeros((number, number)), np.zeros(number)
        at_once = max(1, _AT_ONCE // (number * (self.size + 1)))
        for i in range(0, len(y), at_once):
            part = slice(i, i + at_once)
            rows = np.zeros((len(y[part]), self.size + 1, number))
            for by, slopes in self._slopes(y[part]):
                rows[:, by, np.arange(number)] += slopes
            flat = rows[:, :-1].reshape(-1, number)
            squares += flat.T @ flat
            products += flat.T @ excess[part].ravel()
        return squares, products


def _products(size: int) -> Integers:
    """Of one variable, of two, and of three of which two are the same, or of any three."""
    if size <= _ALL:
        found = [x for x in combinations_with_replacement(range(size + 1), 3) if x[0] < size]
        return np.array(found)
    j, k = np.divmod(np.arange(size**2), size)
    first, second = np.triu_indices(size)
    one = np.full(len(first), size)
    lines = np.column_stack([np.arange(size), np.full((size, 2), size)])
    return np.concatenate(
        [lines, np.column_stack([first, second, one]), np.column_stack([j, j, k])]
    )


def _solved(squares: Floats, products: Floats, penalty: float) -> Floats:
    ridge = penalty * np.trace(squares) / len(squares)
    return np.asarray(np.linalg.solve(squares + ridge * np.eye(len(squares)), products))
