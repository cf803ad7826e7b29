"""Where the output of a flow's layers lies in the unconstrained space."""

from __future__ import annotations

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from pymc.pytensorf import floatX
from pytensor.tensor.variable import TensorVariable

from pmflow.frames.frame import Frame

__all__ = ["Placement"]

_SMALL = 16
"""Dimensions up to which a product is written as a sum: no BLAS, which is slow to compile."""


class Placement:
    """A constant offset, or a frame, in graphs.

    The numbers of a frame are shared variables: a fit from another seed finds the same compiled
    code.

    Parameters
    ----------
    offset : ndarray, shape (dim,)
        Where there is no frame.
    frame : Frame or None
    """

    def __init__(self, offset: NDArray[np.float64], frame: Frame | None) -> None:
        self.log_det: TensorVariable = pt.constant(0.0, dtype="floatX")
        self._loc = pt.constant(floatX(offset))
        self._factor: TensorVariable | None = None
        if frame is None:
            return
        self.log_det = _shared(frame.log_det, "frame_log_det")
        self._loc = _shared(frame.loc, "frame_loc")
        self._factor = _shared(frame.factor, "frame_factor")
        inverse = 1 / frame.factor if frame.is_diagonal else _inverse(frame.factor)
        self._inverse = _shared(inverse, "frame_inverse")

    def forward(self, y: TensorVariable) -> TensorVariable:
        """From the output of the layers to the latent vector, both of shape (*batch, dim)."""
        return self._loc + (y if self._factor is None else _product(y, self._factor))

    def inverse(self, z: TensorVariable) -> TensorVariable:
        """From the latent vector to the output of the layers, both of shape (*batch, dim)."""
        centred = z - self._loc
        return centred if self._factor is None else _product(centred, self._inverse)


def _shared(value: float | NDArray[np.float64], name: str) -> TensorVariable:
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
