"""The mode that all rows have, by passes over them and searches by a few."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from pmflow.family.placed_flow import START_SPREAD
from pmflow.frames.build import FoundFrame
from pmflow.frames.frame import Frame
from pmflow.ladder.few_rows import FewRows
from pmflow.ladder.mirrors import Mirrors
from pmflow.posterior.rows.order import Drift, drift_of
from pmflow.posterior.rows.streamed import Chosen
from pmflow.posterior.rows.surrogate import RADIUS
from pmflow.watch import stage

__all__ = ["Centre", "settle"]

_log = logging.getLogger("pmflow")

_PASSES, _NEAR, _NEARER = 8, 0.3, 0.7
"""Passes over all rows until the centre moves by less, in sds; it is to move by so much less each
time."""
_MOST = 300_000
"""Rows beyond which no more are taken to come nearer: around what was found there is an expansion
too."""
_ROUGH_WORK = 5e9
"""Numbers that all rows may go through for second derivatives on the way."""
_SEARCH_WORK, _FEWEST_STARTS = 8e9, 2
"""Numbers that the density of few rows may go through for modes before no third start is taken."""
_DRAWS = 50
"""By which modes are compared."""
_STEPS = 2
"""Draws by which it is told how far rows are from their expansions."""

type Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Centre:
    """What the way to the mode of all rows has told.

    Attributes
    ----------
    missed : float
        Share of the evidence that is in modes elsewhere, as far as some starts show any.
    drifts : tuple of Drift
        Of tables whose rows differ along their order.
    """

    missed: float = 0.0
    drifts: tuple[Drift, ...] = ()


def settle(rows: FewRows, start: Floats, mirrors: Mirrors, starts: int, seed: int) -> Centre:
    """Expand some rows around the mode that all of them have.

    Parameters
    ----------
    rows : FewRows
    start : ndarray, shape (dim,)
        Where the search begins, unconstrained.
    mirrors : Mirrors
        Is told the symmetries of the model.
    starts : int
        From how many modes are looked for.
    seed : int
    """
    rng = np.random.default_rng(seed)
    with stage("Looking at the rows"):
        rows.density.check_apart(start)
        chosen = rows.take_any()
        frame, *others = _modes(rows, _starts(start, starts, rng), mirrors, rng)
        while rows.number < rows.total:
            frame, has_settled = _approach(rows, rows.mode(frame.loc), chosen)
            if has_settled or rows.number >= _MOST:
                break
            rows.make_place()
            chosen = rows.take_any()
        else:
            return Centre()  # all rows are in it
        missed = _share_of(others, rows, chosen, frame)
        drifts = (drift_of(one, frame.loc, frame.factor) for one in rows.density.sums)
        found = tuple(one for one in drifts if one is not None)
        rows.expand(frame, frame.forward(rng.standard_normal((_STEPS, frame.dim))))
    return Centre(missed, found)


def _starts(start: Floats, number: int, rng: np.random.Generator) -> list[Floats]:
    others = rng.uniform(-START_SPREAD, START_SPREAD, (number - 1, len(start)))
    return [start, *(start + others)]


def _modes(
    rows: FewRows, starts: Sequence[Floats], mirrors: Mirrors, rng: np.random.Generator
) -> list[Frame]:
    """The modes of some rows, the one first that is the highest by all."""
    found: list[FoundFrame] = []
    for number, start in enumerate(starts):
        if number >= _FEWEST_STARTS and rows.fitted.spent > _SEARCH_WORK:
            break
        one = rows.search(start, found)
        if one is not None and all(one is not other for other in found):
            found.append(one)
    frames = [one.begun for one in found] or [Frame(starts[0], np.ones(len(starts[0])))]
    noise = rng.standard_normal((_DRAWS, frames[0].dim))
    draws = [one.forward(noise) for one in frames]
    mirrors.look(rows.fitted, draws[0])
    frames = [frames[i] for i in mirrors.distinct(draws)]
    if len(frames) == 1:
        return frames
    heights = rows.density.value(np.array([one.loc for one in frames]))
    # a mode of some rows is about that far below one of all
    least = heights.max() - frames[0].dim * rows.total / rows.number
    return [frames[i] for i in np.argsort(-heights) if heights[i] >= least]


def _approach(rows: FewRows, frame: Frame, chosen: Sequence[Chosen]) -> tuple[Frame, bool]:
    """The mode of all rows by passes over them, from that of some; whether it was reached."""
    radius, before = RADIUS * np.sqrt(rows.total / rows.number), np.inf
    work = 2 * frame.dim * rows.density.work
    is_quick = rows.is_sparse or work < _ROUGH_WORK
    for_curvature: Sequence[Chosen | None] = [None] * len(chosen) if is_quick else chosen
    last = frame
    for _ in range(_PASSES):
        if not np.isfinite(rows.correct(frame, chosen, for_curvature, radius)):
            return last, False
        new, last = rows.mode(frame.loc), frame
        moved = float(np.abs((new.loc - frame.loc) / frame.sds).max())
        frame = new
        _log.debug("By %d rows the centre moved by %.2g sd", rows.number, moved)
        if moved < _NEAR:
            return frame, True
        if moved > _NEARER * before:
            break
        before = moved
    return frame, False


def _share_of(
    others: Sequence[Frame], rows: FewRows, chosen: Sequence[Chosen], frame: Frame
) -> float:
    """The share of the evidence that is in other modes, by their curvature."""
    evidence = [_evidence(rows, frame)]
    for other in others:
        rows.take(chosen)
        there, has_settled = _approach(rows, rows.mode(other.loc), chosen)
        is_same = np.abs((there.loc - frame.loc) / frame.sds).max() < 1
        if has_settled and not is_same:
            evidence.append(_evidence(rows, there))
    return float(1 - softmax(evidence)[0])


def _evidence(rows: FewRows, frame: Frame) -> float:
    return float(rows.density.value(frame.loc[None])[0]) + frame.log_det
