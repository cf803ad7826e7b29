"""The masked autoregressive layer: one pass of the network back, one per coordinate to draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, override

from pytensor.gradient import disconnected_grad
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.base import Params
from pmflow.flows.layers.autoregressive import AbstractScaledAutoregressive
from pmflow.flows.score import gradient

__all__ = ["MAF"]


@dataclass(frozen=True)
class MAF(AbstractScaledAutoregressive):
    r"""Masked autoregressive flow (Papamakarios et al., 2017, https://arxiv.org/abs/1705.07057).

    .. math::

        z'_i = e^{-s_i} (z_i / \sigma_i - t_i), \qquad
        \bigl(s_i, t_i\bigr) = \mathrm{MADE}_i(z'_1, \dots, z'_{i-1})

    The inverse of an `IAF` with the same parameters: a coordinate is conditioned on the
    coordinates of the posterior, not of the base. `dim` passes of the network make a draw, one
    scores a point: in variational inference, which trains on draws, an IAF is `dim` times cheaper.

    Parameters
    ----------
    hidden, depth, activation
        As for `IAF`, and so are the parameters of the flow.
    """

    word: ClassVar[str] = "maf"
    mixes: ClassVar[bool] = True

    @override
    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:
        z_new = self._against_z(z, params)
        return z_new, -self._along_z(z_new, params)[1]

    @override
    def forward_with_score(
        self, z: TensorVariable, params: Params, score: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        # its inverse takes one pass, and carries scores by its own Jacobian: nothing to solve
        z_new = self._against_z(z, params)
        z_back, log_det = self._along_z(z_new, params)
        total = (z_back * disconnected_grad(score)).sum() + log_det.sum()
        return z_new, -log_det, gradient(total, z_new)

    @override
    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:
        return self._along_z(z, params)[0]
