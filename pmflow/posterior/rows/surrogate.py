"""A model in whose place one of many rows is fitted: some rows, and of the others an expansion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.graph.replace import clone_replace
from pytensor.tensor.variable import TensorVariable

from pmflow.graphs.labelled import without_dims
from pmflow.posterior.density import StreamedDensity
from pmflow.posterior.rows.block import Block
from pmflow.posterior.rows.expansion import Entries, Expansion
from pmflow.posterior.rows.streamed import Chosen
from pmflow.posterior.rows.twin import twin_of

__all__ = ["RADIUS", "Surrogate", "latent_of"]

RADIUS = 10.0
"""How far rows count by themselves, in sds: beyond that, by their expansion alone."""

_POWER = 4
"""How abruptly a point stays behind at the radius: at half of it, by a thousandth."""

type Floats = NDArray[np.float64]


class Surrogate:
    r"""A model with the rows of minibatches replaced by a few of them.

    .. math:: \log \tilde p(z) = \log p_0(z) + Q(z) + \sum_{i \in S} w_i \ell_i(z') - Q_S(z')

    where :math:`Q` is the expansion to second order of the sum over all rows at a centre, and
    :math:`Q_S` that of the weighted sum over :math:`S`: the difference estimator of Quiroz, Kohn,
    Villani & Tran (2019, https://doi.org/10.1080/01621459.2018.1448827) on rows that stay the same.
    Only what a row has beyond second order is left to chance, and with more rows that becomes less,
    as the posterior is narrower. Near the centre :math:`z' = z`; far away, where an expansion has
    no meaning, :math:`z'` stays behind, so that what is left to chance ends there.

    Parameters
    ----------
    density : StreamedDensity
        Of the model with all rows.
    sizes : sequence of int
        How many rows of each table there is place for.
    entries : Entries, optional
        Where second derivatives of rows can be other than 0; anywhere by default.

    Attributes
    ----------
    model : pymc.Model
        Of the same variables.
    sizes : list of int
        As given, rounded up to minibatches, or fewer where there are no more rows.
    """

    def __init__(
        self, density: StreamedDensity, sizes: Sequence[int], entries: Entries | None = None
    ) -> None:
        dim = density.dim
        tables = [one.table for one in density.sums]
        pairs = zip(tables, sizes, strict=True)
        self._tables = tables
        self._blocks = [Block(table, min(size, len(table))) for table, size in pairs]
        self.sizes = [
            min(block.size, len(table)) for block, table in zip(self._blocks, tables, strict=True)
        ]
        shape = (dim, dim) if entries is None else (len(entries.rows),)
        self._entries = entries
        self._centre, self._units = (
            pytensor.shared(fill(dim), shape=(dim,)) for fill in (np.zeros, np.ones)
        )
        white = dim if entries is None else 0
        self._whitening = pytensor.shared(np.eye(white), shape=(white, white))
        self._radius, self._value = (
            pytensor.shared(np.array(np.inf)),
            pytensor.shared(np.array(0.0)),
        )
        self._free, self._bounded = (
            (
                pytensor.shared(np.zeros(dim), shape=(dim,)),
                pytensor.shared(np.zeros(shape), shape=shape),
            )
            for _ in range(2)
        )
        z, _ = density.rest
        values = latent_of(density.model, density.ordering).astype(z.dtype)
        y = (values - self._centre) / self._units
        near = y * self._held_back(y)
        rows = sum((block.total for block in self._blocks[1:]), self._blocks[0].total)
        (rows,) = clone_replace(
            [rows], {z: self._centre + self._units * near}, rebuild_strict=False
        )
        likelihood = rows + self._value + self._second(self._free, y)
        likelihood = likelihood + self._second(self._bounded, near)
        self.model: pm.Model = twin_of(density.model, density.in_rows, likelihood)

    def _held_back(self, y: TensorVariable) -> TensorVariable:
        """By what share a point stays behind: all of it, so that its direction stays as it is.

        Or each coordinate by itself, where which of them meet has to stay as it is.
        """
        if self._entries is None:
            ratio = ((self._whitening @ y) ** 2).sum() / self._radius**2
        else:
            ratio = (y / self._radius) ** 2
        return (1 + ratio**_POWER) ** (-1 / (2 * _POWER))

    def _second(self, shared: Any, y: TensorVariable) -> TensorVariable:
        gradient, curvature = shared
        if self._entries is None:
            return gradient @ y + y @ (curvature @ y) / 2
        pairs = y[self._entries.rows] * y[self._entries.columns]
        return gradient @ y + (curvature * self._entries.shares * pairs).sum()

    def hold(self, chosen: Sequence[Chosen]) -> None:
        """Put rows into it, some of each table, which alone make the likelihood."""
        for block, table, rows in zip(self._blocks, self._tables, chosen, strict=True):
            block.hold(table.take(rows.indices), table.share * rows.weights)
        self._radius.set_value(np.array(np.inf))
        for held in (self._value, *self._free, *self._bounded):
            held.set_value(np.zeros_like(held.get_value()))

    def correct(
        self,
        centre: Floats,
        units: Floats,
        factor: Floats,
        every: Expansion,
        some: Expansion,
        radius: float,
    ) -> None:
        """Add what the rows that are not held have more, to second order.

        Parameters
        ----------
        centre, units : ndarray, shape (dim,)
            Of the expansions: a coordinate counts from the centre, in its unit.
        factor : ndarray, shape (dim, dim) or (dim,)
            Of the covariance of the posterior, as far as it is known.
        every, some : Expansion
            Of the sum over all rows, and of that over those held.
        radius : float
            How far what is left to chance reaches: in sds along each coordinate, or, where all of
            them may meet, how much further than draws of the posterior are.
        """
        falls, rises = _by_sign(every.curvature)
        pairs = [
            *self._whitened(units, factor, radius),
            (self._centre, np.asarray(centre, dtype=float)),
            (self._units, np.asarray(units, dtype=float)),
            (self._value, np.array(every.value - some.value)),
            *zip(self._free, (every.gradient, falls), strict=True),
            *zip(self._bounded, (-some.gradient, rises - some.curvature), strict=True),
        ]
        for held, value in pairs:
            held.set_value(value)

    def _whitened(
        self, units: Floats, factor: Floats, radius: float
    ) -> list[tuple[Any, NDArray[np.float64]]]:
        if self._entries is not None:
            return [(self._radius, np.array(radius))]
        root = np.diag(factor) if factor.ndim == 1 else factor
        whitening = np.linalg.inv(root / units[:, None])
        length = radius * (1 + np.sqrt(len(units)) / RADIUS)
        return [(self._whitening, whitening), (self._radius, np.array(length))]


def _by_sign(curvature: Floats) -> tuple[Floats, Floats]:
    """Second derivatives as a part along which the sum falls everywhere, and one where it rises.

    A sparse one is taken as it is: near a mode priors alone seldom make it one.
    """
    if curvature.ndim == 1:
        return curvature, np.zeros_like(curvature)
    values, vectors = np.linalg.eigh(curvature)
    rises = (vectors * np.maximum(values, 0.0)) @ vectors.T
    return curvature - rises, rises


def latent_of(model: pm.Model, ordering: Any) -> TensorVariable:
    """The latent vector as a graph of the value variables."""
    places = sorted((place.start, name) for name, (_, place, *_) in ordering.items())
    values = {value.name: value for value in model.value_vars}
    return pt.concatenate([without_dims(values[name]).ravel() for _, name in places])
