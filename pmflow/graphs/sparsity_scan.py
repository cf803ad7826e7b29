"""How a scan carries on what its inputs depend on: step by step.

What an inner output depends on among the inner inputs is found once for all steps that are alike,
by the rules of the Ops within; a step is then a product of sparse matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from pytensor.graph.basic import Apply
from scipy import sparse

from pmflow.graphs.sparsity_rows import AbstractWalk, Carried, UntoldError, is_discrete

__all__ = ["unrolls"]


@dataclass
class _Buffer:
    """The states of an output over time, some of which are there at the start.

    Attributes
    ----------
    states : list of Carried
        The last ones, in a circle, as the scan stores them.
    taken, given : tuple of int
        What a step takes and gives, counted from its own place.
    """

    states: list[Carried]
    taken: tuple[int, ...]
    given: tuple[int, ...]

    def __post_init__(self) -> None:
        self._start = -min(self.taken, default=0)

    def taken_at(self, step: int) -> list[Carried]:
        """The states that a step takes."""
        return [self.states[(self._start + step + t) % len(self.states)] for t in self.taken]

    def give(self, step: int, states: Sequence[Carried]) -> None:
        """Keep what a step gives."""
        for tap, state in zip(self.given, states, strict=True):
            self.states[(self._start + step + tap) % len(self.states)] = state

    def in_order(self, steps: int, *, is_kept_whole: bool) -> list[Carried]:
        """The states from the oldest to the newest."""
        end = self._start + steps
        if is_kept_whole or end <= len(self.states):
            return self.states
        cut = end % len(self.states)
        return self.states[cut:] + self.states[:cut]


@dataclass
class _Step:
    """What the outputs of a step depend on among its inputs.

    Attributes
    ----------
    outputs : list of Carried
        About the entries of the inputs that change from step to step.
    changing : Any
        The outputs' rows below one another.
    still : Any
        What they depend on in the latent vector through inputs that are the same at each step.
    """

    outputs: list[Carried]
    changing: Any
    still: Any


def unrolls(walk: AbstractWalk, node: Apply, inputs: Sequence[Carried]) -> list[Carried]:
    """Go through the steps of a scan."""
    op, info = node.op, node.op.info
    if info.as_while or not inputs[0].is_fixed:
        raise UntoldError("a number of steps that depends on the latent vector")
    steps = int(inputs[0].value)
    outer = list(inputs)
    sequences = [_slices(walk, x) for x in op.outer_seqs(outer)]
    buffers = _buffers(walk, node, outer, steps)
    singles = list(op.outer_untraced_sit_sot(outer))
    scan = _Scan(walk, node, op.outer_non_seqs(outer))
    for step in range(steps):
        taken = [s[step] for s in sequences]
        taken += [x for b in buffers for x in b.taken_at(step)]
        found = scan.step([*taken, *singles])
        for buffer in buffers:
            buffer.give(step, found[: len(buffer.given)])
            found = found[len(buffer.given) :]
        singles = found
    whole = [k < info.n_mit_mot for k in range(len(buffers))]
    ends = [b.in_order(steps, is_kept_whole=w) for b, w in zip(buffers, whole, strict=True)]
    return [*(_stacked(walk, end) for end in ends), *singles]


def _buffers(
    walk: AbstractWalk, node: Apply, outer: Sequence[Carried], steps: int
) -> list[_Buffer]:
    """The outputs in the order of the scan: they give one state a step, or several, in place."""
    op, info = node.op, node.op.info
    buffers = [
        _Buffer(_slices(walk, x), taps, gives)
        for x, taps, gives in zip(
            op.outer_mitmot(outer), info.mit_mot_in_slices, info.mit_mot_out_slices, strict=True
        )
    ]
    carried = [*op.outer_mitsot(outer), *op.outer_sitsot(outer)]
    taps = [*info.mit_sot_in_slices, *info.sit_sot_in_slices]
    buffers += [_Buffer(_slices(walk, x), t, (0,)) for x, t in zip(carried, taps, strict=True)]
    for length in op.outer_nitsot(outer):
        if not length.is_fixed or steps == 0:
            raise UntoldError("an output of unknown length")
        buffers.append(_Buffer([Carried(())] * int(length.value), (), (0,)))
    return buffers


def _slices(walk: AbstractWalk, x: Carried) -> list[Carried]:
    """A variable as one for each entry of its first axis.

    Numbers of data are not told apart, so that steps are alike; whole numbers may be indices.
    """
    shape = x.shape[1:]
    if x.is_fixed and np.asarray(x.value).dtype.kind not in "fc":
        return [Carried.fixed(np.asarray(part)) for part in x.value]
    if x.depends is None:
        return [Carried(shape)] * x.shape[0]
    size = prod(shape)
    rows = [x.depends[i * size : (i + 1) * size] for i in range(x.shape[0])]
    return [Carried(shape, part if part.nnz else None) for part in rows]


def _stacked(walk: AbstractWalk, states: Sequence[Carried]) -> Carried:
    """The opposite of `_slices`."""
    shape = (len(states), *(states[-1].shape if states else ()))
    if states and all(x.is_fixed for x in states):
        return Carried.fixed(np.stack([np.asarray(x.value) for x in states]))
    if all(x.depends is None for x in states):
        return Carried(shape)
    size = prod(shape[1:])
    nothing = sparse.csr_array((size, walk.dim), dtype=bool)
    rows = [nothing if x.depends is None else x.depends for x in states]
    walk.budget.spend(sum(x.nnz for x in rows))
    return Carried(shape, sparse.vstack(rows, format="csr"))


class _Scan:
    """The inner graph of a scan."""

    def __init__(self, walk: AbstractWalk, node: Apply, still: Sequence[Carried]) -> None:
        self._walk = walk
        self._graph = node.op.fgraph
        self._still = list(still)
        self._known: dict[Any, _Step] = {}

    def step(self, taken: Sequence[Carried]) -> list[Carried]:
        """What one step gives."""
        key = tuple(
            (x.shape, np.asarray(x.value).tobytes()) if x.is_fixed else x.shape for x in taken
        )
        if key not in self._known:
            self._known[key] = self._found(taken)
        step = self._known[key]
        walk, rows = self._walk, step.still
        live = [x for x in taken if not x.is_fixed]
        if step.changing is not None and any(x.depends is not None for x in live):
            blocks = [
                sparse.csr_array((x.size, walk.dim), dtype=bool) if x.depends is None else x.depends
                for x in live
            ]
            walk.budget.spend(sum(block.nnz for block in blocks))
            stack = sparse.vstack(blocks, format="csr")
            rows = walk.union([walk.combine(step.changing, stack), rows])
        return self._split(step.outputs, rows)

    @staticmethod
    def _split(outputs: Sequence[Carried], rows: Any) -> list[Carried]:
        """The rows of each output."""
        found, start = [], 0
        for out in outputs:
            if out.is_fixed:
                found.append(out)
                continue
            own = None if rows is None else rows[start : start + out.size]
            found.append(Carried(out.shape, own if own is not None and own.nnz else None))
            start += out.size
        return found

    def _found(self, taken: Sequence[Carried]) -> _Step:
        """What a step depends on, by the rules of its Ops."""
        inner = self._graph.inputs
        live = [not x.is_fixed for x in taken] + [x.depends is not None for x in self._still]
        every = [*taken, *self._still]
        sizes = [x.size if is_live else 0 for x, is_live in zip(every, live, strict=True)]
        dim = sum(sizes)
        one, start, given = sparse.eye_array(dim, dtype=bool, format="csr"), 0, []
        for variable, x, size in zip(inner, every, sizes, strict=True):
            rows = one[start : start + size] if size and not is_discrete(variable) else None
            given.append(Carried(x.shape, rows, x.value, x.is_fixed))
            start += size
        outputs = self._walk.about(dim).through(inner, self._graph.outputs, given)
        blocks = [
            sparse.csr_array((x.size, dim), dtype=bool) if x.depends is None else x.depends
            for x in outputs
            if not x.is_fixed
        ]
        if not blocks:
            return _Step(outputs, None, None)
        rows = sparse.vstack(blocks, format="csr")
        cut = sum(sizes[: len(taken)])
        return _Step(outputs, rows[:, :cut], self._through_still(rows[:, cut:]))

    def _through_still(self, rows: Any) -> Any:
        own = [x.depends for x in self._still if x.depends is not None]
        if not own or not rows.nnz:
            return None
        return self._walk.combine(rows, sparse.vstack(own, format="csr"))
