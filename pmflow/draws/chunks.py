"""Evaluating the draws of a step in chunks, so that memory does not grow with their number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pymc.pytensorf import collect_default_updates
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable
from pytensor.graph.replace import clone_replace
from pytensor.graph.traversal import graph_inputs
from pytensor.tensor.random.type import RandomType
from pytensor.tensor.type import TensorType
from pytensor.tensor.variable import TensorVariable

from pmflow.checks import checked_count
from pmflow.errors import ParameterError
from pmflow.graphs.evaluate import with_static_shape
from pmflow.graphs.minibatches import minibatch_nodes

__all__ = ["checked_chunk_draws", "mean_over_chunks"]

_TRIED = 10**5
"""How far divisors are sought for a suggestion."""


def checked_chunk_draws(chunk_draws: Any, obj_n_mc: int, approx: Any) -> int | None:
    """How many draws of a step are evaluated at once, None where it is all of them.

    Raises
    ------
    ParameterError
        If `chunk_draws` is no count, or does not divide `obj_n_mc`; or if it is 1 and a base
        chooses components with trained weights, whose gradient compares draws.
    """
    chunk = obj_n_mc if chunk_draws is None else checked_count("chunk_draws", chunk_draws, 1)
    if chunk >= obj_n_mc:
        return None
    if obj_n_mc % chunk:
        small = [n for n in range(1, min(math.isqrt(obj_n_mc), _TRIED) + 1) if obj_n_mc % n == 0]
        divisors = [*small, *(obj_n_mc // n for n in small)]
        below, above = max(n for n in divisors if n < chunk), min(n for n in divisors if n > chunk)
        raise ParameterError(
            f"chunk_draws must divide obj_n_mc={obj_n_mc}, so that all chunks are alike, but is "
            f"{chunk}. Give chunk_draws={below} or {above}, or "
            f"obj_n_mc={-(-obj_n_mc // chunk) * chunk}."
        )
    if chunk == 1 and any(getattr(g, "log_choice", None) is not None for g in approx.groups):
        raise ParameterError(
            "chunk_draws=1 is not for a mixture whose weights are trained: their gradient compares "
            "the draws of a chunk. Give 2 at least, or base='mixture[trained=false]'."
        )
    return chunk


def mean_over_chunks(
    graphs: Sequence[TensorVariable],
    chunks: int,
    *,
    once: Sequence[TensorVariable] = (),
    sliced: dict[TensorVariable, TensorVariable] | None = None,
    prepare: Callable[[list[Variable]], tuple[list[Variable], dict[Variable, SharedVariable]]],
) -> list[TensorVariable]:
    """Average graphs over chunks of draws, one chunk in memory at a time.

    It is a scan that adds the chunks up. Random generators go on from chunk to chunk, so that where
    normal numbers come one after the other, as NumPy's do, the chunks together have the draws that
    one large array would have had. Rows of `pm.Minibatch` are drawn once for all chunks.

    Parameters
    ----------
    graphs : sequence of TensorVariable
        What to average, as it is for one chunk.
    chunks : int
    once : sequence of TensorVariable
        Random numbers that all chunks share.
    sliced : dict of TensorVariable to TensorVariable, optional
        Inputs of which each chunk gets one row: the variable in `graphs`, and all rows, shape
        ``(chunks, ...)``.
    prepare : callable
        Rewrites the graphs of a chunk, and returns them with the constants that are to be passed
        on as shared variables: compilers and rewrites of a step do not look into a scan.

    Returns
    -------
    list of TensorVariable
        In the shapes of `graphs`.
    """
    sliced = sliced or {}
    kept = [*once, *_minibatches(graphs)]
    holders = {v: v.type() for v in [*kept, *sliced]}
    next_states = collect_default_updates(list(graphs))
    inner = clone_replace(list(graphs), holders)
    rngs = [v for v in graph_inputs(inner) if isinstance(v.type, RandomType)]
    states = clone_replace([next_states[rng] for rng in rngs], holders)
    outputs, large = prepare([*inner, *states])
    shared = [
        v for v in graph_inputs(outputs) if isinstance(v, SharedVariable) and v not in set(rngs)
    ]
    passed = [*shared, *large.values(), *kept]
    inputs = [*(holders[v] for v in sliced), *rngs, *shared, *large, *(holders[v] for v in kept)]

    def body(*given: Variable) -> list[Variable]:
        rows, rest = given[: len(sliced)], given[len(sliced) :]
        generators, rest = rest[: len(rngs)], rest[len(rngs) :]
        sums, constants = rest[: len(inner)], rest[len(inner) :]
        replacements = dict(zip(inputs, [*rows, *generators, *constants], strict=True))
        new = clone_replace(outputs, replacements, rebuild_strict=False)
        added = [total + x for total, x in zip(sums, new, strict=False)]
        return [*new[len(inner) :], *added]

    # scan would look through what it is given, and find generators behind it
    outside = {v.type(): v for v in map(with_static_shape, passed)}
    zeros = [pt.zeros(_static_shape(x), dtype=x.dtype) for x in outputs[: len(inner)]]
    results = pytensor.scan(
        body,
        sequences=list(sliced.values()),
        outputs_info=[*rngs, *zeros],
        non_sequences=list(outside),
        n_steps=chunks,
        return_updates=False,
    )
    means = [r[-1] / np.asarray(chunks, r.dtype) for r in results[len(rngs) :]]
    return clone_replace(means, outside)


def _minibatches(graphs: Sequence[Variable]) -> list[Variable]:
    """Rows that `pm.Minibatch` draws."""
    drawn = [v for node in minibatch_nodes(graphs) for v in node.outputs]
    return [v for v in drawn if isinstance(v.type, TensorType)]


def _static_shape(x: Any) -> tuple[int, ...]:
    assert None not in x.type.shape
    return tuple(x.type.shape)
