"""Second derivatives of sums over rows, by as few gradients as which variables meet allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, eye_array, triu

from pmflow.embedded.colours import Colours
from pmflow.frames.frame import Frame
from pmflow.graphs.sparsity import hessian_pattern
from pmflow.posterior.density import StreamedDensity
from pmflow.posterior.rows.block import Block
from pmflow.posterior.rows.expansion import Entries, Expansion
from pmflow.watch import piece, stage, tick

__all__ = ["Expander"]

_STEP = 1e-3
"""Of central differences, in units of the posterior."""
_DENSE = 40
"""Dimensions up to which nobody asks which variables meet."""
_NUMBERS_AT_ONCE = 1_000_000
"""Of rows, of which it is read at a time which variables they make meet."""
_SPARSE = 0.25
"""Share of pairs that meet, above which all are taken to."""

type Floats = NDArray[np.float64]
type Slope = Callable[[Floats], tuple[Floats, Floats]]


@dataclass(frozen=True, eq=False)
class Expander:
    """Expands functions around a centre, in the sds of a frame.

    Attributes
    ----------
    entries : Entries or None
        Which second derivatives can be other than 0; None for all.
    colours : Colours or None
        Which of them one difference of gradients reads together.
    """

    entries: Entries | None = None
    colours: Colours | None = None

    @classmethod
    def for_rows(cls, density: StreamedDensity) -> Expander:
        """For the sum of all rows of a model: its pattern is read from the data, all of them."""
        if density.dim <= _DENSE:
            return cls()
        with stage("Reading the model"), piece("reading which variables meet"):
            pattern = _pattern(density)
        if pattern is None:
            return cls()
        upper = triu(pattern, format="coo")
        entries = Entries(upper.row.astype(np.int64), upper.col.astype(np.int64))
        return cls(entries, Colours.of_pattern(pattern, entries.rows, entries.columns))

    @property
    def is_sparse(self) -> bool:
        """Whether some second derivatives are known to be 0."""
        return self.entries is not None

    def at(self, slope: Slope, frame: Frame, *, with_curvature: bool = True) -> Expansion:
        """Expand a function around the centre of a frame.

        Parameters
        ----------
        slope : callable
            Points of shape (n, dim) to values (n,) and gradients (n, dim).
        frame : Frame
        with_curvature : bool
            Whether second derivatives are wanted, by central differences of the gradient.
        """
        sds, dim = frame.sds, frame.dim
        steps = self._steps(frame) if with_curvature else np.empty((0, dim))
        values, gradients = slope(frame.loc + np.concatenate([np.zeros((1, dim)), steps, -steps]))
        ahead, back = np.split(gradients[1:] * sds, 2)
        shape = (dim, dim) if self.entries is None else (len(self.entries.rows),)
        curvature = np.zeros(shape)
        if with_curvature:
            curvature = self._read((ahead - back) / (2 * _STEP), frame)
        return Expansion(float(values[0]), gradients[0] * sds, curvature)

    def _steps(self, frame: Frame) -> Floats:
        if self.colours is not None:
            return _STEP * self.colours.directions * frame.sds
        factor = np.diag(frame.factor) if frame.is_diagonal else frame.factor
        return _STEP * np.asarray(factor).T

    def _read(self, change: Floats, frame: Frame) -> Floats:
        """Second derivatives in sds, from how the gradient changes along each step."""
        if self.colours is not None:
            return change[self.colours.read_colour, self.colours.read_row]
        if not frame.is_diagonal:  # rows are along columns of the factor
            scaled = frame.factor / frame.sds[:, None]
            change = np.linalg.solve(scaled.T, change)
        return (change + change.T) / 2


def _pattern(density: StreamedDensity) -> csr_array | None:
    """Which coordinates any row makes meet, with the diagonal; None where most do."""
    dim = density.dim
    found = eye_array(dim, dtype=bool, format="csr")
    for one in density.sums:
        block = Block(one.table, min(_NUMBERS_AT_ONCE // one.table.width, len(one.table)))
        for columns in one.table.blocks(block.size):
            tick()
            block.hold(columns, np.ones(len(columns[0])))
            new = hessian_pattern(density.rest[0], block.total)
            if new is None or new.nnz > _SPARSE * dim**2:
                return None
            found = csr_array((found + new).astype(bool))
    return None if found.nnz > _SPARSE * dim**2 else found
