"""The cheapest way to second derivatives of a density."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from pmflow.embedded.colours import Colours
from pmflow.embedded.curvature import AbstractCurvature, Differences
from pmflow.embedded.factors import Factors
from pmflow.embedded.lifted import Lifted
from pmflow.embedded.predictors import NotLiftedError
from pmflow.embedded.wide import Wide, WideCurvature
from pmflow.posterior.graph_density import GraphDensity
from pmflow.watch import piece, stage

__all__ = ["curvature_for"]

_WORTH_LIFTING = 1e9
"""Numbers that the density goes through for all of them, from which on predictors are sought."""
_SHARE_LIFTED = 0.5
"""Of the gradients of plain differences, at which the way through predictors is taken."""

_log = logging.getLogger("pmflow")


def curvature_for(
    density: GraphDensity,
    inner: NDArray[np.int64],
    factors: Factors,
    wanted: int,
    wide: Wide | None,
) -> AbstractCurvature:
    """Minus the second derivatives by some entries of the latent vector.

    Parameters
    ----------
    density : GraphDensity
    inner : ndarray
        Places of the entries.
    factors : Factors
        Of their pattern.
    wanted : int
        How many curvatures are.
    wide : Wide, optional
        The sums of the density that are no part of the pattern.
    """
    if wide is not None:
        return WideCurvature(wide, inner, _beside_sums(wide.lifted, inner, factors, wanted))
    return _beside_sums(density, inner, factors, wanted)


def _beside_sums(
    density: GraphDensity, inner: NDArray[np.int64], factors: Factors, wanted: int
) -> AbstractCurvature:
    colours = Colours.of_pattern(factors.pattern, factors.rows, factors.columns)
    plain = Differences(density, inner, colours)
    if plain.gradients * density.work * wanted < _WORTH_LIFTING:
        return plain
    try:
        with stage("Reading the model"), piece("reading how predictors are made up"):
            lifted = Lifted(density, inner, factors)
    except NotLiftedError as error:
        _log.debug("No second derivatives through predictors: %s", error)
        return plain
    return lifted if lifted.gradients < _SHARE_LIFTED * plain.gradients else plain
