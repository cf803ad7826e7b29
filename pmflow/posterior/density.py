"""The posterior of a model as a function of its latent vector, for NumPy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, override

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.graph.replace import clone_replace
from pytensor.tensor.variable import TensorVariable

from pmflow.errors import UnsupportedError
from pmflow.graphs.checks import checks_as_values
from pmflow.graphs.evaluate import changed_flags
from pmflow.graphs.minibatches import in_minibatches
from pmflow.posterior.at_points import ModelAtPoints, latent_values
from pmflow.posterior.graph_density import Data, GraphDensity
from pmflow.posterior.rows.distinct import are_the_same, logp_of_distinct_rows
from pmflow.posterior.rows.streamed import RowSum
from pmflow.posterior.rows.terms import RowTerms, row_terms
from pmflow.watch import piece, stage

__all__ = ["LogDensity", "StreamedDensity", "density_over", "shared_densities"]

type Floats = NDArray[np.float64]
type Ordering = Mapping[str, Any]
"""Name of each value variable to (name, slice, shape, dtype): its place in the latent vector."""


class LogDensity(GraphDensity):
    """Unnormalised log posterior density over the unconstrained space, with its derivatives.

    Data are read at each call: after `pymc.set_data` the density is that of the new data.

    Parameters
    ----------
    model : pymc.Model
    ordering : mapping of str to tuple
        Name of each value variable to (name, slice, shape, dtype): its place in the latent vector.
    changes, serves_many : bool
        As of `GraphDensity`.

    Attributes
    ----------
    model, ordering
        As given.
    variables : ModelAtPoints
        The variables of the model at points of the latent space.
    has_fewer_rows : bool
        Whether rows of data that are the same are counted once.
    """

    def __init__(
        self,
        model: pm.Model,
        ordering: Ordering,
        *,
        changes: bool = False,
        serves_many: bool = False,
    ) -> None:
        self.model, self.ordering = model, dict(ordering)
        self.has_fewer_rows = False
        dim = max(place.stop for _, place, *_ in ordering.values())
        z = pt.vector("z", shape=(dim,), dtype=pytensor.config.floatX)
        self.variables = ModelAtPoints(model, ordering)
        with stage("Reading the model"), piece("reading the model"):
            super().__init__(z, self._written(z), changes=changes, serves_many=serves_many)

    @override
    def _simplified(self) -> tuple[TensorVariable, Data]:
        found = None if self._changes else self._of_distinct_rows()
        self.has_fewer_rows = found is not None
        return super()._simplified() if found is None else found

    def _of_distinct_rows(self) -> tuple[TensorVariable, Data] | None:
        """With rows of data that are the same counted once, where that is the same density."""
        found = logp_of_distinct_rows(self.model)
        if found is None:
            return None
        logp, data = found
        values = latent_values(self.model, self.ordering, self._z)
        (logp,) = clone_replace([logp], values, rebuild_strict=False)
        (logp,) = checks_as_values([logp], check_bounds=self.model.check_bounds)
        return (logp, data) if are_the_same(self._z, self._as_written, logp) else None

    def _written(self, z: TensorVariable) -> TensorVariable:
        """The log density as a graph of the latent vector."""
        model = self.model
        values = latent_values(model, self.ordering, z)
        with changed_flags(traceback__limit=0):  # PyMC changes others as it writes a log density
            (logp,) = clone_replace([model.logp()], values, rebuild_strict=False)
        (logp,) = checks_as_values([logp], check_bounds=model.check_bounds)
        return logp


class StreamedDensity(LogDensity):
    """The density of a model by all rows of its data, a few thousand at a time.

    So that of `pymc.Minibatch` is the same at each call, and takes no more memory where there are
    more rows.

    Parameters
    ----------
    model, ordering, changes
        As of `LogDensity`.
    terms : RowTerms, optional
        The log density as rows; by default as the model has it in minibatches.

    Attributes
    ----------
    sums : list of RowSum
        One for each `pymc.Minibatch`, or for observed variables of one length.

    Raises
    ------
    UnsupportedError
        If what depends on minibatches is no sum over rows.
    """

    sums: list[RowSum]

    def __init__(
        self,
        model: pm.Model,
        ordering: Ordering,
        *,
        changes: bool = False,
        terms: RowTerms | None = None,
    ) -> None:
        self._terms = row_terms(model) if terms is None else terms
        super().__init__(model, ordering, changes=changes)

    @override
    def _written(self, z: TensorVariable) -> TensorVariable:
        values = latent_values(self.model, self.ordering, z)
        terms = self._terms.at(values, check_bounds=self.model.check_bounds)
        self.sums = [RowSum(z, table) for table in terms.tables]
        self._is_checked = False
        return terms.rest

    @override
    def _of_distinct_rows(self) -> tuple[TensorVariable, Data] | None:
        return None  # rows are gone through in blocks

    def check_apart(self, point: Floats) -> None:
        """Refuse rows that meet in their minibatch; looked at once.

        Raises
        ------
        UnsupportedError
            If what one adds depends on others: then it is no sum over rows.
        """
        if self._is_checked:
            return
        for one in self.sums:
            if not one.are_apart(point):
                names = ", ".join(one.table.names)
                raise UnsupportedError(
                    f"What a row adds to the log density of {names} depends on the other rows of "
                    "its minibatch, as with a mean over them, so that no sum over all rows is "
                    "known. Compute what rows have in common from all of the data beforehand, or "
                    "fit a flow of your choice, method='nfvi=scale-loc'."
                )
        self._is_checked = True

    @property
    @override
    def work(self) -> int:
        return self.work_of_graph + int(sum(one.work * len(one.table) for one in self.sums))

    @property
    def in_rows(self) -> list[str]:
        """Names of the observed variables whose rows these are."""
        return [name for one in self.sums for name in one.table.names]

    @property
    def number_of_rows(self) -> int:
        """How many rows there are, of all tables."""
        return sum(len(one.table) for one in self.sums)

    @property
    def rest(self) -> tuple[TensorVariable, TensorVariable]:
        """The latent vector, and what does not depend on rows as a graph of it."""
        return super().graph

    @property
    @override
    def graph(self) -> tuple[TensorVariable, TensorVariable]:
        raise UnsupportedError(
            "The log density of a model with pm.Minibatch is a sum over blocks of rows, which is "
            "no single graph. Make the same model with all of the data."
        )

    @override
    def value(self, z: Floats) -> Floats:
        self.check_apart(z[0])
        return super().value(z) + sum(one.value(z) for one in self.sums)

    @override
    def value_and_gradient(self, z: Floats) -> tuple[Floats, Floats]:
        self.check_apart(z[0])
        parts = [super().value_and_gradient(z), *(x.value_and_gradient(z) for x in self.sums)]
        value = np.sum([part[0] for part in parts], axis=0)
        gradient = np.sum([part[1] for part in parts], axis=0)
        return value, np.where(np.isfinite(value)[:, None], gradient, 0.0)


_known: ContextVar[list[LogDensity] | None] = ContextVar("densities", default=None)


@contextmanager
def shared_densities(*known: LogDensity) -> Iterator[None]:
    """Within it, what is fitted to one model has one density: it is compiled once.

    Parameters
    ----------
    *known : LogDensity
        Densities of some models that there are already.
    """
    if _known.get() is not None and not known:
        yield
        return
    token = _known.set([*known])
    try:
        yield
    finally:
        _known.reset(token)


def density_over(model: pm.Model, ordering: Ordering, *, changes: bool = False) -> LogDensity:
    """The density of a model over the latent vector, see `shared_densities`.

    Parameters
    ----------
    model, ordering
        As of `LogDensity`.
    changes : bool
        Whether its data are set anew many times.
    """
    known = _known.get()
    for density in known or ():
        if density.model is model and density.ordering == dict(ordering):
            return density
    kind = StreamedDensity if in_minibatches(model) else LogDensity
    made = kind(model, ordering, changes=changes)
    if known is not None:
        known.append(made)
    return made
