"""The neural autoregressive layer: a mixture of sigmoids for every coordinate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, override

from pmflow.flows.layers.autoregressive import AbstractNetworkAutoregressive
from pmflow.flows.scalar.base import Transformer
from pmflow.flows.scalar.sigmoidal import Sigmoidal

__all__ = ["NAF"]


@dataclass(frozen=True)
class NAF(AbstractNetworkAutoregressive):
    r"""Neural autoregressive flow (Huang et al., 2018, https://arxiv.org/abs/1804.00779).

    .. math:: z'_i = \mathrm{logit} \sum_k w_{ik}\,\mathrm{sigmoid}(a_{ik} z_i + b_{ik})

    the deep sigmoidal flow, in logs throughout: nothing is clipped. Weights, slopes and offsets of
    coordinate i come from a MADE of the coordinates before it. A universal approximator: it splits
    modes that planar layers and affine couplings only stretch.

    Cost: `units` exponentials per coordinate; the inverse takes `dim` passes and a bracketed root
    for each coordinate.

    Parameters
    ----------
    hidden, depth, activation
        Options of the network, as for `IAF`.
    units : int
        Sigmoids in each coordinate's mixture.

    Notes
    -----
    Parameters of the flow, unconstrained: those of the network as for `IAF`, without ``rho``;
    ``bias`` has the shape ``(3 * units, dim)``: logits of the weights, slopes, offsets. They start
    at the identity: all sigmoids of a mixture alike, with random weights.
    """

    word: ClassVar[str] = "naf"
    mixes: ClassVar[bool] = True

    units: int = 8

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        if self.units < 1:
            raise ValueError(f"units must be >= 1, the sigmoids of a mixture, got {self.units}.")

    @property
    @override
    def _transformer(self) -> Transformer:
        return Sigmoidal(self.units)
