"""The Student t base."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, override

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.base import Params, Shape
from pmflow.flows.bases.base import AbstractBase

__all__ = ["StudentT"]


@dataclass(frozen=True)
class StudentT(AbstractBase):
    r"""Student's t in each coordinate, with degrees of freedom that are trained or given.

    From two normal numbers (Bailey, 1994, https://doi.org/10.1090/S0025-5718-1994-1219703-3, in
    the form of Box and Muller):

    .. math:: t = n_1 \sqrt{\frac{e^x - 1}{x}}, \qquad x = \frac{n_1^2 + n_2^2}{\nu}

    exactly t with any real :math:`\nu > 0`, and differentiable in it. ``df=1`` is Cauchy.

    Parameters
    ----------
    df : float
        Degrees of freedom, or where they start.
    trained : bool
        Whether each coordinate has degrees of freedom of its own, trained with the flow:
        parameter ``df``, shape ``(dim,)``, :math:`\nu = \mathrm{softplus}`.
    """

    word: ClassVar[str] = "student_t"

    df: float = 5.0
    trained: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.df < math.inf:
            raise ValueError(f"df must be positive and finite, got {self.df}.")

    @override
    def noise_length(self, dim: int) -> int:
        return 2 * dim

    @override
    def param_shapes(self, dim: int) -> dict[str, Shape]:
        return {"df": (dim,)} if self.trained else {}

    @override
    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        if not self.trained:
            return {}
        start = self.df + math.log(-math.expm1(-self.df))  # the inverse of softplus
        return {"df": start + jitter * rng.standard_normal(dim)}

    @override
    def draw(self, noise: TensorVariable, params: Params, dim: int) -> TensorVariable:
        one, two = noise[..., :dim], noise[..., dim:]
        tiny = np.finfo(noise.dtype).tiny  # for noise of zeros
        x = (one**2 + two**2) / self._df(params) + tiny
        return one * pt.sqrt(pt.expm1(x) / x)

    @override
    def log_prob(self, z: TensorVariable, params: Params) -> TensorVariable:
        df = self._df(params)
        log_norm = pt.gammaln((df + 1) / 2) - pt.gammaln(df / 2) - 0.5 * pt.log(df * math.pi)
        return (log_norm - (df + 1) / 2 * pt.log1p(z**2 / df)).sum(-1)

    def _df(self, params: Params) -> TensorVariable:
        if self.trained:
            return pt.softplus(params["df"])
        return pt.constant(self.df, dtype="floatX")
