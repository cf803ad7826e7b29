"""The base that is a mixture of normal distributions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, override

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.gradient import disconnected_grad
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.base import Params, Shape
from pmflow.flows.bases.base import AbstractBase, standard_normal_logp
from pmflow.flows.constraints import SOFTPLUS_ONE
from pmflow.flows.kernels.softplus import softplus_and_log

__all__ = ["Mixture"]


@dataclass(frozen=True)
class Mixture(AbstractBase):
    r"""A mixture of k normal distributions with diagonal covariances, its density exact.

    .. math:: q_0(z) = \sum_{j=1}^k w_j\, N\bigl(z;\ \mu_j, \mathrm{diag}(\sigma_j^2)\bigr)

    Means and scales are trained by the path through the draws. A draw's component is chosen by one
    more normal number. With trained weights the choice's probability carries their gradient, with
    the other draws' mean as the baseline (Kool et al., 2019, Buy 4 REINFORCE samples): it needs
    ``obj_n_mc`` of 2 at least, and is the better the more draws there are.

    Parameters
    ----------
    k : int
        Components.
    trained : bool
        Whether the weights are trained; they are ``1 / k`` otherwise.

    Notes
    -----
    Parameters, unconstrained: ``mean`` and ``rho``, shape ``(k, dim)``,
    :math:`\sigma = \mathrm{softplus}(\rho)`; ``logits``, shape ``(k,)``, with trained weights. The
    means start as draws from N(0, I), so that the components differ.
    """

    word: ClassVar[str] = "mixture"

    k: int = 4
    trained: bool = True

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k must be >= 1, the number of components, got {self.k}.")

    @override
    def noise_length(self, dim: int) -> int:
        return dim + 1

    @override
    def param_shapes(self, dim: int) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {"mean": (self.k, dim), "rho": (self.k, dim)}
        return shapes | {"logits": (self.k,)} if self.trained else shapes

    @override
    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        start = {
            "mean": rng.standard_normal((self.k, dim)),
            "rho": SOFTPLUS_ONE + jitter * rng.standard_normal((self.k, dim)),
        }
        return start | {"logits": np.zeros(self.k)} if self.trained else start

    @override
    def draw(self, noise: TensorVariable, params: Params, dim: int) -> TensorVariable:
        is_chosen = self._choice(noise, params)[..., None]  # (*batch, k, 1)
        sigma, _ = self._scales(params)
        mean, scale = ((is_chosen * p).sum(-2) for p in (params["mean"], sigma))
        return mean + scale * noise[..., :dim]

    @override
    def log_prob(self, z: TensorVariable, params: Params) -> TensorVariable:
        sigma, log_sigma = self._scales(params)
        logps = standard_normal_logp((z[..., None, :] - params["mean"]) / sigma)
        logps = logps - log_sigma.sum(-1) + self._log_weights(params)  # (*batch, k)
        largest = logps.max(-1, keepdims=True)
        return pt.log(pt.exp(logps - largest).sum(-1)) + largest[..., 0]

    @override
    def log_choice(self, noise: TensorVariable, params: Params) -> TensorVariable | None:
        if not self.trained:
            return None
        return (self._choice(noise, params) * self._log_weights(params)).sum(-1)

    def _scales(self, params: Params) -> tuple[TensorVariable, TensorVariable]:
        """Scales and their logs, both of shape (k, dim)."""
        sigma, log_sigma = softplus_and_log(params["rho"].ravel())
        shape = params["mean"].type.shape
        return sigma.reshape(shape), log_sigma.reshape(shape)

    def _log_weights(self, params: Params) -> TensorVariable:
        """Shape (k,)."""
        if not self.trained:
            return pt.zeros(self.k, dtype=params["mean"].dtype) - math.log(self.k)
        logits = params["logits"] - params["logits"].max()
        return logits - pt.log(pt.exp(logits).sum())

    def _choice(self, noise: TensorVariable, params: Params) -> TensorVariable:
        """1 at the component of each draw and 0 elsewhere, shape (*batch, k)."""
        uniform = 0.5 * (1 + pt.erf(noise[..., -1:] / math.sqrt(2)))
        ends = pt.cumsum(pt.exp(disconnected_grad(self._log_weights(params))))
        # the last end is 1 up to rounding: a draw above it belongs to the last component too
        below = pt.concatenate(
            [(uniform < ends[:-1]).astype(noise.dtype), pt.ones_like(uniform)], -1
        )
        return below - pt.concatenate([pt.zeros_like(uniform), below[..., :-1]], -1)
