"""Layers in sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import prod
from operator import itemgetter

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.errors import ParameterError
from pmflow.flows.base import AbstractLayer, Params, Shape
from pmflow.flows.latent import Latent

__all__ = ["Chain"]


@dataclass(frozen=True)
class Chain:
    """Layers in sequence, the first one applied first.

    A chain holds no parameters, as its layers do: every method takes them as a list with one
    mapping per layer.

    Parameters
    ----------
    layers : tuple of AbstractLayer
        In order of application to the base draw.

    Examples
    --------
    >>> import numpy as np
    >>> from pmflow.flows import Chain, Loc, Scale
    >>> chain = Chain((Scale(), Loc()))
    >>> chain.init_params(2, jitter=0.0, rng=np.random.default_rng(0))[1]
    {'loc': array([0., 0.])}
    """

    layers: tuple[AbstractLayer, ...]

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def formula(self) -> str:
        """The formula that builds these layers, equal neighbours counted: ``scale-hh*4-loc``."""
        runs = [(str(layer), len(list(run))) for layer, run in groupby(self.layers)]
        return "-".join(text if count == 1 else f"{text}*{count}" for text, count in runs)

    @property
    def is_affine(self) -> bool:
        """Whether the whole map is affine in the base draw."""
        return all(layer.is_affine for layer in self.layers)

    def bind(self, latent: Latent) -> Chain:
        """The chain for the latent vector of a model (see `AbstractLayer.bind`)."""
        return Chain(tuple(layer.bind(latent) for layer in self.layers))

    def param_shapes(self, dim: int) -> list[dict[str, Shape]]:
        """Names and shapes of the parameters of every layer, for points of length `dim`."""
        return [layer.param_shapes(dim) for layer in self.layers]

    def n_params(self, dim: int) -> int:
        """How many numbers all parameters have together; nothing is made."""
        return sum(prod(shape) for layer in self.param_shapes(dim) for shape in layer.values())

    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> list[dict[str, NDArray[np.float64]]]:
        """Start values of every layer, at the identity up to `jitter` (see `AbstractLayer`)."""
        return [layer.init_params(dim, jitter, rng) for layer in self.layers]

    def forward(
        self, z0: TensorVariable, params: Sequence[Params]
    ) -> tuple[TensorVariable, TensorVariable]:
        """Map base draws to the posterior.

        Parameters
        ----------
        z0 : TensorVariable, shape (*batch, dim)
        params : sequence of mapping, one per layer

        Returns
        -------
        z : TensorVariable, shape (*batch, dim)
        log_det : TensorVariable, shape (*batch,)
            Sum of the layers' log-determinants.

        Raises
        ------
        ParameterError
            If there are not as many mappings as layers, as in `forward_steps` and `inverse`.
        """
        z, log_det = z0, pt.zeros_like(z0[..., 0])
        for layer, run in groupby(self._with(params), key=itemgetter(0)):
            z, run_log_det = layer.forward_run(z, [layer_params for _, layer_params in run])
            log_det = log_det + run_log_det
        return z, log_det

    def forward_with_score(
        self, z0: TensorVariable, params: Sequence[Params], score0: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        """Map base draws to the posterior, and carry the score of their density along.

        Layer by layer, without an inverse.

        Parameters
        ----------
        z0 : TensorVariable, shape (*batch, dim)
        params : sequence of mapping, one per layer
        score0 : TensorVariable, shape (*batch, dim)
            Gradient of the base's log density at `z0`, by `z0`.

        Returns
        -------
        z : TensorVariable, shape (*batch, dim)
        log_det : TensorVariable, shape (*batch,)
        score : TensorVariable, shape (*batch, dim)
            Gradient of the flow's log density at `z`, by `z`.

        Raises
        ------
        ParameterError
            If there are not as many mappings as layers.
        """
        z, log_det, score = z0, pt.zeros_like(z0[..., 0]), score0
        for layer, layer_params in self._with(params):
            z, layer_log_det, score = layer.forward_with_score(z, layer_params, score)
            log_det = log_det + layer_log_det
        return z, log_det, score

    def forward_steps(self, z0: TensorVariable, params: Sequence[Params]) -> list[TensorVariable]:
        """The base draw and the output of every layer: ``len(chain) + 1`` variables."""
        steps = [z0]
        for layer, layer_params in self._with(params):
            steps.append(layer.forward(steps[-1], layer_params)[0])
        return steps

    def inverse(self, z: TensorVariable, params: Sequence[Params]) -> TensorVariable:
        """Map points of the posterior back to the base, shape (*batch, dim)."""
        for layer, layer_params in reversed(self._with(params)):
            z = layer.inverse(z, layer_params)
        return z

    def _with(self, params: Sequence[Params]) -> list[tuple[AbstractLayer, Params]]:
        """Each layer and its parameters, in the order of the layers."""
        if len(params) != len(self.layers):
            raise ParameterError(
                f"params must be {len(self.layers)} mappings, one per layer of {self.formula}, "
                f"but are {len(params)}."
            )
        return list(zip(self.layers, params, strict=True))
