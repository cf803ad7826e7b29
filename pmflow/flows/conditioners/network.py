"""Networks that condition one coordinate's map on other coordinates: a plain and a masked one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.base import Params, Shape
from pmflow.flows.conditioners.activations import ACTIVATIONS

__all__ = ["Network", "check_depth", "check_network"]


_DEEPEST = 50
"""Hidden layers: each is a part of the graph of its own."""


def check_network(hidden: int, depth: int, activation: str) -> None:
    """Check the options that all networks have.

    Raises
    ------
    ValueError
        If `hidden` is below 1, `depth` is not from 1 to 50, or `activation` is unknown.
    """
    if hidden < 1:
        raise ValueError(f"hidden must be >= 1, the width of the network, got {hidden}.")
    check_depth(depth)
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation}.")


def check_depth(depth: int) -> None:
    """Check the number of hidden layers.

    Raises
    ------
    ValueError
        If it is not from 1 to 50.
    """
    if not 1 <= depth <= _DEEPEST:
        raise ValueError(
            f"depth must be from 1 to {_DEEPEST}, the number of hidden layers, got {depth}."
        )


@dataclass(frozen=True)
class Network:
    r"""A network from `n_inputs` coordinates to some numbers for each of `n_coordinates`.

    .. math:: h_1 = a(W_1 x + b_1), \qquad h_{l+1} = h_l + a(W_{l+1} h_l + b_{l+1}), \qquad
              y = W h_L + b

    From the second hidden layer on there are residual connections (He et al., 2016,
    https://arxiv.org/abs/1512.03385).

    The last layer starts at `start`, whatever the input: a map conditioned on it starts as the
    same map for every point. It is drawn from the hidden units as soon as `jitter` is positive.

    With ``is_autoregressive`` it is a MADE (Germain et al., 2015,
    https://arxiv.org/abs/1502.03509): the numbers of coordinate i depend on the coordinates before
    i only. The degrees of the hidden units are spread evenly over 1 to ``n_inputs - 1``, and the
    weights between two units count only where degrees do not fall.

    Attributes
    ----------
    n_inputs, n_coordinates : int
    per_coordinate : int
        How many numbers every coordinate gets.
    hidden, depth : int
        Units of a hidden layer, 0 for no network at all, and how many hidden layers there are.
    activation : str
        A key of `ACTIVATIONS`.
    is_autoregressive : bool
        Then ``n_coordinates == n_inputs``.
    prefix : str
        What the names of the parameters begin with.
    """

    n_inputs: int
    n_coordinates: int
    per_coordinate: int
    hidden: int
    depth: int
    activation: str
    is_autoregressive: bool = False
    prefix: str = ""

    @cached_property
    def is_constant(self) -> bool:
        """Whether no output depends on an input: then `bias` is the only parameter."""
        return self.hidden == 0 or self.n_inputs <= self.is_autoregressive

    def param_shapes(self) -> dict[str, Shape]:
        """Names and shapes; ``bias`` is the last one's, shape (per_coordinate, n_coordinates)."""
        shapes: dict[str, Shape] = {"bias": (self.per_coordinate, self.n_coordinates)}
        if not self.is_constant:
            n_outputs = self.per_coordinate * self.n_coordinates
            for level in range(self.depth):
                shapes[f"b{level + 1}"] = (self.hidden,)
                n_rows = self.hidden if level else self.n_inputs
                shapes[f"w{level + 1}"] = (n_rows, self.hidden)
            shapes["w_out"] = (self.hidden, n_outputs)
        return {self.prefix + name: shape for name, shape in shapes.items()}

    def init_params(
        self, start: NDArray[np.float64], jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        """Start values: hidden units are drawn, outputs are `start`, shape (per_coordinate,)."""
        values = {}
        for name, shape in self.param_shapes().items():
            noise = rng.standard_normal(shape)
            match name.removeprefix(self.prefix):
                case "bias":
                    values[name] = start[:, None] + jitter * noise
                case "w_out":
                    values[name] = jitter * noise / np.sqrt(self.hidden)
                case "w1":
                    values[name] = noise / np.sqrt(self._fan_in)
                case word if word.startswith("w"):
                    values[name] = noise / np.sqrt(self.hidden)
                case _:
                    values[name] = noise
        return values

    def masked(self, params: Params) -> Params:
        """The parameters as they count: without the prefix, masked weights set to zero."""
        own = {
            n.removeprefix(self.prefix): v for n, v in params.items() if n in self.param_shapes()
        }
        if not self.is_autoregressive or self.is_constant:
            return own
        for name in [name for name in own if name.startswith("w")]:
            before = self._degrees_in if name == "w1" else self._degrees
            after = self._degrees_out if name == "w_out" else self._degrees
            own[name] = own[name] * (before[:, None] <= after).astype(own[name].dtype)
        return own

    def outputs(self, x: TensorVariable, params: Params) -> TensorVariable:
        """Numbers for each coordinate.

        Parameters
        ----------
        x : TensorVariable, shape (*batch, n_inputs)
        params : mapping of str to TensorVariable
            In the shapes of `param_shapes`; others in it do no harm.

        Returns
        -------
        TensorVariable, shape (*batch, per_coordinate, n_coordinates)
            Without the batch, where nothing depends on `x`.
        """
        own = self.masked(params)
        if self.is_constant:
            return own["bias"]
        flat = self._units(x, own) @ own["w_out"]
        return pt.split_dims(flat, self._shape, axis=-1) + own["bias"]

    def outputs_after(self, xs: Sequence[TensorVariable], masked: Params) -> TensorVariable:
        """Numbers of the coordinate after those of `xs`, as `outputs_at`.

        Parameters
        ----------
        xs : sequence of TensorVariable, each of shape (*batch,)
            The first coordinates, few of them: they are added up one by one.
        masked : mapping of str to TensorVariable
        """
        i = len(xs)
        if self.is_constant:
            return masked["bias"][:, i]
        before = masked["b1"]
        for j, x in enumerate(xs):
            before = before + x[..., None] * masked["w1"][j]
        return self._numbers_at(self._later_units(before, masked), masked, i)

    def outputs_at(self, x: TensorVariable, masked: Params, i: TensorVariable) -> TensorVariable:
        """Numbers of one coordinate, shape (*batch, per_coordinate), with `masked` parameters."""
        if self.is_constant:
            return masked["bias"][:, i]
        return self._numbers_at(self._units(x, masked), masked, i)

    def _numbers_at(
        self, units: TensorVariable, masked: Params, i: TensorVariable | int
    ) -> TensorVariable:
        w = pt.split_dims(masked["w_out"], self._shape, axis=-1)[:, :, i]
        return units @ w + masked["bias"][:, i]

    @property
    def _shape(self) -> Shape:
        return (self.per_coordinate, self.n_coordinates)

    def _units(self, x: TensorVariable, masked: Params) -> TensorVariable:
        """The last hidden layer, shape (*batch, hidden)."""
        return self._later_units(x @ masked["w1"] + masked["b1"], masked)

    def _later_units(self, before: TensorVariable, masked: Params) -> TensorVariable:
        """The last hidden layer from what goes into the first one's activation."""
        activate = ACTIVATIONS[self.activation]
        h = activate(before)
        for level in range(2, self.depth + 1):
            h = h + activate(h @ masked[f"w{level}"] + masked[f"b{level}"])
        return h

    @cached_property
    def _fan_in(self) -> NDArray[np.float64]:
        """How many inputs each hidden unit of the first layer sees, shape (hidden,)."""
        if self.is_autoregressive:
            return self._degrees.astype(float)
        return np.full(self.hidden, float(self.n_inputs))

    @cached_property
    def _degrees_in(self) -> NDArray[np.int64]:
        return np.arange(1, self.n_inputs + 1)

    @cached_property
    def _degrees(self) -> NDArray[np.int64]:
        # shared out from 1 to n - 1, each as often as any other, or with even gaps
        return 1 + np.arange(self.hidden) * (self.n_inputs - 1) // self.hidden

    @cached_property
    def _degrees_out(self) -> NDArray[np.int64]:
        # one less: a coordinate must not see itself
        return np.tile(self._degrees_in - 1, self.per_coordinate)
