"""The rows of a model that was given all of its data at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.compile.builders import OpFromGraph
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.traversal import ancestors, io_toposort
from pytensor.tensor.type import TensorType
from pytensor.tensor.variable import TensorVariable

from pmflow.graphs.evaluate import GLOBAL_STATE
from pmflow.graphs.settled import value_of
from pmflow.posterior.copied import with_inputs
from pmflow.posterior.rows.table import Column, Table
from pmflow.posterior.rows.terms import RowTerms

__all__ = ["LongRows", "long_rows", "rows_of_all"]

_BATCH = 2_048
"""Rows that the terms are written for."""
_LENGTHS = 4
"""Entries of a constant up to which it may be the shape of something."""


class LongRows:
    """Observed variables of as many rows, and the data that have as many.

    Data with as many rows as an observed variable are taken for covariates of its rows. This is a
    guess from shapes: whoever uses it holds the sum over rows against the density itself.

    Parameters
    ----------
    model : pymc.Model
    variables : list of TensorVariable
        Observed.
    length : int

    Attributes
    ----------
    variables, length
        As given.
    data : list of Constant or SharedVariable
        Of as many rows.
    """

    def __init__(self, model: pm.Model, variables: list[Any], length: int) -> None:
        self._model, self.variables, self.length = model, variables, length
        behind = ancestors([x for rv in variables for x in (rv, model.rvs_to_values[rv])])
        self.data = list(dict.fromkeys(x for x in behind if _length(x) == length))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the observed variables."""
        return tuple(rv.name for rv in self.variables)

    def written_for(self, rows: int) -> tuple[TensorVariable, dict[Any, Any]] | None:
        """What each row adds to the log density, for so many of them: shape (rows,).

        To be called within `GLOBAL_STATE`: PyMC changes PyTensor's flags as it writes a density.

        Returns
        -------
        tuple of TensorVariable and dict, or None
            The graph, and the inputs of it that stand for `data`. None if its graph is not one of
            rows.
        """
        inputs = {x: _input(x, self.length) for x in self.data}
        made = with_inputs(self._model, inputs, self.names)
        long = [rv for rv in made.observed_RVs if rv.name in self.names]
        parts = [terms for rv in long for terms in made.logp(vars=[rv], sum=False)]
        behind = set(ancestors(parts))
        inputs = {data: x for data, x in inputs.items() if x in behind}
        given = {data: _input(data, rows) for data in inputs}
        try:
            fewer = {x: given[data] for data, x in inputs.items()}
            each = _shortened(parts, fewer, self.length, rows)
        except Exception:  # whatever an Op says of shapes that it does not take
            return None
        if not inputs or any(x.ndim == 0 or x.type.shape[0] not in (rows, None) for x in each):
            return None
        each = [x.sum(axis=tuple(range(1, x.ndim))) if x.ndim > 1 else x for x in each]
        return reduce(add, each), given


def long_rows(model: pm.Model, least: int) -> list[LongRows]:
    """Observed variables of so many rows at least, those of one length together."""
    # what is observed may be data of another type
    values = {rv: ancestors([model.rvs_to_values[rv]]) for rv in model.observed_RVs}
    lengths = {rv: max(map(_length, behind)) for rv, behind in values.items()}
    found: dict[int, list[Any]] = {}
    for rv, length in lengths.items():
        if length >= least:
            found.setdefault(length, []).append(rv)
    return [LongRows(model, variables, length) for length, variables in found.items()]


def rows_of_all(model: pm.Model, least: int) -> RowTerms | None:
    """Take a log density apart into rows, where what is observed has that many.

    Parameters
    ----------
    model : pymc.Model
        Without `pymc.Minibatch`.
    least : int
        How many rows an observed variable must have to be taken apart; others stay whole.

    Returns
    -------
    RowTerms or None
        None if there is no such variable, or its graph is not one of rows.
    """
    found = long_rows(model, least)
    if not found:
        return None
    long = [rv for one in found for rv in one.variables]
    others = [v for v in (*model.free_RVs, *model.observed_RVs) if v not in long]
    with GLOBAL_STATE:
        tables = [_table(one) for one in found]
        if any(table is None for table in tables):
            return None
        rest = model.logp(vars=[*others, *model.potentials])
    return RowTerms(rest, tuple(table for table in tables if table is not None))


def _table(rows: LongRows) -> Table | None:
    batch = min(_BATCH, rows.length)
    written = rows.written_for(batch)
    if written is None:
        return None
    terms, given = written
    columns = tuple(Column(x, data) for data, x in given.items())
    return Table(rows.names, columns, batch, terms * (rows.length / batch))


def _length(x: Variable) -> int:
    """How many rows data have, 0 for what is none."""
    is_data = isinstance(x, Constant | SharedVariable) and isinstance(x.type, TensorType)
    return len(value_of(x)) if is_data and x.type.ndim else 0


def _input(data: Any, rows: int) -> TensorVariable:
    return data.type.clone(shape=(rows, *value_of(data).shape[1:]))(name=data.name)


def _shortened(
    graphs: Sequence[Any], given: Mapping[Any, Any], length: int, batch: int
) -> list[Any]:
    """Graphs of so many rows as graphs of fewer, each node made anew for their shapes."""
    new: dict[Variable, Variable] = dict(given)
    for node in io_toposort(list(given), list(graphs)):
        inputs = [new.get(x, _fewer(x, length, batch)) for x in node.inputs]
        if all(x is y for x, y in zip(inputs, node.inputs, strict=True)):
            continue
        if isinstance(node.op, OpFromGraph):  # its shapes are fixed, those of the graph in it not
            inside = dict(zip(node.op.inner_inputs, inputs, strict=True))
            outputs = _shortened(node.op.inner_outputs, inside, length, batch)
        else:
            outputs = node.op.make_node(*inputs).outputs
        new.update(zip(node.outputs, outputs, strict=True))
    return [new.get(x, x) for x in graphs]


def _fewer(x: Variable, length: int, batch: int) -> Variable:
    """The number of rows where a constant gives a shape."""
    if not isinstance(x, Constant) or not isinstance(x.type, TensorType):
        return x
    data = np.asarray(x.data)
    if data.dtype.kind not in "iu" or data.size > _LENGTHS or length not in data:
        return x
    return pt.constant(np.where(data == length, batch, data).astype(data.dtype))
