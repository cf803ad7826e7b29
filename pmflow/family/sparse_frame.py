"""A frame by a precision with the zeros of the model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, override

import numpy as np
import pytensor
from numpy.typing import NDArray

from pmflow.embedded.factor import SparseFactor
from pmflow.embedded.gaussian import NoGaussianError, gaussian_of
from pmflow.embedded.structure import NoStructureError, read_structure
from pmflow.errors import ParameterError
from pmflow.frames import FRAMES, AbstractScaling, FoundFrame, Frame, build_frame
from pmflow.posterior.density import LogDensity
from pmflow.watch import is_watched, watching

__all__ = ["FRAME_KINDS", "SparseFrame", "found_frame"]

FRAME_KINDS = (*FRAMES, "sparse")

_log = logging.getLogger("pmflow")

type Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SparseFrame(Frame):
    r"""A frame by the factor of a sparse precision P, with :math:`L L^\top = P^{-1}`.

    A coordinate of y belongs to the same coordinate of z. The `factor` is what is left of L
    without the other coordinates: the sds of each, given those that are eliminated after it.

    Parameters
    ----------
    loc, factor, kind, note
        As of `Frame`.
    precision : SparseFactor
        Of P; see `SparseFrame.of`.
    """

    precision: SparseFactor = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        size = self.precision.triangle.dim
        if not self.factor.shape == self.precision.diagonal.shape == (size,):
            raise ParameterError("A sparse frame needs a precision of as many dimensions.")

    @classmethod
    def of(cls, loc: Floats, precision: SparseFactor) -> SparseFrame:
        """The frame of a Gaussian with this mean and precision."""
        sds = np.empty(precision.size)
        sds[precision.order] = 1 / np.sqrt(precision.diagonal)
        return cls(loc, sds, "sparse", precision=precision)

    @property
    @override
    def is_diagonal(self) -> bool:
        return False

    @cached_property
    @override
    def _scaling(self) -> AbstractScaling:
        return SparseScaling(self.precision)

    @property
    @override
    def arrays(self) -> list[NDArray[Any]]:
        return [*super().arrays, self.precision.entries]


@dataclass(frozen=True, eq=False)
class SparseScaling(AbstractScaling):
    r""":math:`P^{-1/2}` of a sparse precision: a coordinate of y belongs to the same one of z."""

    factor: SparseFactor

    @property
    @override
    def sds(self) -> Floats:
        return np.sqrt(self.factor.variances)

    @property
    @override
    def log_det(self) -> float:
        return -self.factor.log_det / 2

    @override
    def forward(self, y: Floats) -> Floats:
        return self.factor.coloured(y[:, self.factor.order])

    @override
    def backward(self, d: Floats) -> Floats:
        return self._in_place(self.factor.scaled(d))

    @override
    def pulled(self, gradient: Floats) -> Floats:
        return self._in_place(self.factor.whitened(gradient))

    @override
    def times(self, inner: Floats) -> Floats:
        raise ParameterError(
            "A frame by a sparse precision can't be moved in its own units. Make a frame anew."
        )

    def _in_place(self, rows: Floats) -> Floats:
        found = np.empty_like(rows)
        found[:, self.factor.order] = rows
        return found


def found_frame(
    kind: str, density: LogDensity, start: Floats, seed: int, known: Sequence[FoundFrame] = ()
) -> FoundFrame | None:
    """A frame of one of `FRAME_KINDS`, see `build_frame`.

    A sparse one has mean and precision of the Gaussian of largest ELBO among those with the zeros
    of the model (see `fit_gaussian`); where there is none, the Gaussian that `build_frame` finds.
    """
    if kind != "sparse":
        return build_frame(kind, density, start, seed, known)
    is_known = is_watched()
    with watching(progressbar=False) as watch:
        try:
            frame = _searched(density, start, seed)
        except (NoStructureError, NoGaussianError) as error:
            note = f"No sparse frame, because {error}. A dense or diagonal one is used."
        else:
            if not is_known:
                watch.look()
            return FoundFrame(frame, frame)
    found = build_frame("gaussian", density, start, seed, known)
    if found is None or any(found is one for one in known):
        return found
    _log.info(note)
    return replace(found, frame=replace(found.frame, note=f"{note} {found.frame.note}".strip()))


def _searched(density: LogDensity, start: Floats, seed: int) -> SparseFrame:
    if pytensor.config.floatX != "float64":
        raise NoGaussianError("it needs double precision")
    found = gaussian_of(read_structure(density, start, seed), seed)
    if not isinstance(found.factor, SparseFactor):
        raise NoStructureError("nearly all of its variables meet")
    return SparseFrame.of(found.mean, found.factor)
