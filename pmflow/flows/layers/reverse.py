"""The coordinates back to front."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, override

import pytensor.tensor as pt
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.base import Params
from pmflow.flows.layers.order import AbstractReordering

__all__ = ["Reverse"]


@dataclass(frozen=True)
class Reverse(AbstractReordering):
    r"""The coordinates back to front, :math:`\log|\det J| = 0`.

    Between two autoregressive layers it lets each coordinate depend on all others. It has no
    parameters, is its own inverse, and leaves the base :math:`N(0, I)` as it is.
    """

    word: ClassVar[str] = "reverse"

    @override
    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:
        return z[..., ::-1], pt.zeros_like(z[..., 0])

    @override
    def forward_with_score(
        self, z: TensorVariable, params: Params, score: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        return *self.forward(z, params), score[..., ::-1]

    @override
    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:
        return z[..., ::-1]
