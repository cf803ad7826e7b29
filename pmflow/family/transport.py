"""Maps from standard normal numbers to near a posterior, one point at a time, as graphs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import override

import numpy as np
import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

from pmflow.embedded.interpolated import Interpolated, smooth_features
from pmflow.family.flow_group import NormalizingFlowGroup
from pmflow.family.placement import Placement, shared_value
from pmflow.flows.bases import Normal
from pmflow.flows.kernels.sparse_triangle import sparse_triangle
from pmflow.frames import Frame

__all__ = ["FlowTransport", "FollowingTransport", "FrameTransport", "Transport"]

type Mapped = tuple[TensorVariable, TensorVariable]


class Transport(ABC):
    """A differentiable map onto the latent space under which a posterior is nearly N(0, I).

    Attributes
    ----------
    name : str
        In words, for the user.
    dim : int
    """

    name: str
    dim: int

    @abstractmethod
    def forward(self, u: TensorVariable) -> Mapped:
        """The latent vector at a point, and log of the map's absolute determinant there.

        Parameters
        ----------
        u : TensorVariable, shape (dim,)

        Returns
        -------
        z : TensorVariable, shape (dim,)
        log_det : TensorVariable, shape ()
        """


class FlowTransport(Transport):
    """The map of a trained flow, from what its base is made of."""

    def __init__(self, group: NormalizingFlowGroup) -> None:
        self._group = group
        self.name, self.dim = str(group.formula), group.ddim

    @staticmethod
    def is_known(group: NormalizingFlowGroup) -> bool:
        """Whether the base is a normal distribution: others are made of more or other numbers."""
        return group.base == Normal()

    @override
    def forward(self, u: TensorVariable) -> Mapped:
        z, log_det = self._group.placed(u[None])
        return z[0], log_det[0]


class FrameTransport(Transport):
    """The affine map of a frame."""

    def __init__(self, frame: Frame, name: str) -> None:
        self._placement = Placement(np.zeros(frame.dim), frame)
        self.name, self.dim = name, frame.dim

    @override
    def forward(self, u: TensorVariable) -> Mapped:
        return self._placement.forward(u[None])[0], self._placement.log_det


class FollowingTransport(Transport):
    r"""Global variables in units of their covariance, and local ones in those that they then have.

    For :math:`u = (\epsilon, e)` the global variables are :math:`\mu + C \epsilon` and the local
    ones :math:`m(\epsilon) + A^\top L(\epsilon)^{-\top} D(\epsilon)^{-1/2} A e`, see the class
    `Interpolated`. Where scales are global this undoes the funnel, however a model is written.

    Parameters
    ----------
    found : Interpolated
    name : str
    """

    def __init__(self, found: Interpolated, name: str) -> None:
        self._found, self.name = found, name
        self.dim = len(found.outer) + len(found.inner)
        # whoever compiles it decides which of these become constants
        self._mean, self._root, self._mode, self._log_diagonal, self._entries = map(
            shared_value, (found.mean, found.root, found.mode, found.log_diagonal, found.entries)
        )

    @override
    def forward(self, u: TensorVariable) -> Mapped:
        found, size = self._found, len(self._found.outer)
        outer, inner = u[:size], u[size:]
        x = smooth_features(pt.specify_shape(outer, (size,)), size, pt)
        log_scales = -pt.dot(x, self._log_diagonal) / 2
        entries, mode = pt.dot(x, self._entries), pt.dot(x, self._mode)
        scaled = (inner * pt.exp(log_scales))[None]
        places = found.triangle.coordinates
        turned = sparse_triangle(entries, scaled, *places, solves=True, transposed=True)[0]
        globals_ = self._mean + pt.dot(self._root, outer)
        order = np.argsort(np.concatenate([found.outer, found.inner]))
        z = pt.concatenate([globals_, mode + turned])[order]
        return z, log_scales.sum() + pt.log(pt.diag(self._root)).sum()
