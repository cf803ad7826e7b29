"""The inverse autoregressive layer: one pass of the network to draw, one per coordinate back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, override

from pytensor.tensor.variable import TensorVariable

from pmflow.flows.base import Params
from pmflow.flows.layers.autoregressive import AbstractScaledAutoregressive

__all__ = ["IAF"]


@dataclass(frozen=True)
class IAF(AbstractScaledAutoregressive):
    r"""Inverse autoregressive flow (Kingma et al., 2016, https://arxiv.org/abs/1606.04934).

    .. math::

        z'_i = \sigma_i\,\bigl(e^{s_i} z_i + t_i\bigr), \qquad
        \bigl(s_i, t_i\bigr) = \mathrm{MADE}_i(z_1, \dots, z_{i-1}), \qquad
        \log|\det J| = \sum_i \bigl(\log\sigma_i + s_i\bigr)

    The gate :math:`e^{s}` is bounded, :math:`|s| \le 3` by a tanh, and the scale
    :math:`\sigma = \mathrm{softplus}(\rho)` of each coordinate is free. All coordinates are mapped
    by one pass of the network, `dim` passes are needed to map back: fast in training, slow in
    `log_prob` of points that are not the flow's own draws.

    Parameters
    ----------
    hidden, depth : int
        Units of a hidden layer of the network, and how many hidden layers there are.
    activation : str
        ``tanh``, ``relu``, ``elu``, ``gelu`` or ``sin``, the last for periodic targets.

    Notes
    -----
    Parameters of the flow, unconstrained: ``rho``, shape ``(dim,)``; those of the network: for
    each hidden layer ``w1`` ... and ``b1`` ..., then ``w_out``, shape ``(hidden, 2 * dim)``, and
    ``bias``, shape ``(2, dim)``. In one dimension only ``rho`` and ``bias``. They start at the
    identity with random hidden units.
    """

    word: ClassVar[str] = "iaf"
    mixes: ClassVar[bool] = True

    @override
    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:
        return self._along_z(z, params)

    @override
    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:
        return self._against_z(z, params)
