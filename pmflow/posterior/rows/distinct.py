"""Rows that say the same, counted once: a density of all data at the price of the distinct rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.replace import clone_replace
from pytensor.tensor.variable import TensorVariable

from pmflow.graphs.evaluate import GLOBAL_STATE, compile_once
from pmflow.graphs.settled import held, value_of
from pmflow.posterior.rows.whole import LongRows, long_rows

__all__ = ["are_the_same", "distinct_rows", "logp_of_distinct_rows"]

_LEAST = 2_000
"""Rows from which on it is looked whether some are the same."""
_SHARE = 0.5
"""Of all rows, how many may be distinct for it to be worth it."""
_SAMPLE, _PART, _RUNS, _SOME = 4_096, 16, 8, 0.02
"""Rows that are looked at first, or one in so many, in so many runs; and what share of them must be
seen before."""
_POINTS, _SPREAD, _ROUNDING = 3, 0.3, 1e-9
"""Where two densities are held against each other, and by what share they may differ there."""

type Data = list[tuple[SharedVariable, Any]]


def logp_of_distinct_rows(model: pm.Model) -> tuple[TensorVariable, Data] | None:
    """The log density of a model with rows that are the same counted once, each by its number.

    Surveys, counts and experiments with a few arms have many rows and few distinct ones. That they
    add up is a guess, see `LongRows`.

    Parameters
    ----------
    model : pymc.Model
        Without `pymc.Minibatch`.

    Returns
    -------
    tuple of TensorVariable and list, or None
        A graph of the model's value variables, and the data that it was made of, with their values.
        None where few rows are the same.
    """
    found = [
        (rows, known)
        for rows in long_rows(model, _LEAST)
        if (known := distinct_rows([value_of(x) for x in rows.data])) is not None
    ]
    if not found:
        return None
    with GLOBAL_STATE:
        parts = [_counted(rows, *known) for rows, known in found]
        if any(part is None for part in parts):
            return None
        counted = [rv for rows, _ in found for rv in rows.variables]
        others = [v for v in (*model.free_RVs, *model.observed_RVs) if v not in counted]
        logp = model.logp(vars=[*others, *model.potentials])
    for part in parts:
        logp = logp + part
    data = [x for rows, _ in found for x in rows.data if isinstance(x, SharedVariable)]
    return logp, [(x, x.get_value(borrow=True)) for x in data]


def distinct_rows(
    columns: Sequence[NDArray[Any]],
) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    """Places of the first of equal rows, and how many there are of each.

    Parameters
    ----------
    columns : sequence of ndarray, each of shape (n, ...)

    Returns
    -------
    tuple of ndarray of int and ndarray, both of shape (distinct,), or None
        None where few rows are the same.
    """
    number = len(columns[0])
    some = _runs(number)
    first = _hashes([x[some] for x in columns])
    if len(np.unique(first)) > (1 - _SOME) * len(first):
        return None
    _, places, which, counts = np.unique(
        _hashes(columns), return_index=True, return_inverse=True, return_counts=True
    )
    if len(places) > _SHARE * number:
        return None
    for column in columns:  # of two rows the hash may be one by chance
        if not np.array_equal(column[places[which]], column, equal_nan=column.dtype.kind == "f"):
            return None
    return places, counts.astype(float)


def are_the_same(z: TensorVariable, one: TensorVariable, other: TensorVariable) -> bool:
    """Whether two log densities agree at a few points, at one of which they are finite.

    They do not where one can't be evaluated.

    Parameters
    ----------
    z : TensorVariable, shape (dim,)
    one, other : TensorVariable, shape ()
        Graphs of it.
    """
    run = compile_once([z], [one, other], rewrites="values", random_seed=False)
    rng = np.random.default_rng(0)
    found = np.empty((_POINTS, 2))
    try:
        with np.errstate(all="ignore"):
            for pair in found:
                pair[:] = run((_SPREAD * rng.normal(size=z.type.shape)).astype(z.dtype))
    except Exception:  # whatever an Op says of lengths that do not fit: the guess was wrong
        return False
    known = np.isfinite(found).all(1)
    rounding = max(_ROUNDING, 100 * float(np.finfo(z.dtype).eps))
    same = np.allclose(found[known, 0], found[known, 1], rtol=rounding, atol=0)
    return bool(known.any() and same and (np.isfinite(found[:, 0]) == known).all())


def _runs(number: int) -> NDArray[np.int64]:
    """Places of some of so many rows: whole runs of them, as equal rows may stand together."""
    length = -(-max(_SAMPLE, number // _PART) // _RUNS)
    begins = np.linspace(0, max(number - length, 0), _RUNS).astype(int)
    return np.unique((begins[:, None] + np.arange(min(length, number))).ravel())


def _hashes(columns: Sequence[NDArray[Any]]) -> NDArray[np.uint64]:
    """A number for each row, the same for equal ones."""
    flat = [x.reshape(len(x), -1) for x in columns]
    table = pd.concat([pd.DataFrame(x) for x in flat], axis=1, ignore_index=True)
    return pd.util.hash_pandas_object(table, index=False).to_numpy()


def _counted(
    rows: LongRows, places: NDArray[np.int64], counts: NDArray[np.float64]
) -> TensorVariable | None:
    """What distinct rows add, each as often as it is there."""
    written = rows.written_for(len(places))
    if written is None:
        return None
    terms, given = written
    fewer = {x: held(x, value_of(data)[places].astype(x.dtype)) for data, x in given.items()}
    (terms,) = clone_replace([terms], fewer, rebuild_strict=False)
    number = held(pt.vector(dtype=terms.dtype), counts.astype(terms.dtype))
    return (number * terms).sum()
