"""Some rows held for what is compiled over them: others take their place without compiling anew."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.rewriting.basic import in2out
from pytensor.tensor.variable import TensorVariable

from pmflow.errors import UnsupportedError
from pmflow.graphs.batched_indices import open_batched_indices
from pmflow.graphs.evaluate import NotVectorizedError, compile_once, vectorize_over_draws
from pmflow.graphs.machine import NotCompiledError, compiled_at_points, has_jax
from pmflow.posterior.at_points import one_by_one
from pmflow.posterior.rows.table import Table
from pmflow.watch import piece, stage

__all__ = ["Block"]

type Floats = NDArray[np.float64]


class Block:
    """A place for rows of a table, in the shared variables of a graph.

    The length of a minibatch is a constant in many places of a model's graph, so rows are held as
    several minibatches, one below the other.

    Parameters
    ----------
    table : Table
        With terms that are graphs of a latent vector.
    rows : int
        How many there is place for: rounded up to minibatches.

    Attributes
    ----------
    size : int
        How many rows there is place for.
    """

    def __init__(self, table: Table, rows: int) -> None:
        self._table = table
        batches = math.ceil(rows / table.batch)
        self.size = batches * table.batch
        self._shape = batches, table.batch
        first = [self._held(column) for column in table.take(np.zeros(self.size, dtype=int))]
        self._columns = [pytensor.shared(value, shape=value.shape) for value in first]
        self._weights = pytensor.shared(np.zeros(self._shape), shape=self._shape)

    @cached_property
    def terms(self) -> TensorVariable:
        """What each row adds to the log density, shape (batches, batch).

        Raises
        ------
        UnsupportedError
            If the log density of one minibatch can't be made that of several.
        """
        given = (column.variable for column in self._table.columns)
        try:
            (terms,) = vectorize_over_draws(
                [self._table.terms], dict(zip(given, self._columns, strict=True))
            )
        except NotVectorizedError as error:
            names = ", ".join(self._table.names)
            raise UnsupportedError(
                f"The log density of {names} is needed at all rows of pm.Minibatch, but {error} "
                "can't be batched. Write it with Ops of PyTensor, or fit a flow of your choice, "
                "which sees one minibatch at a time: pmflow.fit(method='nfvi=scale-loc')."
            ) from error
        graph = FunctionGraph(outputs=[terms], clone=True, copy_inputs=False)
        in2out(open_batched_indices, name="open_batched_indices").rewrite(graph)
        return graph.outputs[0]

    @cached_property
    def total(self) -> TensorVariable:
        """The weighted sum of `terms`."""
        weights = pt.abs(self._weights)  # they are positive, as rewrites then know
        return (weights.astype(self.terms.dtype) * self.terms).sum()

    def hold(self, columns: Sequence[NDArray[Any]], weights: Floats) -> None:
        """Put rows into it, the last ones several times where there is place for more.

        A row that is held several times shares its weight: where its log density is infinite, 0
        times that would be no number.

        Parameters
        ----------
        columns : sequence of ndarray, each of shape (n, ...)
            Of at most `size` rows.
        weights : ndarray, shape (n,)
        """
        number = len(weights)
        if number < self.size:
            places = np.arange(self.size) % number
            columns = [column[places] for column in columns]
            weights = (weights / np.bincount(places))[places]
        for held, column in zip(self._columns, columns, strict=True):
            held.set_value(self._held(column), borrow=True)
        self._weights.set_value(weights.reshape(self._shape), borrow=True)

    def _held(self, column: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(column).reshape(*self._shape, *column.shape[1:])

    def each(self, z: TensorVariable) -> Callable[[Floats], Floats]:
        """The unweighted terms as a function: points of shape (n, dim) to (n, size).

        Parameters
        ----------
        z : TensorVariable, shape (dim,)
            What the terms are graphs of.
        """
        return partial(_each, self._compiled(z), self.size)

    def _compiled(self, z: TensorVariable) -> Callable[[Floats], Sequence[Floats]]:
        if has_jax() and z.dtype == "float64":
            with stage("Reading the model"), piece("compiling the terms of rows by JAX"):
                try:
                    run = compiled_at_points(z, self.terms, 1, gradient="none")
                    return partial(_one_at_a_time, run)
                except NotCompiledError:
                    pass
        points = pt.matrix("points", shape=(None, z.type.shape[0]), dtype=z.dtype)
        with stage("Reading the model"), piece("compiling the terms of rows for NumPy"):
            try:
                batched = vectorize_over_draws([self.terms], {z: points})
            except NotVectorizedError:
                fn = compile_once([z], [self.terms], rewrites="values", random_seed=False)
                return partial(one_by_one, fn)
            return compile_once([points], batched, rewrites="values", random_seed=False)


def _one_at_a_time(run: Callable[..., Any], points: Floats) -> list[Floats]:
    return [np.concatenate([run(point[None])[0] for point in points])]


def _each(run: Callable[[Floats], Sequence[Floats]], size: int, points: Floats) -> Floats:
    with np.errstate(all="ignore"):
        (terms,) = run(points)
    return np.asarray(terms, dtype=float).reshape(len(points), size)
