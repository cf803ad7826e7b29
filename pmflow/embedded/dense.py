"""Local variables that all meet, as the weights of a Gaussian process or of many columns do."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import override

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from pmflow.embedded.conditional import Conditional
from pmflow.embedded.factor import Factor, is_dense
from pmflow.embedded.given import Modes
from pmflow.embedded.predictors import NotLiftedError, Predictors, curvature_of
from pmflow.embedded.threads import one_thread
from pmflow.graphs.affine import affine_ends
from pmflow.graphs.work import numbers_in
from pmflow.posterior.density import LogDensity
from pmflow.watch import piece, stage, tick

__all__ = ["DenseConditional", "conditional_of"]

_FEWEST = 8
"""Local variables: of fewer, plain differences are as quick."""
_MOST_ENTRIES = 20_000_000
"""Of the matrix by which they make up the predictors: 160 MB."""
_BLAS = 8
"""Products of two numbers that BLAS adds up in the time in which another Op goes through one."""
_SHARE = 0.5
"""Of the work of plain differences, at which this way is taken."""
_HELD = 4
"""Values of the global variables for which the predictors are kept."""

_log = logging.getLogger("pmflow")

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]


def conditional_of(
    density: LogDensity,
    pattern: csr_array,
    is_global: NDArray[np.bool_],
    curvatures: int | None = None,
) -> Conditional:
    """The conditional of the local variables, by whichever way is cheaper; as of `Conditional`."""
    plain = Conditional(density, pattern, is_global, curvatures)
    inner = plain.factors.pattern
    if not is_global.any() or len(plain.locals) < _FEWEST or not is_dense(inner):
        return plain
    try:
        with stage("Reading the model"), piece("reading how predictors are made up"):
            dense = DenseConditional(density, pattern, is_global, curvatures)
    except NotLiftedError as error:
        _log.debug("Local variables that all meet, but not by their predictors: %s", error)
        return plain
    return dense if dense.gradients < _SHARE * plain.gradients else plain


class DenseConditional(Conditional):
    r"""The conditional of local variables that are all parts of many linear predictors.

    Given the global variables the predictors are :math:`\eta = b + J u`. The matrix J, of a
    Gaussian process the root of its covariance, is made once for each value of the global
    variables; after that a log density is a product with it, and a curvature is
    :math:`J^\top H J`, with H the second derivatives by the predictors, which have few zeros
    beside their diagonal (Rasmussen & Williams, 2006, section 3.4).

    Raises
    ------
    NotLiftedError
        If what curves is not through predictors alone, or J is too large.
    """

    def __init__(
        self,
        density: LogDensity,
        pattern: csr_array,
        is_global: NDArray[np.bool_],
        curvatures: int | None = None,
    ) -> None:
        super().__init__(density, pattern, is_global, curvatures)
        z, value = density.graph
        ends = affine_ends(z, value, ~is_global)
        if not ends:
            raise NotLiftedError("there are no predictors")
        predictors = Predictors(z, ends, 1)
        self._number = predictors.number
        if self._number * len(self.locals) > _MOST_ENTRIES:
            raise NotLiftedError("its predictors are too many for a dense matrix")
        self._made_up = predictors.given(self.globals, self.locals)
        self._lifted = predictors.outer(value)
        self._pattern, self._outer = curvature_of(self._lifted, self.locals, self._number)
        self._work = numbers_in(ends)
        self._places: dict[bytes, _Place] = {}
        self._lock = threading.RLock()

    @property
    @override
    def gradients(self) -> int:
        """How many gradients of the density take as long as a curvature."""
        size, rows = len(self.locals), len(self._place(np.zeros(len(self.globals))).full)
        products = (rows * size**2 + size**3) / _BLAS + self._number * size
        work = products + self._outer.gradients * self._lifted.work + self._work
        return max(1, round(work / self.density.work))

    @override
    def value(self, z: Floats) -> Floats:
        """Log density at points of shape (n, dim), shape (n,)."""
        with one_thread():
            parts = [self._lifted.value(place.lifted(rows)) for rows, place in self._by_place(z)]
        return np.concatenate(parts)

    @override
    def value_and_slope(self, z: Floats) -> tuple[Floats, Floats]:
        """The same with its gradient by the local variables, shape (n, locals)."""
        values, slopes = [], []
        with one_thread():
            for rows, place in self._by_place(z):
                value, gradient = self._lifted.value_and_gradient(place.lifted(rows))
                values.append(value)
                by_predictors = gradient[:, self.density.dim :]
                slopes.append(gradient[:, self.locals] + by_predictors @ place.matrix)
        return np.concatenate(values), np.concatenate(slopes)

    @override
    def precisions(self, z: Floats) -> Floats:
        """Minus the second derivatives by the local variables; as of `Conditional`."""
        entries = self.factors.rows, self.factors.columns
        found = np.empty((len(z), len(entries[0])))
        with one_thread():
            for i, point in enumerate(z):
                place = self._place(point[self.globals])
                units = np.sqrt((place.matrix**2) @ self.sds**2)
                (values,) = self._outer.at(place.lifted(point[None]), units[None])
                found[i] = self._product(values, place)[entries]
        return found

    @override
    def modes(self, z: Floats, rounds: int, near: Factor | None = None) -> Modes:
        """Climb to the modes of the local variables, at one place after the other."""
        with one_thread():  # its factors too
            every = [super(DenseConditional, self).modes(row[None], rounds, near) for row in z]
        return Modes(
            np.concatenate([modes.z for modes in every]),
            tuple(modes.factors[0] for modes in every),
            np.concatenate([modes.log_marginal for modes in every]),
        )

    def _product(self, values: Floats, place: _Place) -> Floats:
        """J' H J, of the entries of H."""
        if self._pattern.is_diagonal:
            part = place.matrix[place.full]
            found = part.T @ (values[place.full, None] * part)
            alone = values[place.single] * place.matrix[place.single, place.columns] ** 2
            found[np.diag_indices_from(found)] += np.bincount(
                place.columns, alone, minlength=len(found)
            )
            return np.asarray(found)
        return np.asarray(place.matrix.T @ (self._pattern.matrix(values) @ place.matrix))

    def _by_place(self, z: Floats) -> Iterator[tuple[Floats, _Place]]:
        """Points that follow each other and share their global variables, with what these make."""
        theta = z[:, self.globals]
        is_new = np.append(True, (theta[1:] != theta[:-1]).any(1))
        begins = np.flatnonzero(is_new)
        for first, end in zip(begins, [*begins[1:], len(z)], strict=True):
            yield z[first:end], self._place(theta[first])

    def _place(self, theta: Floats) -> _Place:
        key = theta.tobytes()
        with self._lock:  # two threads may draw, and a compiled function is for one at a time
            if key not in self._places:
                tick()
                if len(self._places) >= _HELD:
                    del self._places[next(iter(self._places))]
                size = len(self.locals)
                found = self._made_up(theta, np.concatenate([np.zeros((1, size)), np.eye(size)]))
                matrix = np.ascontiguousarray((found[1:] - found[0]).T)
                self._places[key] = _Place(found[0], matrix, self.locals)
            return self._places[key]


@dataclass(frozen=True, eq=False)
class _Place:
    """What predictors are made up of, at one value of the global variables."""

    base: Floats
    matrix: Floats
    inner: Integers

    @cached_property
    def full(self) -> Integers:
        """Rows of the matrix with more than one entry."""
        return np.flatnonzero(self._counts > 1)

    @cached_property
    def single(self) -> Integers:
        """Those with one: such a predictor is a variable itself, as a rule."""
        return np.flatnonzero(self._counts == 1)

    @cached_property
    def columns(self) -> Integers:
        """Which variables these are of."""
        return np.asarray(np.abs(self.matrix[self.single]).argmax(1))

    @cached_property
    def _counts(self) -> Integers:
        return np.count_nonzero(self.matrix, axis=1)

    def lifted(self, z: Floats) -> Floats:
        """Points of shape (n, dim) with their predictors after them."""
        return np.concatenate([z, self.base + z[:, self.inner] @ self.matrix.T], axis=1)
