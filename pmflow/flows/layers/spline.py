"""The spline coupling: a rational-quadratic spline for every coordinate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, override

from pmflow.flows.conditioners.network import check_network
from pmflow.flows.layers.pair import AbstractPair
from pmflow.flows.scalar.base import Transformer
from pmflow.flows.scalar.spline import RationalQuadratic

__all__ = ["Spline"]


@dataclass(frozen=True)
class Spline(AbstractPair):
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
        Options of the networks, as for `Coupling`; ``hidden=0`` for no network.

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
    @override
    def mixes(self) -> bool:
        return self.hidden > 0

    @property
    @override
    def _transformer(self) -> Transformer:
        return RationalQuadratic(self.bins, self.bound)
