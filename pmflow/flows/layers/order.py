"""What layers that reorder the coordinates share, and the order that a seed stands for."""

from __future__ import annotations

from typing import Any, ClassVar, override

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

from pmflow.flows.base import AbstractLayer, Shape

__all__ = ["AbstractReordering", "SeededOrder", "check_order_seed", "seeded_order"]


def check_order_seed(seed: int) -> None:
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
        """The shape of the output: the length that is the input."""
        return [(node.inputs[0],)]

    def perform(self, node: Apply, inputs: list[Any], output_storage: list[Any]) -> None:
        """Draw it with NumPy."""
        output_storage[0][0] = seeded_order(int(inputs[0]), self.seed)


class AbstractReordering(AbstractLayer):
    """A layer with nothing to train, which keeps volumes."""

    is_affine: ClassVar[bool] = True

    @override
    def param_shapes(self, dim: int) -> dict[str, Shape]:
        return {}

    @override
    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        return {}
