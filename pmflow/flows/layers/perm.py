"""The coordinates in a random order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, override

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.base import Params
from pmflow.flows.layers.order import (
    AbstractReordering,
    SeededOrder,
    check_order_seed,
    seeded_order,
)

__all__ = ["Permutation"]


@dataclass(frozen=True)
class Permutation(AbstractReordering):
    r"""A fixed random permutation of the coordinates, :math:`\log|\det J| = 0`.

    Between autoregressive layers or couplings, which treat coordinates by their order. It has no
    parameters, costs a copy of the draw, and leaves the base :math:`N(0, I)` as it is.

    Parameters
    ----------
    seed : int
        What the permutation is drawn from; layers with equal seeds make equal permutations.
    """

    word: ClassVar[str] = "perm"

    seed: int = 0

    def __post_init__(self) -> None:
        check_order_seed(self.seed)

    @override
    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:
        return z[..., self._order(z)], pt.zeros_like(z[..., 0])

    @override
    def forward_with_score(
        self, z: TensorVariable, params: Params, score: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        return *self.forward(z, params), score[..., self._order(z)]

    @override
    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:
        order = self._order(z)
        back = np.argsort(order) if isinstance(order, np.ndarray) else pt.argsort(order)
        return z[..., back]

    def _order(self, z: TensorVariable) -> NDArray[np.int64] | TensorVariable:
        if z.type.shape[-1] is None:
            return SeededOrder(self.seed)(z.shape[-1])
        return seeded_order(z.type.shape[-1], self.seed)
