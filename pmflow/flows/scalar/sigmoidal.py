"""A mixture of sigmoids as a map of one coordinate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, override

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.constraints import SOFTPLUS_ONE
from pmflow.flows.roots import solve_increasing
from pmflow.flows.scalar.base import LEAST_SLOPE, Transformer

__all__ = ["Sigmoidal"]


@dataclass(frozen=True)
class Sigmoidal(Transformer):
    r"""Deep sigmoidal flow of one layer (Huang et al., 2018, https://arxiv.org/abs/1804.00779).

    .. math:: z' = \mathrm{logit} \sum_{k=1}^K w_k\,\mathrm{sigmoid}(a_k z + b_k), \qquad
              w = \mathrm{softmax}(c), \quad
              a = \epsilon + (1 - \epsilon)\,\mathrm{softplus}(\rho)

    (section 3.1.1, eq. 8), with :math:`\epsilon = 10^{-3}` below every slope. With :math:`S` the
    sum, both :math:`\log S` and :math:`\log(1 - S)` are
    sums of exponentials of known logs, so that no sigmoid is rounded to 0 or 1 and nothing is
    clipped:

    .. math:: \log \frac{dz'}{dz} = \log \sum_k w_k a_k\,\mathrm{sigmoid}(x_k)\,
              \mathrm{sigmoid}(-x_k) - \log S - \log(1 - S), \qquad x_k = a_k z + b_k

    Far out the slope is that of the flattest sigmoid. :math:`z'` lies between the smallest and the
    largest :math:`x_k`, which brackets the inverse.
    """

    units: int

    @property
    @override
    def size(self) -> int:
        return 3 * self.units

    @override
    def start(self, rng: np.random.Generator) -> NDArray[np.float64]:
        # all sigmoids alike are the identity for any weights; unequal weights tell them apart
        weights = rng.standard_normal(self.units)
        return np.concatenate([weights, np.full(self.units, SOFTPLUS_ONE), np.zeros(self.units)])

    @override
    def forward(
        self, z: TensorVariable, numbers: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable]:
        shape = self._shape(numbers)
        return _logit_of_mixture(pt, z, *shape), _log_slope(pt, z, *shape)

    @override
    def inverse(self, z: TensorVariable, numbers: TensorVariable) -> TensorVariable:
        log_w, slope, offset = self._shape(numbers)
        ends = (z[..., None, :] - offset) / slope
        return solve_increasing(
            _logit_of_mixture,
            _slope,
            z,
            lower=ends.min(-2),
            upper=ends.max(-2),
            args=(log_w, slope, offset),
        )

    def _shape(
        self, numbers: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        """Log weights, slopes and offsets, each of shape (*batch, units, n)."""
        k = self.units
        logits = numbers[..., :k, :]
        log_w = logits - _log_sum_exp(pt, logits)[..., None, :]
        slope = LEAST_SLOPE + (1 - LEAST_SLOPE) * pt.softplus(numbers[..., k : 2 * k, :])
        return log_w, slope, numbers[..., 2 * k :, :]


def _log_sum_exp(xp: Any, x: Any) -> Any:
    """Over the axis of the units."""
    largest = xp.max(x, axis=-2, keepdims=True)
    return xp.log(xp.sum(xp.exp(x - largest), axis=-2)) + largest[..., 0, :]


def _log_sigmoid(xp: Any, x: Any) -> Any:
    # min(x, 0) - log1p(exp(-|x|)): exact for both signs, on NumPy and PyTensor alike
    return xp.minimum(x, 0) - xp.log1p(xp.exp(-abs(x)))


def _logit_of_mixture(xp: Any, z: Any, log_w: Any, slope: Any, offset: Any) -> Any:
    x = slope * z[..., None, :] + offset
    log_s = _log_sum_exp(xp, log_w + _log_sigmoid(xp, x))
    return log_s - _log_sum_exp(xp, log_w + _log_sigmoid(xp, -x))


def _log_slope(xp: Any, z: Any, log_w: Any, slope: Any, offset: Any) -> Any:
    x = slope * z[..., None, :] + offset
    log_up, log_down = _log_sigmoid(xp, x), _log_sigmoid(xp, -x)
    log_density = _log_sum_exp(xp, log_w + xp.log(slope) + log_up + log_down)
    return log_density - _log_sum_exp(xp, log_w + log_up) - _log_sum_exp(xp, log_w + log_down)


def _slope(xp: Any, z: Any, log_w: Any, slope: Any, offset: Any) -> Any:
    return xp.exp(_log_slope(xp, z, log_w, slope, offset))
