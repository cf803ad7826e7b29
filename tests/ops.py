"""An Op that no rewrite knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Apply, Constant
from pytensor.graph.op import Op
from pytensor.link.c.type import generic

__all__ = ["SumOfPowers"]


class SumOfPowers(Op):
    """An Op that can't be batched: one of its inputs is no tensor."""

    __props__ = ()

    def make_node(self, x: Any, power: Any) -> Any:
        if not isinstance(power, pytensor.graph.basic.Variable):
            power = Constant(generic, power)
        return Apply(self, [pt.as_tensor(x), power], [pt.dscalar()])

    def perform(self, node: Any, inputs: Any, outputs: Any) -> None:
        x, power = inputs
        outputs[0][0] = np.asarray((x**power).sum())

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> Any:
        x, power = inputs
        gradient = cotangents[0] * power.data * x ** (power.data - 1)
        return [gradient, pytensor.gradient.disconnected_type()]

    def connection_pattern(self, node: Any) -> list[list[bool]]:
        return [[True], [False]]
