"""A few rows in the place of all: which, and what the others add to second order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pymc as pm
from numpy.typing import NDArray

from pmflow.frames.build import FoundFrame, build_frame
from pmflow.frames.frame import Frame
from pmflow.ladder.expander import Expander
from pmflow.posterior.density import LogDensity, StreamedDensity, density_over
from pmflow.posterior.rows.choice import any_rows, chosen_by_size, remainders
from pmflow.posterior.rows.streamed import Chosen
from pmflow.posterior.rows.surrogate import RADIUS, Surrogate
from pmflow.watch import stage

__all__ = ["FewRows"]

_LEAST, _FOR_EACH_DIMENSION, _MORE = 8_192, 50, 4
"""Rows of each table, for each dimension at least, and how many times as many where they were too
few."""
_STEPS = 2
"""Draws by which the remainders of rows are told, of those of a fit."""
_FOR_SIZE, _LEAST_SIZE, _TINY = 4_096, 0.1, 1e-200
"""Rows by which a usual remainder is told; what share of that a row of none counts as, as it may
have one at other draws; and a number above 0."""
_QUIET = 0.002
"""Nats: noise of the sum of remainders below which rows are chosen at random."""
_FOR_CURVATURE, _FOR_EACH_PAIR = 262_144, 400
"""Rows by which second derivatives are told where nearly all variables meet, and for each pair of
them: then the density is off by 0.04 nats."""

type Floats = NDArray[np.float64]


class FewRows:
    """A density of a few rows, with the expansion of the others.

    Parameters
    ----------
    density : StreamedDensity
        By all rows.
    seed : int

    Attributes
    ----------
    density
        As given.
    last : Frame or None
        The last mode that was found.
    """

    def __init__(self, density: StreamedDensity, seed: int) -> None:
        self.density, self._seed = density, seed
        self._rng = np.random.default_rng(seed)
        self._kind = "laplace"
        self.last: Frame | None = None
        self._expander = Expander.for_rows(density)
        self._take_place(max(_LEAST, _FOR_EACH_DIMENSION * density.dim))

    def _take_place(self, least: int) -> None:
        """Make place for so many rows of each table."""
        self._least = least
        sizes = [self._least] * len(self.density.sums)
        self._surrogate = Surrogate(self.density, sizes, self._expander.entries)
        self._fitted = density_over(self._surrogate.model, self.density.ordering, changes=True)

    @property
    def model(self) -> pm.Model:
        """The model of these rows, of the same variables."""
        return self._surrogate.model

    @property
    def fitted(self) -> LogDensity:
        """The density of that model."""
        return self._fitted

    @property
    def is_sparse(self) -> bool:
        """Whether some second derivatives are known to be 0."""
        return self._expander.is_sparse

    @property
    def number(self) -> int:
        """How many rows are used."""
        return sum(self._surrogate.sizes)

    @property
    def total(self) -> int:
        """How many there are."""
        return self.density.number_of_rows

    def take_any(self) -> list[Chosen]:
        """Put rows at random into it, which alone make the likelihood."""
        chosen = [
            any_rows(size, len(one.table), self._rng)
            for size, one in zip(self._surrogate.sizes, self.density.sums, strict=True)
        ]
        self.take(chosen)
        return chosen

    def take(self, chosen: Sequence[Chosen]) -> None:
        """Put rows into it, which alone make the likelihood."""
        self._surrogate.hold(chosen)

    def make_place(self) -> None:
        """Make place for more rows; none are in it then."""
        self._take_place(self._least * _MORE)

    def take_more(self, draws: Floats) -> None:
        """Use more rows, chosen by what they differ in at draws of a fit, and expand around it.

        Parameters
        ----------
        draws : ndarray, shape (n, dim)
            Unconstrained.
        """
        self.make_place()
        factor = draws.std(0)
        if len(draws) > 2 * draws.shape[1] and not self._expander.is_sparse:
            factor = np.linalg.cholesky(np.atleast_2d(np.cov(draws.T)))
        with stage("Looking at the rows"):
            self.expand(Frame(draws.mean(0), factor), draws[:_STEPS])

    def mode(self, start: Floats) -> Frame:
        """Where the density of these rows has its mode; where it has none, its mean.

        Parameters
        ----------
        start : ndarray, shape (dim,)
            Unconstrained.
        """
        found = self.search(start)
        if found is not None and self._kind == "laplace" != found.begun.kind:
            self._kind = "gaussian"  # where one start has no mode, none has
            found = self.search(start)
        return Frame(start, np.ones(len(start))) if found is None else found.frame

    def search(self, start: Floats, known: Sequence[FoundFrame] = ()) -> FoundFrame | None:
        """What a search by these rows finds from a start; see `build_frame`."""
        found = build_frame(self._kind, self._fitted, start, self._seed, known)
        self.last = self.last if found is None else found.frame
        return found

    def expand(self, frame: Frame, draws: Floats) -> None:
        """Choose rows by what their expansion leaves at draws, and add the others'.

        Parameters
        ----------
        frame : Frame
            Around whose centre, and in whose sds.
        draws : ndarray, shape (n, dim)
            Unconstrained.
        """
        chosen = []
        for size, one in zip(self._surrogate.sizes, self.density.sums, strict=True):
            look = partial(remainders, one, frame.loc, draws - frame.loc)
            some = any_rows(_FOR_SIZE, len(one.table), self._rng)
            usual = np.concatenate(list(look(some)))
            noise = len(one.table) * np.sqrt((usual**2).mean() / size)
            if noise < _QUIET:  # any rows would do
                chosen.append(any_rows(size, len(one.table), self._rng))
                continue
            least = _LEAST_SIZE * usual[np.isfinite(usual)].mean() + _TINY
            chosen.append(chosen_by_size(look(), least, size, self._rng))
        self.take(chosen)
        if self.number < self.total:
            self.correct(frame, chosen, self._for_curvature(), RADIUS)

    def _for_curvature(self) -> list[Chosen | None]:
        """Rows for second derivatives: all, where few variables meet or there are not too many."""
        if self._expander.is_sparse:
            return [None] * len(self.density.sums)
        most = max(_FOR_CURVATURE, _FOR_EACH_PAIR * self.density.dim**2)
        tables = [one.table for one in self.density.sums]
        return [
            None if len(table) <= most else any_rows(most, len(table), self._rng)
            for table in tables
        ]

    def correct(
        self,
        frame: Frame,
        chosen: Sequence[Chosen],
        for_curvature: Sequence[Chosen | None],
        radius: float,
    ) -> float:
        """Add what all rows have more than those chosen, to second order.

        Parameters
        ----------
        frame : Frame
            Around whose centre, and in whose sds.
        chosen : sequence of Chosen
            Those that are in it.
        for_curvature : sequence of Chosen or None
            Those that second derivatives are told by; None for all.
        radius : float
            In sds.

        Returns
        -------
        float
            The sum over all rows at the centre.
        """
        expand = self._expander.at
        some = expand(partial(self._slope, chosen), frame)
        every = expand(
            partial(self._slope, [None] * len(chosen)),
            frame,
            with_curvature=not any(for_curvature),
        )
        if any(for_curvature):
            more = expand(partial(self._slope, for_curvature), frame)
            every = replace(every, curvature=more.curvature)
        self._surrogate.correct(frame.loc, frame.sds, frame.factor, every, some, radius)
        return every.value

    def _slope(self, chosen: Sequence[Chosen | None], z: Floats) -> tuple[Floats, Floats]:
        """Value and gradient of the sum over rows, at points of shape (n, dim)."""
        pairs = zip(self.density.sums, chosen, strict=True)
        values, gradients = zip(
            *(one.value_and_gradient(z, some) for one, some in pairs), strict=True
        )
        return np.sum(values, axis=0), np.sum(gradients, axis=0)
