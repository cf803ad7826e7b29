"""A few rows in the place of all: which, and what the others add to second order."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pymc as pm
from numpy.typing import NDArray
from scipy.special import softmax

from pmflow.family.placed_flow import START_SPREAD
from pmflow.frames.build import FoundFrame, build_frame
from pmflow.frames.frame import Frame
from pmflow.ladder.expander import Expander
from pmflow.ladder.mirrors import Mirrors
from pmflow.posterior.density import LogDensity, StreamedDensity, density_over
from pmflow.posterior.rows.choice import any_rows, chosen_by_size, remainders
from pmflow.posterior.rows.order import Drift, drift_of
from pmflow.posterior.rows.streamed import Chosen
from pmflow.posterior.rows.surrogate import Surrogate
from pmflow.watch import stage

__all__ = ["FewRows"]

_log = logging.getLogger("pmflow")

_LEAST, _FOR_EACH_DIMENSION, _MORE = 8_192, 50, 4
"""Rows of each table, for each dimension at least, and how many times as many where they were too
few."""
_PASSES, _NEAR, _NEARER = 8, 0.3, 0.7
"""Passes over all rows until the centre moves by less, in sds; it is to move by so much less each
time."""
_SEARCH_WORK, _FEWEST_STARTS = 8e9, 2
"""Numbers that the density of few rows may go through for modes before no third start is taken."""
_DRAWS, _POINTS = 50, 3
"""By which modes are compared, and points at which a symmetry must hold."""
_STEPS = 2
"""Draws by which the remainders of rows are told, each ahead and back."""
_FOR_SIZE, _LEAST_SIZE, _TINY = 4_096, 0.1, 1e-200
"""Rows by which a usual remainder is told; what share of that a row of none counts as, as it may
have one at other draws; and a number above 0."""
_QUIET = 0.002
"""Nats: noise of the sum of remainders below which rows are chosen at random."""
_FOR_CURVATURE, _FOR_EACH_PAIR = 262_144, 400
"""Rows by which second derivatives are told where nearly all variables meet, and for each pair of
them: then the density is off by 0.04 nats."""
_RADIUS = 10.0
"""How far rows count by themselves, in sds: beyond that, by their expansion alone."""

type Floats = NDArray[np.float64]


class FewRows:
    """A density of a few rows, with the expansion of the others.

    Parameters
    ----------
    density : StreamedDensity
        By all rows.
    start : ndarray, shape (dim,)
        Where the search for a centre begins, unconstrained.
    seed : int

    Attributes
    ----------
    density
        As given.
    missed : float
        Share of the evidence that is in modes elsewhere, as far as some starts show any.
    drifts : list of Drift
        Of tables whose rows differ along their order.
    """

    def __init__(self, density: StreamedDensity, start: Floats, seed: int) -> None:
        self.density, self._start, self._seed = density, start, seed
        self._rng = np.random.default_rng(seed)
        self._expander = Expander.for_rows(density)
        self.missed, self.drifts = 0.0, list[Drift]()
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
        return sum(len(one.table) for one in self.density.sums)

    def find_centre(self, mirrors: Mirrors, starts: int) -> None:
        """Put rows at random into it, and go to the mode that all rows have; expand there.

        Parameters
        ----------
        mirrors : Mirrors
            Is told the symmetries of the model.
        starts : int
            From how many the modes are looked for.
        """
        with stage("Looking at the rows"):
            chosen = self._any()
            frame, *others = self._modes(mirrors, starts)
            has_settled = False
            while not has_settled:
                if self.number == self.total:
                    return
                frame, has_settled = self._settled(self._mode(frame.loc), chosen)
                if not has_settled:  # these rows are too few to come nearer by
                    self._take_place(self._least * _MORE)
                    chosen = self._any()
            self.missed = self._evidence_of(others, chosen, frame)
            found = (drift_of(one, frame.loc, frame.factor) for one in self.density.sums)
            self.drifts = [one for one in found if one is not None]
            draws = self._rng.standard_normal((_STEPS, frame.dim))
            self._expand(frame, frame.forward(draws))

    def _any(self) -> list[Chosen]:
        """Rows at random, alone."""
        chosen = [
            any_rows(size, len(one.table), self._rng)
            for size, one in zip(self._surrogate.sizes, self.density.sums, strict=True)
        ]
        self._surrogate.hold(chosen)
        return chosen

    def _modes(self, mirrors: Mirrors, starts: int) -> list[Frame]:
        """The modes of these rows, the one first that is the highest by all rows."""
        found: list[FoundFrame] = []
        for number in range(starts):
            if number >= _FEWEST_STARTS and self._fitted.spent > _SEARCH_WORK:
                break
            spread = START_SPREAD * min(number, 1)
            start = self._start + self._rng.uniform(-spread, spread, self.density.dim)
            one = build_frame("laplace", self._fitted, start, self._seed, found)
            if one is not None and all(one is not other for other in found):
                found.append(one)
        frames = [one.begun for one in found] or [Frame(self._start, np.ones(self.density.dim))]
        noise = self._rng.standard_normal((_DRAWS, self.density.dim))
        mirrors.look(self._fitted, frames[0].forward(noise[:_POINTS]))
        frames = [frames[i] for i in mirrors.distinct([one.forward(noise) for one in frames])]
        if len(frames) == 1:
            return frames
        heights = self.density.value(np.array([one.loc for one in frames]))
        # a mode of some rows is that far below one of all
        enough = heights.max() - self.density.dim * self.total / self.number
        order = [i for i in np.argsort(-heights) if heights[i] >= enough]
        return [frames[i] for i in order]

    def _evidence_of(
        self, others: Sequence[Frame], chosen: Sequence[Chosen], frame: Frame
    ) -> float:
        """The share of the evidence that is in other modes, by their curvature."""
        evidence = [self._evidence(frame)]
        for other in others:
            self._surrogate.hold(chosen)
            there, has_settled = self._settled(self._mode(other.loc), chosen)
            is_same = np.abs((there.loc - frame.loc) / frame.sds).max() < 1
            if has_settled and not is_same:
                evidence.append(self._evidence(there))
        return float(1 - softmax(evidence)[0])

    def _evidence(self, frame: Frame) -> float:
        return float(self.density.value(frame.loc[None])[0]) + frame.log_det

    def _settled(self, frame: Frame, chosen: Sequence[Chosen]) -> tuple[Frame, bool]:
        """The mode of all rows by passes over them, from that of some; whether it was reached."""
        radius, before = _RADIUS * np.sqrt(self.total / self.number), np.inf
        for _ in range(_PASSES):
            rough: Sequence[Chosen | None] = [None] * len(chosen) if self.is_sparse else chosen
            self._correct(frame, chosen, rough, radius)
            new = self._mode(frame.loc)
            moved = float(np.abs((new.loc - frame.loc) / frame.sds).max())
            frame = new
            _log.debug("By %d rows the centre moved by %.2g sd", self.number, moved)
            if moved < _NEAR:
                return frame, True
            if moved > _NEARER * before:
                break
            before = moved
        return frame, False

    def take_more(self, draws: Floats) -> None:
        """Use more rows, chosen by what they differ in at draws of a fit, and expand around it.

        Parameters
        ----------
        draws : ndarray, shape (n, dim)
            Unconstrained.
        """
        self._take_place(self._least * _MORE)
        factor = draws.std(0)
        if len(draws) > 2 * draws.shape[1] and not self._expander.is_sparse:
            factor = np.linalg.cholesky(np.atleast_2d(np.cov(draws.T)))
        with stage("Looking at the rows"):
            self._expand(Frame(draws.mean(0), factor), draws[:_STEPS])

    def _mode(self, start: Floats) -> Frame:
        """Where the density of these rows has its mode, or else its mass."""
        found = build_frame("laplace", self._fitted, start, self._seed)
        return Frame(start, np.ones(len(start))) if found is None else found.begun

    def _expand(self, frame: Frame, draws: Floats) -> None:
        """Choose rows by what their expansion leaves at draws, and add the others'."""
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
        self._surrogate.hold(chosen)
        if self.number < self.total:
            self._correct(frame, chosen, self._for_curvature(), _RADIUS)

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

    def _correct(
        self,
        frame: Frame,
        chosen: Sequence[Chosen],
        for_curvature: Sequence[Chosen | None],
        radius: float,
    ) -> None:
        """Add what all rows have more than those chosen, with second derivatives by others."""
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
        self._surrogate.correct(frame.loc, frame.sds, every, some, radius)

    def _slope(self, chosen: Sequence[Chosen | None], z: Floats) -> tuple[Floats, Floats]:
        """Value and gradient of the sum over rows, at points of shape (n, dim)."""
        pairs = zip(self.density.sums, chosen, strict=True)
        values, gradients = zip(
            *(one.value_and_gradient(z, some) for one, some in pairs), strict=True
        )
        return np.sum(values, axis=0), np.sum(gradients, axis=0)
