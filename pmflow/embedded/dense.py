"""Local variables that all meet, as the weights of a Gaussian process or of many columns do."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cached_property
from typing import Self, override

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from pmflow.embedded.conditional import UNKNOWN, Conditional
from pmflow.embedded.dense_factors import DenseFactors, LowRankFactors
from pmflow.embedded.designs import Design, Designs
from pmflow.embedded.factor import Factor
from pmflow.embedded.factors import is_dense
from pmflow.embedded.given import Modes
from pmflow.embedded.predictors import NotLiftedError, Predictors, curvature_of
from pmflow.embedded.threads import one_thread
from pmflow.graphs.affine import affine_ends
from pmflow.graphs.sparsity import jacobian_pattern
from pmflow.graphs.work import numbers_in
from pmflow.posterior.density import LogDensity
from pmflow.watch import piece, stage

__all__ = ["DenseConditional", "conditional_of"]

_FEWEST = 8
"""Local variables: of fewer, plain differences are as quick."""
_MOST_ENTRIES = 20_000_000
"""Of the matrix by which they make up the predictors: 160 MB."""
_BLAS = 8
"""Products of two numbers that BLAS adds up in the time in which another Op goes through one."""
_SHARE = 0.5
"""Of the work of plain differences, at which this way is taken."""
_THIN = 0.25
"""Predictors that several variables make up, for each variable, below which the precision is a
diagonal and so many rows."""
_FILLED = 0.3
"""Share of the variables that a predictor depends on, from which on zeros are no use."""
_APART = 0.1
"""Of two points at which it is seen what of a curvature is made once."""

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
    least = 2 * np.diff(inner.indptr).max()  # gradients of plain differences, which may be more
    if dense.is_filled and dense.apart_from_factor < _SHARE * least:
        return dense
    return dense if dense.apart_from_factor < _SHARE * plain.gradients else plain


class DenseConditional(Conditional):
    r"""The conditional of local variables that are all parts of many linear predictors.

    Given the global variables the predictors are :math:`\eta = b + J u`. The matrix J, of a
    Gaussian process the root of its covariance, is made once for each value of the global
    variables; after that a log density is a product with it, and a curvature is
    :math:`J^\top H J`, with H the second derivatives by the predictors, which have few zeros
    beside their diagonal (Rasmussen & Williams, 2006, section 3.4).

    Attributes
    ----------
    is_filled : bool
        Whether most entries of J may be different from 0.

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
        made = predictors.given(self.globals, self.locals)
        self._lifted = predictors.outer(value)
        self._pattern, self._outer = curvature_of(self._lifted, self.locals, self._number)
        counts = self._counts(jacobian_pattern(z, ends))
        self._designs = Designs(made, len(self.locals), counts > 1)
        several = counts[counts > 1]
        self.is_filled = several.sum() > _FILLED * len(several) * len(self.locals)
        self._work = numbers_in(ends)
        inner, self._full = self.factors.pattern, int((counts > 1).sum())
        self._is_thin = self._pattern.is_diagonal and self._full < _THIN * len(self.locals)
        self.factors = LowRankFactors(inner, self._full) if self._is_thin else DenseFactors(inner)

    def _counts(self, jacobian: csr_array | None) -> Integers:
        """How many variables may make up each predictor."""
        if jacobian is None:  # it can't be told
            return np.full(self._number, len(self.locals))
        return np.diff(csr_array(jacobian[:, self.locals]).indptr)

    @property
    @override
    def gradients(self) -> int:
        """How many gradients of the density take as long as a curvature and its factor."""
        size = len(self.locals)
        products = 4 * size * self._full**2 if self._is_thin else size**3
        return max(1, round(self.apart_from_factor + products / self._per_gradient))

    @cached_property
    def apart_from_factor(self) -> float:
        """How many gradients of the density take as long as a curvature."""
        near = _APART * np.random.default_rng(0).standard_normal((2, self.density.dim))
        designs = [self._designs.at(point[self.globals]) for point in near]
        first, second = (self._of_full(*at) for at in zip(near, designs, strict=True))
        columns = designs[0].columns
        is_one = designs[1].columns is columns
        columns.gram(first)
        is_known = is_one and columns.ratio(second) is not None
        rows = 0 if is_known or self._is_thin else self._full
        number = self._number * len(self.locals)
        read = 2 * number if is_one else self._work
        work = self._outer.gradients * self._lifted.work + read + number
        return work / self.density.work + rows * len(self.locals) ** 2 / self._per_gradient

    @property
    def _per_gradient(self) -> float:
        """Products of two numbers in the time of a gradient of the density."""
        return float(_BLAS * self.density.work)

    @override
    def anew(self) -> Self:
        """The same for the data that the density has now: predictors are read from them again."""
        self.sds = np.full(len(self.locals), UNKNOWN)
        self._designs.forget()
        return self

    @override
    def value(self, z: Floats) -> Floats:
        """Log density at points of shape (n, dim), shape (n,)."""
        with one_thread():
            parts = [self._lifted.value(self._beyond(*part)) for part in self._by_design(z)]
        return np.concatenate(parts)

    @override
    def value_and_slope(self, z: Floats) -> tuple[Floats, Floats]:
        """The same with its gradient by the local variables, shape (n, locals)."""
        values, slopes = [], []
        with one_thread():
            for rows, design in self._by_design(z):
                value, gradient = self._lifted.value_and_gradient(self._beyond(rows, design))
                values.append(value)
                by_predictors = gradient[:, self.density.dim :]
                slopes.append(gradient[:, self.locals] + design.pulled(by_predictors))
        return np.concatenate(values), np.concatenate(slopes)

    @override
    def precisions(self, z: Floats) -> Floats:
        """Minus the second derivatives by the local variables, as `factors` takes them."""
        found = []
        with one_thread():
            for point in z:
                design = self._designs.at(point[self.globals])
                made = design.parts if self._is_thin else design.product
                found.append(made(self._pattern, self._curved(point, design)).ravel())
        return np.stack(found)

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

    def _curved(self, point: Floats, design: Design) -> Floats:
        """Minus the second derivatives by the predictors, at a point of shape (dim,)."""
        units = design.sds(self.sds)
        (values,) = self._outer.at(self._beyond(point[None], design), units[None])
        return np.asarray(values)

    def _of_full(self, point: Floats, design: Design) -> Floats:
        """The same of each predictor that several variables make up."""
        diagonal = self._curved(point, design)[self._pattern.on_diagonal]
        return np.asarray(diagonal[design.columns.full])

    def _beyond(self, z: Floats, design: Design) -> Floats:
        """Points of shape (n, dim) with their predictors after them."""
        return np.concatenate([z, design.predictors(z[:, self.locals])], axis=1)

    def _by_design(self, z: Floats) -> Iterator[tuple[Floats, Design]]:
        """Points that follow each other and share their global variables, with their design."""
        theta = z[:, self.globals]
        is_new = np.append(True, (theta[1:] != theta[:-1]).any(1))
        begins = np.flatnonzero(is_new)
        for first, end in zip(begins, [*begins[1:], len(z)], strict=True):
            yield z[first:end], self._designs.at(theta[first])
