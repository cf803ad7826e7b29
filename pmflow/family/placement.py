"""Where the output of a flow's layers lies in the unconstrained space."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from pymc.pytensorf import floatX
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.bases import standard_normal_logp
from pmflow.frames.frame import Frame

__all__ = ["Placement"]

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

    def __init__(
        self,
        offset: NDArray[np.float64],
        frame: Frame | None,
        origin: NDArray[np.float64] | None = None,
    ) -> None:
        self._has_frame = frame is not None
        origin = np.zeros_like(offset) if origin is None else origin
        numbers = self._numbers(offset, frame, origin)
        self.names = tuple(numbers)
        self.shared = [_shared(value, name) for name, value in numbers.items()]
        if frame is None:
            self._loc, self._origin = self.shared
            self.log_det = pt.constant(0.0, dtype="floatX")
        else:
            self._loc, self._origin, self._factor, self._inverse, self.log_det = self.shared

    def _numbers(
        self,
        offset: NDArray[np.float64],
        frame: Frame | None,
        origin: NDArray[np.float64] | None = None,
    ) -> dict[str, Any]:
        if frame is None:
            return {"offset": offset, "origin": origin}
        return {
            "frame_loc": frame.loc,
            "origin": origin,
            "frame_factor": frame.factor,
            "frame_inverse": 1 / frame.factor if frame.is_diagonal else _inverse(frame.factor),
            "frame_log_det": frame.log_det,
        }

    def place(
        self,
        offset: NDArray[np.float64],
        frame: Frame | None,
        origin: NDArray[np.float64] | None = None,
    ) -> None:
        """Put the flow elsewhere, in the graphs that exist."""
        for variable, value in zip(self.shared, self.values(offset, frame, origin), strict=True):
            variable.set_value(value)

    def values(
        self,
        offset: NDArray[np.float64],
        frame: Frame | None,
        origin: NDArray[np.float64] | None = None,
    ) -> list[NDArray[np.floating]]:
        """What `shared` holds where the flow is elsewhere."""
        return [floatX(np.asarray(v)) for v in self._numbers(offset, frame, origin).values()]

    def forward(self, y: TensorVariable) -> TensorVariable:
        """Map the output of the layers to the latent vector, both of shape (*batch, dim)."""
        return self._loc + (_product(y, self._factor) if self._has_frame else y)

    def inverse(self, z: TensorVariable) -> TensorVariable:
        """Map the latent vector to the output of the layers, both of shape (*batch, dim)."""
        centred = z - self._loc
        return _product(centred, self._inverse) if self._has_frame else centred

    def start_logp(self, y: TensorVariable) -> TensorVariable:
        """Log density of the start's normal distribution where the layers gave `y`, (*batch,)."""
        return standard_normal_logp(y - self._origin) - self.log_det


def _shared(value: float | NDArray[np.float64], name: str) -> Any:
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
