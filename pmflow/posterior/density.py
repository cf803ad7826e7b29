"""The posterior of a model as a function of its latent vector, for NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial, reduce
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.replace import clone_replace
from pytensor.graph.traversal import ancestors
from pytensor.tensor.variable import TensorVariable

from pmflow.errors import UnsupportedError
from pmflow.graphs.evaluate import (
    GLOBAL_STATE,
    NotVectorizedError,
    checks_as_values,
    compile_once,
    vectorize_over_draws,
)
from pmflow.graphs.minibatches import minibatch_nodes
from pmflow.graphs.work import numbers_in
from pmflow.watch import piece, stage, tick

__all__ = ["LogDensity", "rows_at_once"]

_NUMBERS_AT_ONCE = 2**22
"""Draws times the longest data array of one call: memory stays bounded, and a call short.

How points are divided is the same on a fast and on a slow machine, because a product of matrices
is rounded otherwise where it has other rows.
"""

type Floats = NDArray[np.float64]


class LogDensity:
    """Unnormalised log posterior density over the unconstrained space, with its derivatives.

    Functions are compiled for NumPy when first needed: no machine code is made. Minibatches are
    taken as all of their data, so that the density is the same at each call. Data are read at each
    call: after `pymc.set_data` the density is that of the new data.

    Parameters
    ----------
    model : pymc.Model
    ordering : mapping of str to tuple
        Name of each value variable to (name, slice, shape, dtype): its place in the latent vector.

    Attributes
    ----------
    dim : int
        Length of the latent vector.
    """

    def __init__(self, model: pm.Model, ordering: Mapping[str, Any]) -> None:
        self.model = model
        self.dim = max(place.stop for _, place, *_ in ordering.values())
        self._z = pt.vector("z", shape=(self.dim,), dtype=pytensor.config.floatX)
        values = {
            value: self._z[place].reshape(shape).astype(dtype)
            for value in model.value_vars
            for _, place, shape, dtype in [ordering[value.name]]
        }
        with stage("Reading the model"), piece("reading the model"):
            with GLOBAL_STATE:  # PyMC changes PyTensor's flags as it writes a log density
                logp = _over_all_rows(model.logp())
            (logp,) = clone_replace([logp], values, rebuild_strict=False)
            self._rows = rows_at_once([logp], self.dim)
            (self._logp,) = checks_as_values([logp], check_bounds=model.check_bounds)

    @cached_property
    def work(self) -> int:
        """About how many numbers the density goes through at one point."""
        return numbers_in([self._logp])

    def value_and_gradient(self, z: Floats) -> tuple[Floats, Floats]:
        """Log density and its gradient at points of shape (n, dim): shapes (n,), (n, dim).

        Where the density is not finite the value is -inf and the gradient 0.
        """
        logp, gradient = self._in_parts(self._value_and_gradient, z)
        good = np.isfinite(logp) & np.isfinite(gradient).all(-1)
        return np.where(good, logp, -np.inf), np.where(good[:, None], gradient, 0.0)

    def _in_parts(self, fn: Callable[..., Any], z: Floats) -> tuple[Floats, ...]:
        z = np.asarray(z, dtype=self._z.dtype)
        parts = []
        with np.errstate(all="ignore"), piece("evaluating the log density", can_be_cut=True):
            for i in range(0, len(z), self._rows):
                tick()
                parts.append(fn(z[i : i + self._rows]))
        return tuple(np.concatenate(p).astype(float) for p in zip(*parts, strict=True))

    @cached_property
    def _value_and_gradient(self) -> Callable[[Floats], list[Floats]]:
        with stage("Reading the model"), piece("compiling the log density for NumPy"):
            return self._compiled()

    def _compiled(self) -> Callable[[Floats], list[Floats]]:
        points = pt.matrix("points", shape=(None, self.dim), dtype=self._z.dtype)
        try:
            (logp,) = vectorize_over_draws([self._logp], {self._z: points})
        except NotVectorizedError:
            gradient = pt.grad(self._logp, self._z, disconnected_inputs="ignore")
            fn = compile_once([self._z], [self._logp, gradient], random_seed=False)
            return partial(_one_by_one, fn)
        gradient = pt.grad(logp.sum(), points, disconnected_inputs="ignore")
        return compile_once([points], [logp, gradient], random_seed=False)


def _one_by_one(fn: Callable[..., Any], z: Floats) -> list[Floats]:
    """What a function of one point gives at each of some."""
    parts = []
    for point in z:
        tick()
        parts.append(fn(point))
    return [np.stack(part) for part in zip(*parts, strict=True)]


def rows_at_once(graphs: Sequence[Variable], dim: int) -> int:
    """How many points to evaluate a graph at in one call, given the longest data in it."""
    return max(1, _NUMBERS_AT_ONCE // max(_longest(graphs), dim))


def _longest(graphs: Sequence[Variable]) -> int:
    """Numbers in the longest data array of some graphs."""
    return max((_size(v) for v in ancestors(list(graphs))), default=1)


def _over_all_rows(logp: TensorVariable) -> TensorVariable:
    """The mean log density over minibatches that together cover all data.

    A minibatch's likelihood is scaled up to all rows, so the mean is the log density given all of
    them. Where they do not divide into minibatches, the first rows fill the last one. To put all
    rows in place of a minibatch is not possible: its length is a constant in many places.
    """
    nodes = minibatch_nodes([logp])
    if not nodes:
        return logp
    draws: dict[TensorVariable, TensorVariable] = {}
    batches = reduce(pt.maximum, [-(-x.inputs[0].shape[0] // x.outputs[0].shape[0]) for x in nodes])
    for node in nodes:
        *tensors, _ = node.inputs
        *parts, _ = node.outputs
        length = parts[0].shape[0]
        rows = (pt.arange(batches * length) % tensors[0].shape[0]).reshape((batches, length))
        for tensor, part in zip(tensors, parts, strict=True):
            draws[part] = pt.specify_shape(tensor[rows], (None, *part.type.shape))
    try:
        (parts,) = vectorize_over_draws([logp], draws)
    except NotVectorizedError as error:
        raise UnsupportedError(
            f"A frame is found with all rows of pm.Minibatch, but {error} can't be batched. "
            "Leave out frame=, or give a pmflow.Frame."
        ) from error
    return parts.mean()


def _size(variable: Any) -> int:
    if isinstance(variable, SharedVariable):
        return int(np.size(variable.get_value(borrow=True)))
    return int(np.size(variable.data)) if isinstance(variable, Constant) else 1
