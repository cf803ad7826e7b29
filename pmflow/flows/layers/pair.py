"""What couplings share: each half of the coordinates shapes the map of the other half."""

from __future__ import annotations

from abc import abstractmethod
from typing import override

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.base import AbstractLayer, Params, Shape, static_length
from pmflow.flows.conditioners.network import Network
from pmflow.flows.scalar.base import Transformer
from pmflow.flows.score import through_transformer

__all__ = ["AbstractPair"]


class AbstractPair(AbstractLayer):
    """Two couplings with opposite masks: every coordinate is moved once.

    The second half (the larger one, where `dim` is odd) is moved first, shaped by the first half,
    which is then moved, shaped by the new second half.
    """

    hidden: int
    depth: int
    activation: str

    @property
    @abstractmethod
    def _transformer(self) -> Transformer:
        """What is done to a coordinate."""

    def _networks(self, dim: int) -> tuple[Network, ...]:
        """The networks that move the second half and the first, which is empty in one dimension."""
        half = dim // 2
        sizes = [("b_", half, dim - half), ("a_", dim - half, half)]
        return tuple(
            Network(
                n_inputs=n_inputs,
                n_coordinates=n_moved,
                per_coordinate=self._transformer.size,
                hidden=self.hidden,
                depth=self.depth,
                activation=self.activation,
                prefix=prefix,
            )
            for prefix, n_inputs, n_moved in sizes
            if n_moved
        )

    @override
    def param_shapes(self, dim: int) -> dict[str, Shape]:
        networks = self._networks(dim)
        return {k: shape for net in networks for k, shape in net.param_shapes().items()}

    @override
    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        start = self._transformer.start(rng)
        networks = self._networks(dim)
        return {k: v for net in networks for k, v in net.init_params(start, jitter, rng).items()}

    @override
    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:
        dim = _dim(params)
        a, b = z[..., : dim // 2], z[..., dim // 2 :]
        move_b, *move_a = self._networks(dim)
        b, log_slope = self._transformer.forward(b, move_b.outputs(a, params))
        log_det = log_slope.sum(-1)
        for network in move_a:
            a, log_slope = self._transformer.forward(a, network.outputs(b, params))
            log_det = log_det + log_slope.sum(-1)
        return pt.concatenate([a, b], axis=-1), log_det

    @override
    def forward_with_score(
        self, z: TensorVariable, params: Params, score: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        """Carry the score through one step after the other: two gradients each, no Jacobian."""
        dim = _dim(params)
        a, b = z[..., : dim // 2], z[..., dim // 2 :]
        s_a, s_b = score[..., : dim // 2], score[..., dim // 2 :]
        move_b, *move_a = self._networks(dim)
        b_new, log_slope = self._transformer.forward(b, move_b.outputs(a, params))
        s_b, s_a = through_transformer((b, b_new, log_slope, s_b), (a, s_a))
        log_det = log_slope.sum(-1)
        for network in move_a:
            a_new, log_slope = self._transformer.forward(a, network.outputs(b_new, params))
            s_a, s_b = through_transformer((a, a_new, log_slope, s_a), (b_new, s_b))
            a, log_det = a_new, log_det + log_slope.sum(-1)
        z_new = pt.concatenate([a, b_new], axis=-1)
        return z_new, log_det, pt.concatenate([s_a, s_b], axis=-1)

    @override
    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:
        dim = _dim(params)
        a, b = z[..., : dim // 2], z[..., dim // 2 :]
        move_b, *move_a = self._networks(dim)
        for network in move_a:
            a = self._transformer.inverse(a, network.outputs(b, params))
        b = self._transformer.inverse(b, move_b.outputs(a, params))
        return pt.concatenate([a, b], axis=-1)


def _dim(params: Params) -> int:
    return sum(static_length(params[name]) for name in ("a_bias", "b_bias") if name in params)
