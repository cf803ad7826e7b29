"""Layers that reorder the coordinates: at random, and back to front."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.base import AbstractLayer, Params, Shape

__all__ = ["Permutation", "Reverse", "check_seed", "seeded_order"]


def check_seed(seed: int) -> None:
    """Raise ValueError for a seed that NumPy does not take."""
    if seed < 0:
        raise ValueError(f"seed must be >= 0, got {seed}.")


def seeded_order(dim: int, seed: int) -> NDArray[np.int64]:
    """The permutation of `dim` coordinates that belongs to a seed."""
    return np.random.default_rng(seed).permutation(dim)


class SeededOrder(Op):
    """`seeded_order` in a graph, for points whose length is known only when it is run."""

    __props__ = ("seed",)

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def make_node(self, dim: Any) -> Apply:
        """Input: the length, an integer scalar; output: a vector of integers."""
        return Apply(self, [pt.as_tensor(dim)], [pt.lvector()])

    def infer_shape(self, node: Apply, shapes: list[Any]) -> list[Any]:
        """As long as the input says."""
        return [(node.inputs[0],)]

    def perform(self, node: Apply, inputs: list[Any], output_storage: list[Any]) -> None:
        """Draw it with NumPy."""
        output_storage[0][0] = seeded_order(int(inputs[0]), self.seed)


class _WithoutParameters(AbstractLayer):
    """A layer with nothing to train, which keeps volumes."""

    is_affine: ClassVar[bool] = True

    def param_shapes(self, dim: int) -> dict[str, Shape]:
        return {}

    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        return {}


@dataclass(frozen=True)
class Permutation(_WithoutParameters):
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
        check_seed(self.seed)

    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:  # noqa: D102
        return z[..., self._order(z)], pt.zeros_like(z[..., 0])

    def forward_with_score(  # noqa: D102
        self, z: TensorVariable, params: Params, score: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        return *self.forward(z, params), score[..., self._order(z)]

    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:  # noqa: D102
        order = self._order(z)
        back = np.argsort(order) if isinstance(order, np.ndarray) else pt.argsort(order)
        return z[..., back]

    def _order(self, z: TensorVariable) -> NDArray[np.int64] | TensorVariable:
        if z.type.shape[-1] is None:
            return SeededOrder(self.seed)(z.shape[-1])
        return seeded_order(z.type.shape[-1], self.seed)


@dataclass(frozen=True)
class Reverse(_WithoutParameters):
    r"""The coordinates back to front, :math:`\log|\det J| = 0`.

    Between two autoregressive layers it lets each coordinate depend on all others. It has no
    parameters, is its own inverse, and leaves the base :math:`N(0, I)` as it is.
    """

    word: ClassVar[str] = "reverse"

    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:  # noqa: D102
        return z[..., ::-1], pt.zeros_like(z[..., 0])

    def forward_with_score(  # noqa: D102
        self, z: TensorVariable, params: Params, score: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        return *self.forward(z, params), score[..., ::-1]

    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:  # noqa: D102
        return z[..., ::-1]
