"""The log density of a model as one part of all variables, and sums over rows of data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

import pymc as pm
from pymc.variational.minibatch_rv import MinibatchRandomVariable
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.replace import clone_replace
from pytensor.tensor.type_other import NoneConst
from pytensor.tensor.variable import TensorVariable

from pmflow.errors import UnsupportedError
from pmflow.graphs.checks import checks_as_values
from pmflow.graphs.evaluate import GLOBAL_STATE
from pmflow.graphs.labelled import without_dims
from pmflow.graphs.minibatches import (
    drawn_by,
    generator_of,
    has_minibatches,
    in_minibatches,
    minibatch_nodes,
)
from pmflow.posterior.copied import with_inputs
from pmflow.posterior.rows.table import Column, Table

__all__ = ["RowTerms", "row_terms"]


@dataclass(frozen=True, eq=False)
class RowTerms:
    """A log density of which parts are sums over rows.

    Attributes
    ----------
    rest : TensorVariable, shape ()
        What does not depend on the rows: priors, and what is observed once.
    tables : tuple of Table
    """

    rest: TensorVariable
    tables: tuple[Table, ...]

    def at(
        self, values: Mapping[TensorVariable, TensorVariable], *, check_bounds: bool
    ) -> RowTerms:
        """The same with other graphs in the place of value variables, and -inf out of bounds."""
        graphs = [self.rest, *(table.terms for table in self.tables)]
        graphs = clone_replace(graphs, dict(values), rebuild_strict=False)
        rest, *terms = checks_as_values(graphs, check_bounds=check_bounds)
        tables = zip(self.tables, terms, strict=True)
        return RowTerms(rest, tuple(replace(table, terms=new) for table, new in tables))


def row_terms(model: pm.Model) -> RowTerms:
    """Take the log density of a model with `pymc.Minibatch` apart.

    Parameters
    ----------
    model : pymc.Model

    Raises
    ------
    UnsupportedError
        If what depends on minibatches is no sum over rows that is scaled up to all of them. The
        message says how to write it.
    """
    names = in_minibatches(model)
    model, data = _without_data(model)
    in_rows = [rv for rv in model.observed_RVs if rv.name in names]
    others = [*model.free_RVs, *model.observed_RVs, *model.potentials]
    others = [v for v in others if v not in in_rows]
    with GLOBAL_STATE:  # PyMC changes PyTensor's flags as it writes a log density
        rest = model.logp(vars=others)
        if has_minibatches([rest]):
            for variable in others:
                _check_is_apart(model, variable)
        made: dict[Variable, list[tuple[str, TensorVariable]]] = {}
        for rv in in_rows:
            generator, terms = _terms_of(model, rv)
            made.setdefault(generator, []).append((rv.name, terms))
        return RowTerms(rest, tuple(_table(parts, data) for parts in made.values()))


def _without_data(model: pm.Model) -> tuple[pm.Model, dict[Variable, Constant]]:
    """The model with inputs in the place of arrays that minibatches are of, and these arrays."""
    values = model.rvs_to_values
    nodes = minibatch_nodes([*model.observed_RVs, *(values[rv] for rv in model.observed_RVs)])
    arrays = {x for node in nodes for x in node.inputs if isinstance(x, Constant)}
    if not arrays:
        return model, {}
    inputs = {array: array.type(name=array.name) for array in arrays}
    with GLOBAL_STATE:
        made = with_inputs(model, inputs, [rv.name for rv in model.observed_RVs])
    return made, {given: array for array, given in inputs.items()}


def _table(parts: Sequence[tuple[str, TensorVariable]], data: Mapping[Variable, Constant]) -> Table:
    """The rows that one generator draws, and inputs in the place of what is drawn.

    Parameters
    ----------
    parts : sequence of (str, TensorVariable)
        Observed variables, and the terms of their rows.
    data : mapping
        Arrays by the inputs that stand for them.
    """
    terms = reduce(add, [part for _, part in parts])
    nodes = minibatch_nodes([terms])
    pairs = drawn_by(nodes[0])
    given = [x.type(name=x.name) for _, x in pairs]
    drawn = {x: new for node in nodes for (_, x), new in zip(drawn_by(node), given, strict=True)}
    (terms,) = clone_replace([terms], drawn)
    columns = tuple(
        Column(x, data.get(source, source)) for x, (source, _) in zip(given, pairs, strict=True)
    )
    return Table(tuple(name for name, _ in parts), columns, _batch(nodes[0]), terms)


def _batch(node: Apply) -> int:
    (length,) = {x.type.shape[0] for _, x in drawn_by(node)}
    return int(length)


def _check_is_apart(model: pm.Model, variable: TensorVariable) -> None:
    """Refuse minibatches in what PyMC does not scale up to all rows."""
    if not has_minibatches([model.logp(vars=[variable])]):
        return
    if variable in model.potentials:
        raise UnsupportedError(
            f"The potential {variable.name!r} depends on pm.Minibatch, but PyMC does not scale a "
            "potential up to all rows, so that most of the data would not count. Write it as "
            "pm.CustomDist(..., logp=..., observed=<minibatch>, total_size=<number of rows>)."
        )
    if variable in model.free_RVs:
        raise UnsupportedError(
            f"{variable.name!r} is a free variable of the rows of pm.Minibatch: it would mean "
            "others at each step. Give it all rows, and index it: effect[group] with the "
            "minibatch of `group`."
        )
    raise UnsupportedError(
        f"{variable.name!r} is observed in minibatches without total_size, so that only as many "
        "rows as a minibatch has would count. Give the number of all rows: total_size=len(data)."
    )


def _terms_of(model: pm.Model, rv: TensorVariable) -> tuple[Variable, TensorVariable]:
    """The generator that draws rows of an observed variable, and the log density of each row."""
    (logp,) = map(without_dims, model.logp(vars=[rv], sum=False))
    nodes = minibatch_nodes([logp])
    sizes = rv.owner.inputs[1:] if _is_scaled(rv) else []
    if not nodes:
        raise UnsupportedError(
            f"{rv.name!r} has a total_size, but not all of its rows are known: they are none of "
            "pm.Minibatch. Make them so, pm.Minibatch(data, batch_size=...), or leave total_size "
            "out."
        )
    generators = {generator_of(node) for node in nodes}  # PyMC copies nodes as it writes a density
    if len(generators) > 1:
        raise UnsupportedError(
            f"{rv.name!r} depends on {len(generators)} calls of pm.Minibatch, which draw their "
            "rows independently: no row would belong to its own covariates. Make them in one "
            "call: x_rows, y_rows = pm.Minibatch(x, y, batch_size=...)."
        )
    axes = [axis for axis, size in enumerate(sizes) if not NoneConst.equals(size)]
    batch = _batch(nodes[0])
    if not axes:
        _check_is_apart(model, rv)
    if len(axes) != 1 or axes[0] >= logp.ndim or logp.type.shape[axes[0]] not in (batch, None):
        raise UnsupportedError(
            f"{rv.name!r} must have one axis of rows, of the {batch} of a minibatch, with "
            f"total_size on it alone, but its log density has the shape {logp.type.shape} and "
            f"total_size is on the axes {axes}. Let each row of the data be a row of the observed "
            "variable: total_size=(len(data), ...)."
        )
    others = tuple(axis for axis in range(logp.ndim) if axis != axes[0])
    return generators.pop(), logp.sum(axis=others) if others else logp


def _is_scaled(rv: Any) -> bool:
    return rv.owner is not None and isinstance(rv.owner.op, MinibatchRandomVariable)
