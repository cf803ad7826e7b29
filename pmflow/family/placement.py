"""Where the output of a flow's layers lies in the unconstrained space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from pymc.pytensorf import floatX
from pytensor.tensor.variable import TensorVariable

from pmflow.family.sparse_frame import SparseFrame
from pmflow.flows.bases import standard_normal_logp
from pmflow.flows.kernels.sparse_triangle import sparse_triangle
from pmflow.frames import Frame

__all__ = ["Placement", "shared_value"]

type Floats = NDArray[np.float64]

_SMALL = 16
"""Dimensions up to which a product is written as a sum: no BLAS, which is slow to compile."""


class Placement:
    """A constant offset, or a frame, in graphs.

    Their numbers are shared variables: a fit from another seed or start finds the same compiled
    code.

    Parameters
    ----------
    offset : ndarray, shape (dim,)
        Where there is no frame.
    frame : Frame or None
    origin : ndarray, shape (dim,), optional
        Where the layers themselves put the start, by default 0.

    Attributes
    ----------
    shared : list of shared variable
        All numbers that may change.
    names : tuple of str
        A name for each of them.
    log_det : TensorVariable, shape ()
    """

    def __init__(self, offset: Floats, frame: Frame | None, origin: Floats | None = None) -> None:
        self._kind = _kind_of(frame)
        numbers = self._numbers(offset, frame, origin)
        self.names = tuple(numbers)
        self.shared = [shared_value(value, name) for name, value in numbers.items()]
        self._loc, self._origin, self.log_det, *rest = self.shared
        self._matrix = self._kind(frame, rest)

    def _numbers(
        self, offset: Floats, frame: Frame | None, origin: Floats | None
    ) -> dict[str, Any]:
        return {
            "frame_loc": offset if frame is None else frame.loc,
            "origin": np.zeros_like(offset) if origin is None else origin,
            "frame_log_det": 0.0 if frame is None else frame.log_det,
            **self._kind.numbers(frame),
        }

    def place(self, offset: Floats, frame: Frame | None, origin: Floats | None = None) -> None:
        """Put the flow elsewhere, in the graphs that exist."""
        for variable, value in zip(self.shared, self.values(offset, frame, origin), strict=True):
            variable.set_value(value)

    def values(
        self, offset: Floats, frame: Frame | None, origin: Floats | None = None
    ) -> list[NDArray[np.floating]]:
        """What `shared` holds where the flow is elsewhere."""
        return [floatX(np.asarray(v)) for v in self._numbers(offset, frame, origin).values()]

    def forward(self, y: TensorVariable) -> TensorVariable:
        """Map the output of the layers to the latent vector, both of shape (*batch, dim)."""
        return self._loc + self._matrix.forward(y)

    def inverse(self, z: TensorVariable) -> TensorVariable:
        """Map the latent vector to the output of the layers, both of shape (*batch, dim)."""
        return self._matrix.backward(z - self._loc)

    def start_logp(self, y: TensorVariable) -> TensorVariable:
        """Log density of the start's normal distribution where the layers gave `y`, (*batch,)."""
        return standard_normal_logp(y - self._origin) - self.log_det


class _Nothing:
    """No frame."""

    def __init__(self, frame: Any, numbers: Sequence[TensorVariable]) -> None:
        pass

    @staticmethod
    def numbers(frame: Any) -> dict[str, Any]:
        """What the map is made of."""
        return {}

    def forward(self, y: TensorVariable) -> TensorVariable:
        return y

    def backward(self, d: TensorVariable) -> TensorVariable:
        return d


class _Matrix(_Nothing):
    """A frame's matrix, or its diagonal."""

    def __init__(self, frame: Any, numbers: Sequence[TensorVariable]) -> None:
        self._factor, self._inverse = numbers

    @staticmethod
    def numbers(frame: Any) -> dict[str, Any]:
        inverse = 1 / frame.factor if frame.is_diagonal else _inverse(frame.factor)
        return {"frame_factor": frame.factor, "frame_inverse": inverse}

    def forward(self, y: TensorVariable) -> TensorVariable:
        return _product(y, self._factor)

    def backward(self, d: TensorVariable) -> TensorVariable:
        return _product(d, self._inverse)


class _Root(_Nothing):
    """The root of a sparse precision, of which only the numbers may change, not the pattern."""

    def __init__(self, frame: Any, numbers: Sequence[TensorVariable]) -> None:
        self._entries, self._sds = numbers
        self._at = frame.precision.triangle.coordinates

    @staticmethod
    def numbers(frame: Any) -> dict[str, Any]:
        return {"frame_entries": frame.precision.entries, "frame_factor": frame.factor}

    def forward(self, y: TensorVariable) -> TensorVariable:
        y = y * self._sds
        return sparse_triangle(self._entries, y, *self._at, solves=True, transposed=True)

    def backward(self, d: TensorVariable) -> TensorVariable:
        d = sparse_triangle(self._entries, d, *self._at, solves=False, transposed=True)
        return d / self._sds


def _kind_of(frame: Frame | None) -> type[_Nothing]:
    if frame is None:
        return _Nothing
    return _Root if isinstance(frame, SparseFrame) else _Matrix


def shared_value(value: float | NDArray[np.float64], name: str | None = None) -> Any:
    """A shared variable of static shape and PyTensor's precision."""
    return pytensor.shared(floatX(np.asarray(value)), name, shape=np.shape(value))


def _inverse(factor: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.linalg import solve_triangular

    return solve_triangular(factor, np.eye(len(factor)), lower=True)


def _product(y: TensorVariable, factor: TensorVariable) -> TensorVariable:
    if factor.ndim == 1:
        return y * factor
    if factor.type.shape[0] <= _SMALL:
        return (y[..., None, :] * factor).sum(-1)
    return pt.dot(y, factor.T)
