"""Numbers for each coordinate that are quadratic in the coordinates before it: no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.base import Params, Shape

__all__ = ["Quadratic"]

_FARTHEST = 6.0


@dataclass(frozen=True)
class Quadratic:
    r"""Some numbers for each of `dim` coordinates, from those before it.

    .. math:: c_i = b_i + \frac{1}{\sqrt d} \sum_{k<i} \bigl(u_{ik} h_k + v_{ik} (h_k^2 - 1)\bigr),
              \qquad h = x\,\bigl(1 + (x / 6)^6\bigr)^{-1/6}

    `h` is `x` up to 0.3 % where it is within 3, and never above 6: a point far out is not thrown
    farther by the square of its distance. All weights start at zero, where it is the same for every
    point. Of standard normal coordinates the terms have mean 0 and are uncorrelated.

    Attributes
    ----------
    dim : int
    size : int
        How many numbers every coordinate gets.
    """

    dim: int
    size: int

    @property
    def n_inputs(self) -> int:
        """How many coordinates there are."""
        return self.dim

    def param_shapes(self) -> dict[str, Shape]:
        """Names and shapes; weights are packed, row by row of a strict lower triangle."""
        shapes: dict[str, Shape] = {"bias": (self.size, self.dim)}
        if self.dim > 1:
            packed = self.dim * (self.dim - 1) // 2
            shapes |= {"linear": (self.size, packed), "square": (self.size, packed)}
        return shapes

    def init_params(
        self, start: NDArray[np.float64], jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        """Start values: `start`, shape (size,), whatever the input, up to `jitter`."""
        values = {n: jitter * rng.standard_normal(s) for n, s in self.param_shapes().items()}
        for name in values.keys() - {"bias"}:  # many of them are added up
            values[name] /= np.sqrt(self.dim)
        values["bias"] += start[:, None]
        return values

    def masked(self, params: Params) -> Params:
        """The bias, and the weights as matrices of shape (size, dim, dim), zero from i on."""
        own = {name: params[name] for name in self.param_shapes()}
        # constants: PyTensor looks at each number of an index array in Python
        rows, columns = map(pt.constant, np.tril_indices(self.dim, -1))
        for name in own.keys() - {"bias"}:
            full = pt.zeros((self.size, self.dim, self.dim), dtype=own[name].dtype)
            scaled = own[name] / np.sqrt(self.dim).astype(own[name].dtype)
            own[name] = full[:, rows, columns].set(scaled)
        return own

    def outputs(self, x: TensorVariable, params: Params) -> TensorVariable:
        """Numbers for each coordinate.

        Parameters
        ----------
        x : TensorVariable, shape (*batch, dim)
        params : mapping of str to TensorVariable

        Returns
        -------
        TensorVariable, shape (*batch, size, dim)
            Without the batch, where nothing depends on `x`.
        """
        own = self.masked(params)
        if self.dim == 1:
            return own["bias"]
        both = pt.concatenate([own["linear"], own["square"]], axis=-1)
        flat = _features(x) @ both.reshape((self.size * self.dim, 2 * self.dim)).T
        return pt.split_dims(flat, (self.size, self.dim), axis=-1) + own["bias"]

    def outputs_at(self, x: TensorVariable, masked: Params, i: TensorVariable) -> TensorVariable:
        """Numbers of one coordinate, shape (*batch, size), with `masked` parameters."""
        if self.dim == 1:
            return masked["bias"][:, i]
        both = pt.concatenate([masked["linear"][:, i], masked["square"][:, i]], axis=-1)
        return _features(x) @ both.T + masked["bias"][:, i]

    def outputs_after(self, xs: Sequence[TensorVariable], masked: Params) -> TensorVariable:
        """Numbers of the coordinate after those of `xs`, each of shape (*batch,)."""
        i = len(xs)
        numbers = masked["bias"][:, i]
        for k, x in enumerate(xs):
            linear, square = (h[..., None] for h in _terms(x))
            numbers = numbers + linear * masked["linear"][:, i, k]
            numbers = numbers + square * masked["square"][:, i, k]
        return numbers


def _features(x: TensorVariable) -> TensorVariable:
    return pt.concatenate(_terms(x), axis=-1)


def _terms(x: TensorVariable) -> tuple[TensorVariable, TensorVariable]:
    h = x * (1 + (x / _FARTHEST) ** 6) ** (-1 / 6)
    return h, h**2 - 1
