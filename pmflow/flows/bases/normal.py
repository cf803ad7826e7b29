"""The standard normal base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, override

import numpy as np
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.base import Params, Shape
from pmflow.flows.bases.base import AbstractBase, standard_normal_logp

__all__ = ["Normal"]


@dataclass(frozen=True)
class Normal(AbstractBase):
    """The standard normal distribution, without parameters."""

    word: ClassVar[str] = "normal"

    @override
    def param_shapes(self, dim: int) -> dict[str, Shape]:
        return {}

    @override
    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        return {}

    @override
    def draw(self, noise: TensorVariable, params: Params, dim: int) -> TensorVariable:
        return noise

    @override
    def log_prob(self, z: TensorVariable, params: Params) -> TensorVariable:
        return standard_normal_logp(z)
