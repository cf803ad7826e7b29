"""The variables of a graph that are affine in the local variables, and the graph beyond them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property, partial
from math import prod
from typing import Any

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.graph.basic import Apply, Constant
from pytensor.graph.replace import clone_replace
from pytensor.graph.traversal import applys_between
from pytensor.tensor.subtensor import Subtensor, indices_from_subtensor
from pytensor.tensor.variable import TensorVariable
from scipy.sparse import csr_array

from pmflow.embedded.colours import Colours
from pmflow.embedded.curvature import Differences
from pmflow.embedded.factors import Factors
from pmflow.graphs.evaluate import NotVectorizedError, compile_once, vectorize_over_draws
from pmflow.graphs.machine import NotCompiledError, compiled_at_points, has_jax
from pmflow.graphs.sparsity import hessian_pattern
from pmflow.posterior.at_points import one_by_one
from pmflow.posterior.graph_density import GraphDensity
from pmflow.watch import tick

__all__ = ["MadeUp", "NotLiftedError", "Predictors", "curvature_of"]

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]


class NotLiftedError(Exception):
    """The second derivatives can't be had this way; the message says why."""


class Predictors:
    """Variables of a graph at points, one after the other; and the graph with them as inputs.

    Parameters
    ----------
    z : TensorVariable
    ends : sequence of TensorVariable
    batch : int
        How many points there are at a time, or a divisor of it.
    """

    def __init__(self, z: TensorVariable, ends: Sequence[TensorVariable], batch: int) -> None:
        self._z, self._ends, self._batch = z, ends, batch
        (self._dim,) = z.type.shape

    @cached_property
    def _shapes(self) -> list[tuple[int, ...]]:
        shapes = compile_once([self._z], [end.shape for end in self._ends], random_seed=False)
        return [tuple(map(int, x)) for x in shapes(np.zeros(self._dim))]

    @property
    def sizes(self) -> list[int]:
        """How many there are in each variable."""
        return [prod(shape) for shape in self._shapes]

    @property
    def number(self) -> int:
        """How many there are."""
        return sum(self.sizes)

    def __call__(self, points: Floats) -> Floats:
        """Their values at points of shape (n, dim), shape (n, entries)."""
        parts = []
        for i in range(0, len(points), self._batch):
            tick()
            with np.errstate(all="ignore"):
                parts.append(np.array(self._run(points[i : i + self._batch])[0]))
        return np.concatenate(parts)

    def outer(self, value: TensorVariable) -> GraphDensity:
        """The graph as one of the vector and of the variables after it."""
        both = pt.vector("both", shape=(self._dim + self.number,), dtype=self._z.dtype)
        pieces, at = {self._z: both[: self._dim]}, self._dim
        for end, shape in zip(self._ends, self._shapes, strict=True):
            pieces[end] = both[at : at + prod(shape)].reshape(shape)
            at += prod(shape)
        (logp,) = clone_replace([value], pieces, rebuild_strict=False)
        return GraphDensity(both, logp)

    def given(self, outer: Integers, inner: Integers) -> MadeUp:
        """The predictors as a function of held entries of the vector and of free ones.

        Parameters
        ----------
        outer, inner : ndarray of int
            Places of the held and of the free entries.

        Raises
        ------
        NotLiftedError
            If some of the graph reads both at once.
        """
        held = pt.vector("held", shape=(len(outer),), dtype=self._z.dtype)
        free = pt.vector("free", shape=(len(inner),), dtype=self._z.dtype)
        replaced: dict[Any, Any] = {}
        for node in applys_between([self._z], self._ends):
            if self._z in node.inputs:
                replaced[node.outputs[0]] = self._read(node, held, outer, free, inner)
        flat = pt.concatenate([end.reshape((-1,)) for end in self._ends])
        (flat,) = clone_replace([flat], replaced, rebuild_strict=False)
        return MadeUp(held, free, flat)

    def _read(
        self, node: Apply, held: Any, outer: Integers, free: Any, inner: Integers
    ) -> TensorVariable:
        """What a node reads from the vector, read from the held or from the free entries."""
        constants = all(isinstance(x, Constant) for x in node.inputs[1:])
        if not (isinstance(node.op, Subtensor) and node.inputs[0] is self._z and constants):
            raise NotLiftedError("its variables are not read one by one")
        index = indices_from_subtensor([x.data for x in node.inputs[1:]], node.op.idx_list)
        places = np.atleast_1d(np.arange(self._dim)[tuple(index)])
        for vector, known in ((held, outer), (free, inner)):
            if np.isin(places, known).all():
                found = vector[np.searchsorted(known, places)]
                return found if node.outputs[0].ndim else found[0]
        raise NotLiftedError("a part of it reads global and local variables at once")

    @cached_property
    def _run(self) -> Callable[[Floats], Sequence[Any]]:
        flat = pt.concatenate([end.reshape((-1,)) for end in self._ends])
        if has_jax():
            with suppress(NotCompiledError):
                return compiled_at_points(self._z, flat, self._batch, gradient="none")
        points = pt.matrix("points", shape=(None, self._dim), dtype=self._z.dtype)
        try:
            batched = vectorize_over_draws([flat], {self._z: points})
        except NotVectorizedError:
            fn = compile_once([self._z], [flat], rewrites="values", random_seed=False)
            return partial(one_by_one, fn)
        return compile_once([points], batched, rewrites="values", random_seed=False)


class MadeUp:
    """Predictors of held entries of a vector and of free ones, in which they are affine.

    What is made of the held entries, such as the root of a covariance matrix, is made once in each
    call.

    Parameters
    ----------
    held, free : TensorVariable
        Vectors.
    flat : TensorVariable
        The predictors, a vector.

    Raises
    ------
    NotLiftedError
        If they can't be had at many free entries at once.
    """

    def __init__(self, held: TensorVariable, free: TensorVariable, flat: TensorVariable) -> None:
        self._variables = held, free, flat
        many = pt.matrix("many", shape=(None, *free.type.shape), dtype=free.dtype)
        try:
            batched = vectorize_over_draws([flat], {free: many})
        except NotVectorizedError as error:
            raise NotLiftedError(str(error)) from error
        self._run = self._compiled([held, many], batched)

    def __call__(self, theta: Floats, u: Floats) -> Floats:
        """At held entries of shape (held,) and free ones of (n, free), shape (n, entries)."""
        return np.asarray(self._run(theta, u)[0])

    def pulled(self, theta: Floats, weights: Floats) -> tuple[Floats, Floats]:
        """The predictors where the free entries are 0, and slopes of weighted sums of them.

        Parameters
        ----------
        theta : ndarray, shape (held,)
        weights : ndarray, shape (n, entries)

        Returns
        -------
        base : ndarray, shape (entries,)
        slopes : ndarray, shape (n, free)
            By the free entries.

        Raises
        ------
        NotLiftedError
            If slopes of many sums can't be had at once.
        """
        base, slopes = self._pull(theta, np.zeros(self._variables[1].type.shape), weights)
        return np.asarray(base), np.asarray(slopes)

    @cached_property
    def _pull(self) -> Callable[..., Sequence[Any]]:
        held, free, flat = self._variables
        one, weights = pt.vector("one", dtype=flat.dtype), pt.matrix("weights", dtype=flat.dtype)
        slope = pt.grad((flat * one).sum(), free, disconnected_inputs="ignore")
        try:
            (slopes,) = vectorize_over_draws([slope], {one: weights})
        except NotVectorizedError as error:
            raise NotLiftedError(str(error)) from error
        return self._compiled([held, free, weights], [flat, slopes])

    @staticmethod
    def _compiled(inputs: list[Any], outputs: list[Any]) -> Callable[..., Sequence[Any]]:
        return compile_once(
            inputs, outputs, rewrites="values", random_seed=False, on_unused_input="ignore"
        )


def curvature_of(lifted: GraphDensity, inner: Integers, number: int) -> tuple[Factors, Differences]:
    """Second derivatives by the predictors, and their pattern.

    Parameters
    ----------
    lifted : GraphDensity
        Of the latent vector and of so many predictors after it.
    inner : ndarray of int
        Places of the entries that the predictors are affine in.
    number : int

    Raises
    ------
    NotLiftedError
        If it is not told, or these entries curve the density by other ways too.
    """
    curved = hessian_pattern(*lifted.graph)
    if curved is None or curved[inner].nnz > len(inner):  # the diagonal alone
        raise NotLiftedError("not all that curves is a function of its predictors")
    predictors = lifted.dim - number + np.arange(number)
    outer = Factors(csr_array(curved[predictors][:, predictors]))
    colours = Colours.of_pattern(outer.pattern, outer.rows, outer.columns)
    return outer, Differences(lifted, predictors, colours)
