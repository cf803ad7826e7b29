"""Couplings: half of the coordinates shape the map of the other half, and the reverse."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from pmflow.flows.base import AbstractLayer, Params, Shape, static_length
from pmflow.flows.conditioners.networks import Network, check_network
from pmflow.flows.constraints import SOFTPLUS_ONE
from pmflow.flows.kernels.softplus import softplus_and_log
from pmflow.flows.scalar.spline import RationalQuadratic
from pmflow.flows.scalar.transformers import Affine, Transformer
from pmflow.flows.score import through_transformer

__all__ = ["Coupling", "Spline"]


class _Pair(AbstractLayer):
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
        """Those that move the second half and the first, which has no coordinate in dim 1."""
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

    def param_shapes(self, dim: int) -> dict[str, Shape]:
        networks = self._networks(dim)
        return {k: shape for net in networks for k, shape in net.param_shapes().items()}

    def init_params(
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        start = self._transformer.start(rng)
        networks = self._networks(dim)
        return {k: v for net in networks for k, v in net.init_params(start, jitter, rng).items()}

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

    def forward_with_score(
        self, z: TensorVariable, params: Params, score: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        """Carried through each step on its own: two gradients of its network, no Jacobian."""
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


@dataclass(frozen=True)
class Coupling(_Pair):
    r"""Affine coupling (Dinh et al., 2017, RealNVP, https://arxiv.org/abs/1605.08803).

    .. math::

        b' = e^{s(a)} \odot b + t(a), \qquad a' = e^{s(b')} \odot a + t(b'), \qquad
        z' = \sigma \odot (a', b')

    with :math:`a` the first half of the coordinates and :math:`b` the second, a network for each
    step, and :math:`\log|\det J| = \sum s(a) + \sum s(b') + \sum \log \sigma`. One layer is the
    pair of opposite masks, so that ``coupling*4`` needs no permutations between.

    The scale is softly clamped, :math:`|s| \le 3`, and :math:`\sigma = \mathrm{softplus}(\rho)` is
    free. Both directions take one pass of the networks. In one dimension it is a scale and a
    shift.

    Parameters
    ----------
    hidden, depth : int
        Units of a hidden layer of the networks, and how many hidden layers there are.
    activation : str
        ``tanh``, ``relu``, ``elu``, ``gelu`` or ``sin``, the last for periodic targets.

    Notes
    -----
    Parameters of the flow, unconstrained: ``rho``, shape ``(dim,)``, and those of the networks that
    move the second half (``b_w1``, ``b_b1``, ..., ``b_w_out``, ``b_bias``) and the first
    (``a_w1`` ...). They start at the identity with random hidden units.
    """

    word: ClassVar[str] = "coupling"
    mixes: ClassVar[bool] = True

    hidden: int = 32
    depth: int = 1
    activation: str = "tanh"

    def __post_init__(self) -> None:
        check_network(self.hidden, self.depth, self.activation)

    @property
    def _transformer(self) -> Transformer:
        return Affine()

    def param_shapes(self, dim: int) -> dict[str, Shape]:  # noqa: D102
        return {"rho": (dim,), **super().param_shapes(dim)}

    def init_params(  # noqa: D102
        self, dim: int, jitter: float, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float64]]:
        rho = SOFTPLUS_ONE + jitter * rng.standard_normal(dim)
        return {"rho": rho, **super().init_params(dim, jitter, rng)}

    def forward(self, z: TensorVariable, params: Params) -> tuple[TensorVariable, TensorVariable]:  # noqa: D102
        sigma, log_sigma = softplus_and_log(params["rho"])
        z, log_det = super().forward(z, params)
        return z * sigma, log_det + log_sigma.sum()

    def forward_with_score(  # noqa: D102
        self, z: TensorVariable, params: Params, score: TensorVariable
    ) -> tuple[TensorVariable, TensorVariable, TensorVariable]:
        sigma, log_sigma = softplus_and_log(params["rho"])
        z, log_det, score = super().forward_with_score(z, params, score)
        return z * sigma, log_det + log_sigma.sum(), score * pt.exp(-log_sigma)

    def inverse(self, z: TensorVariable, params: Params) -> TensorVariable:  # noqa: D102
        return super().inverse(z * pt.exp(-softplus_and_log(params["rho"])[1]), params)


@dataclass(frozen=True)
class Spline(_Pair):
    r"""Neural spline flow (Durkan et al., 2019, https://arxiv.org/abs/1906.04032).

    A coupling as in `Coupling`, with a monotone rational-quadratic spline in the place of scale and
    shift: `bins` pieces between -`bound` and `bound`, the identity outside. The input should be
    about standard normal; put ``scale-loc`` after it. With ``hidden=0`` there is no network: each
    coordinate has a spline of its own, cheap in any dimension.

    Parameters
    ----------
    bins : int
        Pieces of each spline.
    bound : float
        Where the linear tails begin.
    hidden, depth, activation
        Of the networks, as for `Coupling`; ``hidden=0`` for none.

    Notes
    -----
    Parameters of the flow, unconstrained: those of the networks as for `Coupling`, without ``rho``;
    ``a_bias`` and ``b_bias`` have ``3 * bins - 1`` rows: logits of widths and of heights, slopes.
    With ``hidden=0`` ``a_bias`` and ``b_bias`` are all. They start at the identity.
    """

    word: ClassVar[str] = "spline"

    bins: int = 8
    bound: float = 4.0
    hidden: int = 32
    depth: int = 1
    activation: str = "tanh"

    def __post_init__(self) -> None:
        if self.hidden < 0:
            raise ValueError(f"hidden must be >= 0, 0 for no network, got {self.hidden}.")
        check_network(self.hidden or 1, self.depth, self.activation)
        if not 2 <= self.bins <= 500:
            raise ValueError(f"bins must be from 2 to 500, got {self.bins}.")
        if not self.bound > 0:
            raise ValueError(f"bound must be > 0, got {self.bound}.")

    @property
    def mixes(self) -> bool:  # noqa: D102
        return self.hidden > 0

    @property
    def _transformer(self) -> Transformer:
        return RationalQuadratic(self.bins, self.bound)
