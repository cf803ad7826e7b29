"""The loc layer: a translation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, override

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.base import AbstractLayer, Params, Shape

__all__ = ["Loc"]


@dataclass(frozen=True)
class Loc(AbstractLayer):
    r"""Translation.

    .. math:: z' = z + \mathit{loc}, \qquad \log|\det J| = 0

    Parameters of the flow: ``loc``, shape ``(dim,)``, unconstrained, starts at 0. As the last
    layer it takes the model's start as its own start.

    Examples
    --------
    >>> from pmflow.flows import Loc
    >>> Loc().param_shapes(3)
    {'loc': (3,)}
    """

    word: ClassVar[str] = "loc"
    is_affine: ClassVar[bool] = True

    @override
    def param_shapes(self, dim: int) -> dict[str, Shape]:
        return {"loc": (dim,)}

    @override
    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        return {"loc": jitter * rng.standard_normal(dim)}

    @override
    def absorb_shift(
        self, params: dict[str, NDArray[np.float64]], shift: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float64]]:
        return {"loc": params["loc"] + shift}

    @override
    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:
        return z + params["loc"], pt.zeros_like(z[..., 0])

    @override
    def forward_with_score(
        self, z: TensorVariable, params: Params, score: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        return *self.forward(z, params), score

    @override
    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:
        return z - params["loc"]
