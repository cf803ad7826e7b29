"""What autoregressive layers share: a coordinate's map is shaped by the coordinates before it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import override

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.base import AbstractLayer, Params, Shape, static_length
from pmflow.flows.conditioners.network import Network, check_network
from pmflow.flows.conditioners.quadratic import Quadratic
from pmflow.flows.constraints import SOFTPLUS_ONE
from pmflow.flows.kernels.softplus import softplus_and_log
from pmflow.flows.scalar.affine import Affine
from pmflow.flows.scalar.base import Transformer
from pmflow.flows.score import with_triangular_jacobian

__all__ = [
    "AbstractAutoregressive",
    "AbstractNetworkAutoregressive",
    "AbstractScaledAutoregressive",
]


_MOST_UNROLLED = 4
"""Coordinates up to which passes are written out one by one: a scan takes longer to compile."""


@dataclass(frozen=True)
class AbstractAutoregressive(AbstractLayer):
    """A transformer of every coordinate, conditioned on those before it.

    The Jacobian is triangular: its log-determinant is the sum of the coordinates' log slopes.
    """

    @property
    @abstractmethod
    def _transformer(self) -> Transformer:
        """What is done to a coordinate."""

    @abstractmethod
    def _conditioner(self, dim: int) -> Network | Quadratic:
        """What decides it."""

    @override
    def param_shapes(self, dim: int) -> dict[str, Shape]:
        return self._conditioner(dim).param_shapes()

    @override
    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        return self._conditioner(dim).init_params(self._transformer.start(rng), jitter, rng)

    @override
    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:
        numbers = self._conditioner(static_length(params["bias"])).outputs(z, params)
        z_new, log_slope = self._transformer.forward(z, numbers)
        return z_new, log_slope.sum(-1)

    @override
    def forward_with_score(
        self, z: TensorVariable, params: Params, score: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        """Carry the score by the triangular Jacobian: `dim` gradients, and a substitution."""
        return with_triangular_jacobian(self.forward, z, params, score)

    @override
    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:
        """Map points back, coordinate by coordinate: `dim` passes of the conditioner."""
        conditioner = self._conditioner(static_length(params["bias"]))
        return _one_by_one(conditioner, self._transformer.inverse, z, params)


def _one_by_one(
    conditioner: Network | Quadratic,
    transform: Callable[[TensorVariable, TensorVariable], TensorVariable],
    z: TensorVariable,
    params: Params,
) -> TensorVariable:
    """Transform each coordinate of `z`, conditioned on the coordinates that came out before it."""
    dim = conditioner.n_inputs
    masked = conditioner.masked(params)  # made once, outside of the loop
    names, arrays = list(masked), list(masked.values())

    def step(
        i: TensorVariable, done: TensorVariable, z: TensorVariable, *arrays: TensorVariable
    ) -> TensorVariable:
        numbers = conditioner.outputs_at(done, dict(zip(names, arrays, strict=True)), i)
        # the coordinate as the only one of an axis of its own
        new = transform(z[..., i][..., None], numbers[..., None])
        return done[..., i].set(new[..., 0])

    if dim <= _MOST_UNROLLED:
        found: list[TensorVariable] = []
        for i in range(dim):
            numbers = conditioner.outputs_after(found, masked)
            found.append(transform(z[..., i][..., None], numbers[..., None])[..., 0])
        return pt.stack(found, axis=-1)
    start = pt.zeros_like(z)
    steps = pytensor.scan(
        step,
        sequences=[pt.arange(dim)],
        outputs_info=[start],
        non_sequences=[z, *arrays],
        n_steps=dim,
        return_updates=False,
    )
    return steps[-1]


@dataclass(frozen=True)
class AbstractNetworkAutoregressive(AbstractAutoregressive):
    """A transformer of every coordinate, conditioned by a MADE on those before it."""

    hidden: int = 32
    depth: int = 1
    activation: str = "tanh"

    def __post_init__(self) -> None:
        check_network(self.hidden, self.depth, self.activation)

    @override
    def _conditioner(self, dim: int) -> Network:
        return Network(
            n_inputs=dim,
            n_coordinates=dim,
            per_coordinate=self._transformer.size,
            hidden=self.hidden,
            depth=self.depth,
            activation=self.activation,
            is_autoregressive=True,
        )


@dataclass(frozen=True)
class AbstractScaledAutoregressive(AbstractNetworkAutoregressive):
    """An autoregressive layer with a scale and a shift, and a further scale that is not bounded."""

    @property
    @override
    def _transformer(self) -> Transformer:
        return Affine()

    @override
    def param_shapes(self, dim: int) -> dict[str, Shape]:
        return {"rho": (dim,), **super().param_shapes(dim)}

    @override
    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        rho = SOFTPLUS_ONE + jitter * rng.standard_normal(dim)
        return {"rho": rho, **super().init_params(dim, jitter, rng)}

    def _along_z(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:
        """The direction in which all coordinates are known at once: one pass."""
        sigma, log_sigma = softplus_and_log(params["rho"])
        z, log_det = super().forward(z, _without_rho(params))
        return z * sigma, log_det + log_sigma.sum()

    def _against_z(self, z: TensorVariable, params: Params) -> TensorVariable:
        """The direction that takes `dim` passes."""
        z = z * pt.exp(-softplus_and_log(params["rho"])[1])
        return super().inverse(z, _without_rho(params))


def _without_rho(params: Params) -> Params:
    return {name: value for name, value in params.items() if name != "rho"}
