"""Transformers without a bounded number of bends: mixtures of sigmoids, sums of squares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.constraints import SOFTPLUS_ONE
from pmflow.flows.roots import solve_increasing
from pmflow.flows.scalar.transformers import Transformer

__all__ = ["Sigmoidal", "SumOfSquares"]

_LEAST_SLOPE = 1e-3
"""Of one sigmoid's argument, and of a polynomial: keeps inverses within reach."""


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
    def size(self) -> int:  # noqa: D102
        return 3 * self.units

    def start(self, rng: np.random.Generator) -> NDArray[np.float64]:  # noqa: D102
        # all sigmoids alike are the identity for any weights; unequal weights tell them apart
        weights = rng.standard_normal(self.units)
        return np.concatenate([weights, np.full(self.units, SOFTPLUS_ONE), np.zeros(self.units)])

    def forward(  # noqa: D102
        self, z: TensorVariable, numbers: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable]:
        shape = self._shape(numbers)
        return _logit_of_mixture(pt, z, *shape), _log_slope(pt, z, *shape)

    def inverse(self, z: TensorVariable, numbers: TensorVariable) -> TensorVariable:  # noqa: D102
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
        slope = _LEAST_SLOPE + (1 - _LEAST_SLOPE) * pt.softplus(numbers[..., k : 2 * k, :])
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


@dataclass(frozen=True)
class SumOfSquares(Transformer):
    r"""Sum-of-squares polynomial (Jaini et al., 2019, https://arxiv.org/abs/1905.02325).

    .. math:: z' = c + \int_0^z \Bigl(\epsilon + (1 - \epsilon) \sum_{k=1}^K p_k(t)^2\Bigr)\,dt,
              \qquad p_k(t) = \sum_{l=0}^r a_{kl} t^l

    (eq. 8). :math:`\epsilon = 10^{-3}` keeps the slope positive where all :math:`p_k` vanish; the
    paper has none.
    """

    degree: int
    terms: int

    @property
    def size(self) -> int:  # noqa: D102
        return 1 + self.terms * (self.degree + 1)

    def start(self, rng: np.random.Generator) -> NDArray[np.float64]:  # noqa: D102
        # constants whose squares sum to 1, unequal, so that the polynomials differ from the first
        constants = rng.standard_normal(self.terms)
        numbers = np.zeros((self.terms, self.degree + 1))
        numbers[:, 0] = constants / np.linalg.norm(constants)
        return np.concatenate([[0.0], numbers.ravel()])

    def forward(  # noqa: D102
        self, z: TensorVariable, numbers: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable]:
        squares = sum(_horner(z, p) ** 2 for p in self._polynomials(numbers))
        log_slope = pt.log(_LEAST_SLOPE + (1 - _LEAST_SLOPE) * squares)
        return numbers[..., 0, :] + z * _horner(z, self._integral(numbers)), log_slope

    def inverse(self, z: TensorVariable, numbers: TensorVariable) -> TensorVariable:  # noqa: D102
        target = z - numbers[..., 0, :]
        far = abs(target) / _LEAST_SLOPE
        zero = pt.zeros_like(target)
        return solve_increasing(
            _value,
            _value_prime,
            target,
            lower=pt.switch(target < 0, -far, zero),
            upper=pt.switch(target < 0, zero, far),
            args=self._integral(numbers),
        )

    def _polynomials(self, numbers: TensorVariable) -> list[list[TensorVariable]]:
        """Coefficients of every p, the constant first."""
        n = self.degree + 1
        return [
            [numbers[..., 1 + k * n + power, :] for power in range(n)] for k in range(self.terms)
        ]

    def _integral(self, numbers: TensorVariable) -> list[TensorVariable]:
        """Coefficients of the integral over z: of z^0, z^1, ... after one z is taken out."""
        squared: list[TensorVariable] = [0.0] * (2 * self.degree + 1)
        for p in self._polynomials(numbers):
            for i, a in enumerate(p):
                for j, b in enumerate(p):
                    squared[i + j] = squared[i + j] + a * b
        scaled = [(1 - _LEAST_SLOPE) * q / (j + 1) for j, q in enumerate(squared)]
        return [_LEAST_SLOPE + scaled[0], *scaled[1:]]


def _horner(z: Any, coefficients: list[Any] | tuple[Any, ...]) -> Any:
    value = coefficients[-1]
    for a in reversed(coefficients[:-1]):
        value = value * z + a
    return value


def _value(xp: Any, z: Any, *integral: Any) -> Any:
    return z * _horner(z, integral)


def _value_prime(xp: Any, z: Any, *integral: Any) -> Any:
    return _horner(z, [(j + 1) * q for j, q in enumerate(integral)])
