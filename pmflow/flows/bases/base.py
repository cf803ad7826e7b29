"""What a base distribution must define."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.base import Params, Shape

__all__ = ["AbstractBase", "standard_normal_logp"]


def standard_normal_logp(z: TensorVariable) -> TensorVariable:
    """Log density of N(0, I) at points of shape ``(*batch, dim)``: shape ``(*batch,)``."""
    return -0.5 * (z**2 + math.log(2 * math.pi)).sum(-1)


class AbstractBase(ABC):
    """A distribution that is drawn from by way of standard normal numbers.

    A base is a frozen dataclass: its fields are its options, it holds no parameters.
    """

    word: ClassVar[str]

    def noise_length(self, dim: int) -> int:
        """How many standard normal numbers a draw of length `dim` is made of."""
        return dim

    @abstractmethod
    def param_shapes(self, dim: int) -> dict[str, Shape]:
        """Name and shape of every (unconstrained) parameter."""

    @abstractmethod
    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        """Start values, `jitter` being their spread."""

    @abstractmethod
    def draw(self, noise: TensorVariable, params: Params, dim: int) -> TensorVariable:
        """Turn normal numbers, shape (*batch, noise_length), into draws, shape (*batch, dim)."""

    @abstractmethod
    def log_prob(self, z: TensorVariable, params: Params) -> TensorVariable:
        """Log density at points of shape ``(*batch, dim)``: shape ``(*batch,)``."""

    def log_choice(self, noise: TensorVariable, params: Params) -> TensorVariable | None:
        """Log probability of what a draw chose among finitely many, shape (*batch,).

        None where nothing is chosen. A choice carries no gradient of the draw; this one's gradient
        is that of the probabilities (see `mean_with_choices`).
        """
        return None
