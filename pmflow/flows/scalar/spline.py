"""The rational-quadratic spline as a transformer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, override

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.scalar.base import Transformer

__all__ = ["RationalQuadratic"]

_LEAST = 1e-3
"""The least share of width and height that a bin has, and the least slope of a knot."""

_SLOPE_ONE = math.log(math.expm1(1 - _LEAST))
"""Where ``_LEAST + softplus(.)`` is 1."""


class _Bin(NamedTuple):
    """The bin that a point is in: left knot, width, height, slopes at both knots."""

    x: TensorVariable
    y: TensorVariable
    width: TensorVariable
    height: TensorVariable
    slope_left: TensorVariable
    slope_right: TensorVariable


@dataclass(frozen=True)
class RationalQuadratic(Transformer):
    r"""Monotone rational-quadratic spline with linear tails.

    Durkan et al. (2019), https://arxiv.org/abs/1906.04032.

    Between the knots :math:`(x_k, y_k)` with slopes :math:`d_k`, in a bin of width :math:`w`,
    height :math:`h` and mean slope :math:`s = h / w`, with :math:`\xi = (z - x_k) / w` (eq. 4):

    .. math:: z' = y_k + \frac{h\,\bigl(s \xi^2 + d_k \xi (1 - \xi)\bigr)}
              {s + (d_{k+1} + d_k - 2 s)\,\xi (1 - \xi)}

    The knots lie within -/+ `bound`, where the slope is 1, and outside the map is the identity. The
    inverse is the root of a quadratic (eqs. 6 to 8).

    The numbers: `bins` logits of widths, as many of heights, and ``bins - 1`` slopes.
    """

    bins: int
    bound: float

    @property
    @override
    def size(self) -> int:
        return 3 * self.bins - 1

    @override
    def start(self, rng: np.random.Generator) -> NDArray[np.float64]:
        return np.zeros(self.size)

    @override
    def forward(
        self, z: TensorVariable, numbers: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable]:
        x, y, slopes = self._knots(numbers)
        inside = pt.clip(z, -self.bound, self.bound)
        at = _find(inside, x, x, y, slopes)
        xi = (inside - at.x) / at.width
        z_new, log_slope = _spline(at, xi)
        is_inside = abs(z) < self.bound
        return pt.switch(is_inside, z_new, z), pt.switch(is_inside, log_slope, 0)

    @override
    def inverse(self, z: TensorVariable, numbers: TensorVariable) -> TensorVariable:
        x, y, slopes = self._knots(numbers)
        inside = pt.clip(z, -self.bound, self.bound)
        at = _find(inside, y, x, y, slopes)
        s = at.height / at.width
        curve = at.slope_right + at.slope_left - 2 * s
        up = inside - at.y
        a = at.height * (s - at.slope_left) + up * curve
        b = at.height * at.slope_left - up * curve
        c = -s * up
        root = pt.sqrt(pt.maximum(b**2 - 4 * a * c, 0))
        # of the two forms of the root each sign of b takes the one in which nothing cancels
        is_up = b >= 0
        up_root = -2 * c / pt.switch(is_up, b + root, 1)
        xi = pt.switch(is_up, up_root, (root - b) / (2 * pt.switch(is_up, 1, a)))
        return pt.switch(abs(z) < self.bound, at.x + xi * at.width, z)

    def _knots(
        self, numbers: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        """Places, heights and slopes of the knots, each of shape (*batch, bins + 1, n)."""
        k = self.bins
        raw = pt.softplus(numbers[..., 2 * k :, :] + _SLOPE_ONE)
        one = pt.ones_like(numbers[..., :1, :])
        slopes = pt.concatenate([one, _LEAST + raw, one], axis=-2)
        return self._edges(numbers[..., :k, :]), self._edges(numbers[..., k : 2 * k, :]), slopes

    def _edges(self, logits: TensorVariable) -> TensorVariable:
        shares = _LEAST + (1 - _LEAST * self.bins) * pt.special.softmax(logits, axis=-2)
        inner = self.bound * (2 * pt.cumsum(shares, axis=-2)[..., :-1, :] - 1)
        end = pt.ones_like(logits[..., :1, :]) * self.bound
        return pt.concatenate([-end, inner, end], axis=-2)


def _find(
    at: TensorVariable,
    edges: TensorVariable,
    x: TensorVariable,
    y: TensorVariable,
    slopes: TensorVariable,
) -> _Bin:
    """Look up the bin between whose `edges` a point lies, by sums with an indicator."""
    beyond = at[..., None, :] >= edges[..., 1:-1, :]  # (*batch, bins - 1, n): inner knots passed
    one = pt.ones_like(at[..., None, :] + edges[..., :1, :])
    passed = pt.concatenate([one, beyond.astype(at.dtype), pt.zeros_like(one)], axis=-2)
    is_in = passed[..., :-1, :] - passed[..., 1:, :]

    def pick(values: TensorVariable) -> TensorVariable:
        return (is_in * values).sum(-2)

    left, right = x[..., :-1, :], x[..., 1:, :]
    low, high = y[..., :-1, :], y[..., 1:, :]
    return _Bin(
        x=pick(left),
        y=pick(low),
        width=pick(right - left),
        height=pick(high - low),
        slope_left=pick(slopes[..., :-1, :]),
        slope_right=pick(slopes[..., 1:, :]),
    )


def _spline(at: _Bin, xi: TensorVariable) -> tuple[TensorVariable, TensorVariable]:
    """Height and log slope in a bin, equations 4 and 5."""
    s = at.height / at.width
    mixed = xi * (1 - xi)
    denominator = s + (at.slope_right + at.slope_left - 2 * s) * mixed
    up = at.height * (s * xi**2 + at.slope_left * mixed) / denominator
    slope = at.slope_right * xi**2 + 2 * s * mixed + at.slope_left * (1 - xi) ** 2
    return at.y + up, 2 * pt.log(s) + pt.log(slope) - 2 * pt.log(denominator)
