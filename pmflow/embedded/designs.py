"""Linear predictors that local variables make up, at values of the global variables."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from pmflow.embedded.factors import Factors
from pmflow.embedded.predictors import MadeUp, NotLiftedError
from pmflow.watch import tick

__all__ = ["Design", "Designs"]

_HELD = 2**24
"""Numbers of the designs that are kept."""
_TRIES = 3
"""Designs in a row that are not the one before with its columns scaled: then it is not asked."""
_EQUAL = 1e-9
"""Relative difference of what is the same but for rounding."""
_PROPORTIONAL = 1e-7
"""Relative difference of second derivatives, which are differences of gradients."""

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]


class Columns:
    """A matrix from variables to predictors: its rows with more than one entry.

    Parameters
    ----------
    matrix : ndarray, shape (predictors, variables)
        All rows.
    is_full : ndarray of bool, shape (predictors,)
        Which of them may have more than one entry.

    Attributes
    ----------
    number : int
        Of all rows.
    full : ndarray
        Numbers of these rows.
    part : ndarray, shape (full, variables)
    single, variables : ndarray
        Numbers of the rows with one entry, and of the variables that these are of. Such a predictor
        is a variable itself, as a rule.
    """

    def __init__(self, matrix: Floats, is_full: NDArray[np.bool_]) -> None:
        self.number = len(matrix)
        self.full: Integers = np.flatnonzero(is_full)
        self.part = matrix[self.full]
        self.single: Integers = np.flatnonzero(~is_full & matrix.any(1))
        self.variables: Integers = np.abs(matrix[self.single]).argmax(1)
        self._known: tuple[Floats, Floats] | None = None

    @cached_property
    def squares(self) -> Floats:
        """Of all entries of these rows."""
        return np.asarray(self.part**2)

    @cached_property
    def norms(self) -> Floats:
        """Of each column."""
        return np.asarray(np.sqrt(self.squares.sum(0)))

    @cached_property
    def repeats(self) -> Integers:
        """For each row with one entry, how many rows before it are of the same variable."""
        order = np.argsort(self.variables, kind="stable")
        begins = np.searchsorted(self.variables[order], self.variables[order])
        found = np.empty(len(order), dtype=np.int64)
        found[order] = np.arange(len(order)) - begins
        return found

    @cached_property
    def of_each(self) -> Floats:
        """Sums of rows with one entry, of each variable one at a time; shape (sums, predictors)."""
        found = np.zeros((1 + self.repeats.max(initial=-1), self.number))
        found[self.repeats, self.single] = 1.0
        return found

    def gram(self, diagonal: Floats) -> Floats:
        """A' H A of these rows, with H diagonal: shape (variables, variables)."""
        ratio = self.ratio(diagonal)
        if ratio is None:
            found = self.part.T @ (diagonal[:, None] * self.part)
            if diagonal @ diagonal > 0:  # else no ratio to it is known
                self._known = diagonal, found
            return found.copy()
        assert self._known is not None
        return np.asarray(ratio * self._known[1])

    def ratio(self, diagonal: Floats) -> float | None:
        """Of H to the one that was there before; None where it is not one number.

        With normal data it is, everywhere.
        """
        if self._known is None:
            return None
        before, _ = self._known
        ratio = float(diagonal @ before) / float(before @ before)
        left = np.abs(diagonal - ratio * before).max(initial=0.0)
        return ratio if left <= _PROPORTIONAL * np.abs(diagonal).max(initial=0.0) else None


@dataclass(frozen=True, eq=False)
class Design:
    """The predictors base + J u.

    Attributes
    ----------
    base : ndarray, shape (predictors,)
    columns : Columns
        Rows of J with more than one entry, but for the scales of the columns.
    scales : ndarray, shape (variables,)
    alone : ndarray
        The one entry of each other row.
    """

    base: Floats
    columns: Columns
    scales: Floats
    alone: Floats

    @property
    def numbers(self) -> int:
        """How many are held: of the columns too where they are its own."""
        own = self.columns.part.size if (self.scales == 1).all() else 0
        return own + len(self.base) + 2 * len(self.scales)

    @classmethod
    def read(cls, base: Floats, matrix: Floats, is_full: NDArray[np.bool_]) -> Design:
        """The one with this matrix, as of `Columns`."""
        columns = Columns(matrix, is_full)
        alone = matrix[columns.single, columns.variables]
        return cls(base, columns, np.ones(matrix.shape[1]), alone)

    def predictors(self, u: Floats) -> Floats:
        """At variables of shape (n, variables), shape (n, predictors)."""
        columns = self.columns
        found = np.repeat(self.base[None], len(u), axis=0)
        found[:, columns.full] += (u * self.scales) @ columns.part.T
        found[:, columns.single] += u[:, columns.variables] * self.alone
        return found

    def pulled(self, slope: Floats) -> Floats:
        """Slopes by the predictors, of shape (n, predictors), as slopes by the variables."""
        by_full = (slope[:, self.columns.full] @ self.columns.part) * self.scales
        return np.asarray(by_full + slope @ self._alone)

    def sds(self, sds: Floats) -> Floats:
        """Standard deviations of the predictors by those of independent variables."""
        columns, found = self.columns, np.ones(len(self.base))
        found[columns.full] = np.sqrt(columns.squares @ (self.scales * sds) ** 2)
        found[columns.single] = np.abs(self.alone) * sds[columns.variables]
        return found

    def product(self, pattern: Factors, values: Floats) -> Floats:
        """J' H J: shape (variables, variables).

        Parameters
        ----------
        pattern : Factors
            Which predictors meet.
        values : ndarray
            Entries of H in the order of these.
        """
        columns, scales = self.columns, self.scales
        diagonal = values[pattern.on_diagonal]
        found = columns.gram(diagonal[columns.full])
        if pattern.is_diagonal:
            found *= scales
            found *= scales[:, None]
        else:
            self._add_meeting(found, pattern, values)
        found[np.diag_indices_from(found)] += self._alone.power(2).T @ diagonal
        return found

    def _add_meeting(self, found: Floats, pattern: Factors, values: Floats) -> None:
        """Scale a part of J' H J, and add what is by pairs of predictors."""
        columns, scales = self.columns, self.scales
        apart = values.copy()
        apart[pattern.on_diagonal] = 0.0
        meeting = pattern.matrix(apart)
        meeting.eliminate_zeros()
        among = csr_array(meeting[columns.full][:, columns.full])
        if among.nnz:
            found += columns.part.T @ (among @ columns.part)
        found *= scales
        found *= scales[:, None]
        to_alone = csr_array(meeting @ self._alone)
        to_full = csr_array(to_alone[columns.full])
        few = np.unique(to_full.indices)  # variables that predictors of several meet
        crossed = (to_full[:, few].T @ columns.part) * scales
        found[few] += crossed
        found[:, few] += crossed.T
        among_alone = (self._alone.T @ to_alone).tocoo()
        np.add.at(found, among_alone.coords, among_alone.data)

    def parts(self, pattern: Factors, values: Floats) -> Floats:
        """J' H J, of a diagonal H, as `LowRankFactors` takes it: shape (entries,)."""
        columns, diagonal = self.columns, values[pattern.on_diagonal]
        curved = diagonal[columns.full]
        rows = columns.part * np.sqrt(np.abs(curved))[:, None] * self.scales
        alone = self._alone.power(2).T @ diagonal
        return np.concatenate([alone, rows.ravel(), np.sign(curved)])

    @cached_property
    def _alone(self) -> csr_array:
        columns = self.columns
        places = (columns.single, columns.variables)
        return csr_array((self.alone, places), shape=(len(self.base), len(self.scales)))


class Designs:
    """Designs at values of the global variables; the last few are kept.

    Where global variables do no more than scale the columns, as an unknown amplitude does, these
    are read once. Random sums of rows, by a gradient each, have the scales, and show whether there
    is anything else.

    Parameters
    ----------
    made : MadeUp
    size : int
        How many local variables there are.
    is_full : ndarray of bool, shape (predictors,)
        Which predictors several of them may make up.
    """

    def __init__(self, made: MadeUp, size: int, is_full: NDArray[np.bool_]) -> None:
        self._made, self._size, self._is_full = made, size, is_full
        self._lock = threading.RLock()
        self.forget()

    def forget(self) -> None:
        """Forget what was read: the data are others."""
        self._designs: dict[bytes, Design] = {}
        self._columns: Columns | None = None
        self._failed = 0

    def at(self, theta: Floats) -> Design:
        """The one at global variables of shape (globals,)."""
        key = theta.tobytes()
        with self._lock:  # two threads may draw, and a compiled function is for one at a time
            if key not in self._designs:
                tick()
                design = self._scaled(theta) or self._read(theta)
                while len(self._designs) * design.numbers > _HELD:
                    del self._designs[next(iter(self._designs))]
                self._designs[key] = design
            return self._designs[key]

    def _read(self, theta: Floats) -> Design:
        """Column by column."""
        size = self._size
        found = self._made(theta, np.concatenate([np.zeros((1, size)), np.eye(size)]))
        design = Design.read(
            found[0], np.ascontiguousarray((found[1:] - found[0]).T), self._is_full
        )
        self._columns = design.columns
        return design

    def _scaled(self, theta: Floats) -> Design | None:
        """The columns that are known, scaled; None if that is not what it is."""
        columns = self._columns
        if columns is None or self._failed >= _TRIES:
            return None
        of_each = columns.of_each
        random = np.random.default_rng(0).standard_normal((2, columns.number))
        weights = np.concatenate([of_each, random])
        try:
            base, sums = self._made.pulled(theta, weights)
        except NotLiftedError:
            self._failed = _TRIES
            return None
        alone = sums[columns.repeats, columns.variables]
        design = Design(base, columns, np.zeros(self._size), alone)
        sums = sums[len(of_each) :] - design.pulled(random)
        known = random[:, columns.full] @ columns.part
        squares = (known**2).sum(0)
        scales = (sums * known).sum(0) / np.where(squares > 0, squares, 1.0)
        left = np.abs(sums - scales * known).max(0)
        most = np.abs(scales) * columns.norms
        most[columns.variables] += np.abs(alone)
        if not (left <= _EQUAL * most).all():
            self._failed += 1
            return None
        self._failed = 0
        return replace(design, scales=scales)
