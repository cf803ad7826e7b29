"""A log density given as a graph of a vector, as a function for NumPy."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.tensor.variable import TensorVariable

from pmflow.graphs.evaluate import (
    NotVectorizedError,
    compile_once,
    vectorize_over_draws,
)
from pmflow.graphs.machine import (
    Gradient,
    NotCompiledError,
    compiled_at_points,
    compiled_by_numba,
    has_jax,
)
from pmflow.graphs.settled import data_of, numbers_settled, settled, settling
from pmflow.graphs.work import calls_in, has_loops, numbers_in, rows_at_once
from pmflow.posterior.at_points import one_by_one
from pmflow.watch import piece, stage, tick

__all__ = ["GraphDensity"]

_NUMBERS_OF_A_CALL = 2**22
"""Numbers gone through by one call of JAX: memory stays bounded, and a call short."""
_NUMBERS_OF_VALUES = 2**25
"""The same without gradients, of which nothing is kept."""

_WORTH_COMPILING = 10_000
"""Numbers of a density from which on it is worth to compile it by JAX."""
_MANY = 150
"""Dimensions above which every density is worth it: its mode takes thousands of evaluations."""
_CALL = 1_000
"""Numbers that NumPy goes through in the time of a step of a scan: each of its Ops is called."""
_WORTH_A_FUNCTION = 2e8
"""Numbers that values alone must save the gradients of, to be worth a function of their own."""
_LEAST_SPENT = 1e6
"""What a call costs at least, in numbers."""
_MOST_AT_ONCE = 64
_WORTH_SETTLING = 20_000
"""Numbers that what is made of data and constants alone goes through, to be made once."""
_LIGHT = 30_000
"""Numbers of a density up to which a single point may as well be evaluated with others."""

_log = logging.getLogger("pmflow")

type Floats = NDArray[np.float64]
type Data = list[tuple[SharedVariable, Any]]
"""Data of a graph, with the values that something was made of."""
type Machine = Callable[[Floats], Sequence[NDArray[np.floating[Any]]]]


class GraphDensity:
    """A graph of a vector that gives a log density, with its derivatives.

    A small density is run by NumPy: no machine code is made. One with scans, matrices or many rows
    is compiled by JAX where that is installed and knows all of its Ops, one with a series to sum by
    numba; not in single precision. Any of it is done when first needed. Data in shared variables
    are read at each call.

    Parameters
    ----------
    z : TensorVariable, shape (dim,)
        Of static shape.
    logp : TensorVariable, shape ()
    rows : int, optional
        How many points to evaluate in one call of NumPy; told from the graph if not given.
    changes : bool
        Whether its data are others at each call: then nothing is made of them beforehand.
    serves_many : bool
        Whether many fits are made by it: then it is worth compiling however small it is.

    Attributes
    ----------
    dim : int
        Length of the vector.
    spent : float
        About how many numbers all evaluations so far have gone through.
    """

    def __init__(
        self,
        z: TensorVariable,
        logp: TensorVariable,
        rows: int | None = None,
        *,
        changes: bool = False,
        serves_many: bool = False,
    ) -> None:
        self._z, self._as_written, self._changes = z, logp, changes
        self._serves_many = serves_many
        (self.dim,) = z.type.shape
        self._logp, self._data = self._settled()
        self._rows = rows_at_once([self._logp], self.dim) if rows is None else rows
        self._has_safe_gradients = False
        self._values_at_once = 0
        self.spent = 0.0
        self._lock = threading.RLock()  # what a compiled function computes with belongs to it

    def _settled(self) -> tuple[TensorVariable, Data]:
        """The graph with what is of data and constants alone evaluated, and these data.

        As it is written where that is not worth it.
        """
        written, data = self._simplified()
        if self._changes:
            return written, data
        nodes = settling([written], [self._z])
        if numbers_settled(nodes) <= _WORTH_SETTLING:
            return written, data
        data = [*data, *((x, x.get_value(borrow=True)) for x in data_of(nodes))]
        (logp,) = settled([written], [self._z])
        return logp, data

    def _simplified(self) -> tuple[TensorVariable, Data]:
        """Another graph of the same density, and the data that it was made of."""
        return self._as_written, []

    def _look_at_data(self) -> None:
        """Do so anew where data were set anew, and forget what was made of the graph."""
        if all(x.get_value(borrow=True) is value for x, value in self._data):
            return
        self._logp, self._data = self._settled()
        for name, member in vars(GraphDensity).items():
            if isinstance(member, cached_property):
                self.__dict__.pop(name, None)

    def count_anew(self) -> None:
        """Begin to count anew what evaluations have `spent`: another fit begins."""
        self.spent = 0.0

    @property
    def work(self) -> int:
        """About how many numbers the density goes through at one point."""
        return self.work_of_graph

    @cached_property
    def work_of_graph(self) -> int:
        """The same of the graph alone, where the density is more than that."""
        return numbers_in([self._logp])

    @property
    def graph(self) -> tuple[TensorVariable, TensorVariable]:
        """The vector and the log density as a graph of it."""
        with self._lock:
            self._look_at_data()
        return self._z, self._logp

    def value(self, z: Floats) -> Floats:
        """Log density at points of shape (n, dim), shape (n,), whatever it is."""
        with self._lock:
            self._look_at_data()
            is_worth_it = self._changes or len(z) * self.work_of_graph > _WORTH_A_FUNCTION
            if is_worth_it and self._machine is not None:
                at_once = self._values_at_once or self._values_of_a_call(len(z))
                self._values_at_once = at_once
                return self._in_parts(z, self._values, at_once, with_gradient=False)[0]
            return self._in_parts(z, self._machine, self._batch, with_gradient=False)[0]

    def value_and_gradient(self, z: Floats) -> tuple[Floats, Floats]:
        """Log density and its gradient at points of shape (n, dim): shapes (n,), (n, dim).

        Where the density is not finite the value is -inf and the gradient 0.
        """
        with self._lock:
            self._look_at_data()
            logp, gradient = self._in_parts(z, self._machine, self._batch, with_gradient=True)
        good = np.isfinite(logp) & np.isfinite(gradient).all(-1)
        return np.where(good, logp, -np.inf), np.where(good[:, None], gradient, 0.0)

    def draws_within(self, work: float, *, most: int, least: int) -> int:
        """How many points the density can be had at for some work, in numbers gone through."""
        return int(np.clip(work / self.work, least, most))

    def _in_parts(
        self, z: Floats, run: Machine | None, at_once: int, *, with_gradient: bool
    ) -> tuple[Floats, ...]:
        z = np.asarray(z, dtype=self._z.dtype)
        parts = []
        with np.errstate(all="ignore"), piece("evaluating the log density", can_be_cut=True):
            rows = self._rows if run is None else at_once
            for i in range(0, len(z), rows):
                tick()
                self.spent += max(_LEAST_SPENT, self.work_of_graph * min(rows, len(z) - i))
                found = self._at(z[i : i + rows], run, rows, with_gradient=with_gradient)
                parts.append([np.array(x) for x in found])
        return tuple(np.concatenate(p).astype(float) for p in zip(*parts, strict=True))

    def _at(
        self, z: Floats, run: Machine | None, at_once: int, *, with_gradient: bool
    ) -> Sequence[Any]:
        """Values at a few points, and gradients; these may be NaN where they are not asked for."""
        if run is None:
            return self._without_jax(z)
        size = 1 if len(z) == 1 and self.work_of_graph > _LIGHT else at_once
        filled = np.concatenate([z, np.broadcast_to(z[:1], (size - len(z), self.dim))])
        found = [x[: len(z)] for x in run(filled)]
        if not with_gradient:
            return found
        values, gradients = map(np.array, found)
        lost = np.isfinite(values) & ~np.isfinite(gradients).all(-1)
        if lost.any() and not self._has_safe_gradients:
            self._has_safe_gradients = True
            self._machine = self._by_jax("pytensor") or self._machine
            return self._at(z, self._machine, at_once, with_gradient=True)
        if lost.any():
            values[lost], gradients[lost] = self._without_jax(z[lost])
        return values, gradients

    @cached_property
    def _batch(self) -> int:
        """Points of one call of JAX: another number would be compiled anew."""
        return int(np.clip(_NUMBERS_OF_A_CALL // self.work_of_graph, 1, _MOST_AT_ONCE))

    def _values_of_a_call(self, asked: int) -> int:
        """The same without gradients: what is asked for at first, in equal parts that fit."""
        most = max(self._batch, _NUMBERS_OF_VALUES // self.work_of_graph)
        return max(self._batch, math.ceil(asked / math.ceil(asked / most)))

    @cached_property
    def _machine(self) -> Machine | None:
        """Density and gradient compiled by JAX, None where they are for NumPy."""
        is_light = self.work_of_graph + _CALL * calls_in([self._logp]) < _WORTH_COMPILING
        is_light &= self.dim <= _MANY and not self._serves_many
        if self._z.dtype != "float64" or not has_jax():
            return None
        if is_light and self._batched is not None:
            return None
        return self._by_jax("jax")

    @cached_property
    def _batched(self) -> tuple[TensorVariable, TensorVariable] | None:
        """Points, and the log density at all of them; None where it can't be batched."""
        points = pt.matrix("points", shape=(None, self.dim), dtype=self._z.dtype)
        try:
            (logp,) = vectorize_over_draws([self._logp], {self._z: points})
        except NotVectorizedError:
            return None
        return points, logp

    @cached_property
    def _values(self) -> Machine | None:
        """The density alone, compiled by JAX."""
        return self._by_jax("none")

    def _by_jax(self, gradient: Gradient) -> Machine | None:
        with stage("Reading the model"), piece("compiling the log density by JAX"):
            try:
                at_once = (self._values_at_once if gradient == "none" else 0) or self._batch
                return compiled_at_points(self._z, self._logp, at_once, gradient=gradient)
            except NotCompiledError as error:
                _log.debug("The log density is run by NumPy: JAX can't compile it (%s)", error)
                return None

    @cached_property
    def _without_jax(self) -> Callable[[Floats], Sequence[Floats]]:
        has_series = has_loops([self._logp]) and self.work_of_graph >= _WORTH_COMPILING
        if has_series and self._z.dtype == "float64":
            with stage("Reading the model"), piece("compiling the log density by numba"):
                try:
                    return partial(one_by_one, compiled_by_numba(self._z, self._logp))
                except NotCompiledError as error:
                    _log.debug("The log density is run by NumPy: numba can't compile it: %s", error)
        with stage("Reading the model"), piece("compiling the log density for NumPy"):
            return self._compiled()

    def _compiled(self) -> Callable[[Floats], Sequence[Floats]]:
        if self._batched is None:
            gradient = pt.grad(self._logp, self._z, disconnected_inputs="ignore")
            fn = compile_once(
                [self._z], [self._logp, gradient], rewrites="values", random_seed=False
            )
            return partial(one_by_one, fn)
        points, logp = self._batched
        gradient = pt.grad(logp.sum(), points, disconnected_inputs="ignore")
        return compile_once([points], [logp, gradient], rewrites="values", random_seed=False)
