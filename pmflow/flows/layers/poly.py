"""The polynomial layer: the integral of a sum of squares for every coordinate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, override

from pmflow.flows.layers.autoregressive import AbstractNetworkAutoregressive
from pmflow.flows.scalar.base import Transformer
from pmflow.flows.scalar.sum_of_squares import SumOfSquares

__all__ = ["Polynomial"]


_MOST_DEGREE, _MOST_TERMS = 10, 20
"""Limits of the sums of squares: each product of two coefficients is a part of the graph."""


@dataclass(frozen=True)
class Polynomial(AbstractNetworkAutoregressive):
    r"""Sum-of-squares polynomial flow (Jaini et al., 2019, https://arxiv.org/abs/1905.02325).

    .. math:: z'_i = c_i + \int_0^{z_i} \Bigl(\epsilon + (1 - \epsilon)
              \sum_k p_{ik}(t)^2\Bigr)\,dt

    with polynomials whose coefficients come from a MADE of the coordinates before i;
    :math:`\epsilon = 10^{-3}`. Far out :math:`z'` grows as :math:`z^{2r+1}` with the degree
    :math:`r`: from ``degree=2`` on, a draw in the tail can throw a whole fit off. Keep it at 1, and
    add layers instead.

    Parameters
    ----------
    hidden, depth, activation
        Options of the network, as for `IAF`.
    degree : int
        Degree of the polynomials that are squared, 10 at most.
    terms : int
        How many squares are added, 20 at most.

    Notes
    -----
    Parameters of the flow, unconstrained: those of the network as for `IAF`, without ``rho``;
    ``bias`` has the shape ``(1 + terms * (degree + 1), dim)``: the shift, then the coefficients of
    each polynomial, the constant first. They start at the identity.
    """

    word: ClassVar[str] = "poly"
    mixes: ClassVar[bool] = True

    degree: int = 1
    terms: int = 2

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.degree <= _MOST_DEGREE:
            raise ValueError(f"degree must be from 0 to {_MOST_DEGREE}, got {self.degree}.")
        if not 1 <= self.terms <= _MOST_TERMS:
            raise ValueError(
                f"terms must be from 1 to {_MOST_TERMS}, the squares that are added, got "
                f"{self.terms}."
            )

    @property
    @override
    def _transformer(self) -> Transformer:
        return SumOfSquares(self.degree, self.terms)
