"""The integral of a sum of squared polynomials as a map of one coordinate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, override

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.roots import solve_increasing
from pmflow.flows.scalar.base import LEAST_SLOPE, Transformer

__all__ = ["SumOfSquares"]


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
    @override
    def size(self) -> int:
        return 1 + self.terms * (self.degree + 1)

    @override
    def start(self, rng: np.random.Generator) -> NDArray[np.float64]:
        # constants whose squares sum to 1, unequal, so that the polynomials differ from the first
        constants = rng.standard_normal(self.terms)
        numbers = np.zeros((self.terms, self.degree + 1))
        numbers[:, 0] = constants / np.linalg.norm(constants)
        return np.concatenate([[0.0], numbers.ravel()])

    @override
    def forward(
        self, z: TensorVariable, numbers: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable]:
        squares = sum(_horner(z, p) ** 2 for p in self._polynomials(numbers))
        log_slope = pt.log(LEAST_SLOPE + (1 - LEAST_SLOPE) * squares)
        return numbers[..., 0, :] + z * _horner(z, self._integral(numbers)), log_slope

    @override
    def inverse(self, z: TensorVariable, numbers: TensorVariable) -> TensorVariable:
        target = z - numbers[..., 0, :]
        far = abs(target) / LEAST_SLOPE
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
        scaled = [(1 - LEAST_SLOPE) * q / (j + 1) for j, q in enumerate(squared)]
        return [LEAST_SLOPE + scaled[0], *scaled[1:]]


def _horner(z: Any, coefficients: list[Any] | tuple[Any, ...]) -> Any:
    value = coefficients[-1]
    for a in reversed(coefficients[:-1]):
        value = value * z + a
    return value


def _value(xp: Any, z: Any, *integral: Any) -> Any:
    return z * _horner(z, integral)


def _value_prime(xp: Any, z: Any, *integral: Any) -> Any:
    return _horner(z, [(j + 1) * q for j, q in enumerate(integral)])
