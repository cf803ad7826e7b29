"""The latent vector of a group of variables, as its layers may know it."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

import numpy as np
import pymc as pm
from scipy.sparse import csr_array

from pmflow.embedded.factor import SparseFactor
from pmflow.embedded.factors import Factors
from pmflow.embedded.structure import NoStructureError, read_pattern
from pmflow.errors import ParameterError, UnsupportedError
from pmflow.family.state import FlowGroupState
from pmflow.flows.latent import Latent, LatentGraph
from pmflow.posterior.density import LogDensity
from pmflow.records import Triangle, full_triangle

__all__ = ["latent_of"]


class OnVariables(Protocol):
    """A group of variables of a model."""

    model: pm.Model
    group: list[Any]
    ordering: dict[str, Any]

    @property
    def log_density(self) -> LogDensity:
        """Of the model, over all of its variables."""


def latent_of(group: OnVariables, state: FlowGroupState | None) -> Latent:
    """What layers may know of a group of variables.

    Parameters
    ----------
    group
    state : FlowGroupState or None
        Of a saved group: which coordinates meet in it is not read again.
    """
    model = group.model
    places = {name: place for name, place, *_ in group.ordering.values()}
    dims: dict[str, tuple[str | None, ...]] = {}
    coords: dict[str, tuple[Any, ...]] = {}
    for rv, (name, _, shape, _) in zip(group.group, group.ordering.values(), strict=True):
        known = model.named_vars_to_dims.get(rv.name) or ()
        if len(known) == len(shape):
            dims[name] = tuple(known)
            coords |= {d: tuple(model.coords[d]) for d in known if model.coords.get(d)}
    graph = None if state is None else state.graph
    read = partial(_read, group) if graph is None else lambda: graph
    return Latent(max(place.stop for place in places.values()), places, dims, coords, read)


def _read(group: OnVariables) -> LatentGraph:
    if {*group.group} != {*group.model.free_RVs}:
        raise ParameterError(
            "A layer that goes by which variables meet, such as 'sparse', needs all free variables "
            "of the model in one group. Use pmflow.NormalizingFlow, or another layer."
        )
    try:
        pattern = read_pattern(group.log_density)
    except NoStructureError as error:
        raise UnsupportedError(
            f"A layer that goes by which variables meet, such as 'sparse', is of no use here, "
            f"because {error}. Use 'lowrank[rank=10]' or 'tril'."
        ) from error
    return LatentGraph(
        pattern.indptr.astype(np.int64), pattern.indices.astype(np.int64), _triangle(pattern)
    )


def _triangle(pattern: csr_array) -> Triangle:
    """Where a Cholesky factor has entries: that of any precision with this pattern."""
    factors = Factors(pattern)
    values = np.random.default_rng(0).uniform(-1.0, 0.0, len(factors.rows))
    values[factors.on_diagonal] = 1.0 + np.diff(pattern.indptr)  # dominates its row
    factor = factors.of(values)
    if isinstance(factor, SparseFactor):
        return factor.triangle
    return full_triangle(pattern.shape[0])
