"""The posterior of a model as a function of its latent vector, for NumPy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import reduce
from typing import Any

import pymc as pm
import pytensor
import pytensor.tensor as pt
from pytensor.graph.replace import clone_replace
from pytensor.tensor.variable import TensorVariable

from pmflow.errors import UnsupportedError
from pmflow.graphs.checks import checks_as_values
from pmflow.graphs.evaluate import (
    GLOBAL_STATE,
    NotVectorizedError,
    vectorize_over_draws,
)
from pmflow.graphs.minibatches import minibatch_nodes
from pmflow.graphs.work import rows_at_once
from pmflow.posterior.at_points import ModelAtPoints, latent_values
from pmflow.posterior.graph_density import GraphDensity
from pmflow.watch import piece, stage

__all__ = ["LogDensity", "density_over", "shared_densities"]

type Ordering = Mapping[str, Any]
"""Name of each value variable to (name, slice, shape, dtype): its place in the latent vector."""


class LogDensity(GraphDensity):
    """Unnormalised log posterior density over the unconstrained space, with its derivatives.

    Minibatches are taken as all of their data, so that the density is the same at each call. Data
    are read at each call: after `pymc.set_data` the density is that of the new data.

    Parameters
    ----------
    model : pymc.Model
    ordering : mapping of str to tuple
        Name of each value variable to (name, slice, shape, dtype): its place in the latent vector.

    Attributes
    ----------
    model, ordering
        As given.
    variables : ModelAtPoints
        The variables of the model at points of the latent space.
    """

    def __init__(self, model: pm.Model, ordering: Ordering) -> None:
        self.model, self.ordering = model, dict(ordering)
        dim = max(place.stop for _, place, *_ in ordering.values())
        z = pt.vector("z", shape=(dim,), dtype=pytensor.config.floatX)
        self.variables = ModelAtPoints(model, ordering)
        values = latent_values(model, ordering, z)
        with stage("Reading the model"), piece("reading the model"):
            with GLOBAL_STATE:  # PyMC changes PyTensor's flags as it writes a log density
                logp = _over_all_rows(model.logp())
                (logp,) = clone_replace([logp], values, rebuild_strict=False)
            rows = rows_at_once([logp], dim)
            (logp,) = checks_as_values([logp], check_bounds=model.check_bounds)
            super().__init__(z, logp, rows)


_known: ContextVar[list[LogDensity] | None] = ContextVar("densities", default=None)


@contextmanager
def shared_densities() -> Iterator[None]:
    """Within it, what is fitted to one model has one density: it is compiled once."""
    token = _known.set([])
    try:
        yield
    finally:
        _known.reset(token)


def density_over(model: pm.Model, ordering: Ordering) -> LogDensity:
    """The density of a model over the latent vector, see `shared_densities`."""
    known = _known.get()
    for density in known or ():
        if density.model is model and density.ordering == dict(ordering):
            return density
    made = LogDensity(model, ordering)
    if known is not None:
        known.append(made)
    return made


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
    batches = reduce(pt.maximum, [-(-x.inputs[0].shape[0] // _length(x)) for x in nodes])
    for node in nodes:
        *tensors, _ = node.inputs
        *parts, _ = node.outputs
        length = _length(node)
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


def _length(node: Any) -> Any:
    """Rows of a minibatch: a number, as a rule, so that nothing needs to be drawn for it."""
    return node.outputs[0].type.shape[0] or node.outputs[0].shape[0]
