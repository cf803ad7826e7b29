"""Fits from several starts: how far they agree, and what is made of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pymc.util import RandomState

from pmflow.errors import NonFiniteError, ParameterError
from pmflow.family.approximation import Approximation
from pmflow.family.normalizing_flow import NormalizingFlow
from pmflow.family.stack import Stack
from pmflow.family.state import FlowPoint
from pmflow.posterior.at_points import unconstrained_parts
from pmflow.posterior.export import Samples
from pmflow.records import FitState, State
from pmflow.starts.agreement import starts_agreement
from pmflow.watch import Stopped, grace, tick

__all__ = ["NoMoreStarts", "StartsState", "fit_from_starts", "sample_starts"]

_log = logging.getLogger("pmflow")

_DRAWS, _FEW_DRAWS = 2000, 100
"""How many draws of each start they are compared by, and where the density is slow."""
_WORK = 5e9
"""Numbers that the density may go through for them: some seconds."""


type Aligned = Callable[[list[NDArray[np.float64]]], list[NDArray[np.float64]]]


class NoMoreStarts(Exception):
    """Raised by a move where the starts so far have cost enough."""


@dataclass(frozen=True, eq=False)
class StartsState(State):
    """Where fits from several starts are.

    Attributes
    ----------
    number : int
        The number of the start that is under way, from 0.
    points : tuple of FlowPoint
        Where the fits before it have ended.
    fit_states : tuple of FitState or None
    draw_seeds : tuple of int
        Seeds of the draws that they are compared by.
    """

    number: int = 0
    points: tuple[FlowPoint, ...] = ()
    fit_states: tuple[FitState | None, ...] = ()
    draw_seeds: tuple[int, ...] = ()


def fit_from_starts(
    approx: NormalizingFlow,
    moves: Sequence[Callable[[], None]],
    combine: str,
    fit_once: Callable[[StartsState], FitState | None],
    begun: StartsState | None = None,
    aligned: Aligned = list,
) -> Approximation:
    """Fit from several starts, one after the other, by one compiled function.

    Parameters
    ----------
    approx : NormalizingFlow
        The first start is where it is.
    moves : sequence of callable
        Each takes `approx` to a further start, or raises `NoMoreStarts`.
    combine : {"best", "stack"}
    fit_once : callable
        Trains `approx` from where it is; is told how far the fits have come, and says how its own
        ended.
    begun : StartsState, optional
        How far they had come where they were broken off: the start that was under way goes on from
        where `approx` is.
    aligned : callable, optional
        Given draws of each start over the latent space, says what to compare them by: images of
        one mode are not several.

    Returns
    -------
    Approximation
        `approx` at the best one, or a `Stack`; `starts` says how far the fits agree. After an
        interrupt, of the starts so far.

    Raises
    ------
    NonFiniteError
        If no start had a finite loss; a start that fails beside others is left out.
    """
    at = begun or StartsState()
    if not moves:
        _receive(approx, fit_once(at))
        return approx
    resumed = begun is not None
    for number in range(at.number, len(moves) + 1):
        at = replace(at, number=number)
        try:
            if number and not resumed:
                moves[number - 1]()
                tick()  # what was stopped on its way to a start has none
            resumed = False
            state = fit_once(at)
        except NonFiniteError as error:
            if number == len(moves) and not at.points:
                raise
            _log.warning("Start %d is left out: %s", number, error)
            continue
        except NoMoreStarts:
            _log.info("The search is long: %d of %d starts are taken.", number, len(moves) + 1)
            break
        except KeyboardInterrupt:
            if not at.points:
                raise
            _log.warning("Stopped at start %d; the fits before it are kept.", number)
            break
        at = replace(
            at,
            points=(*at.points, approx.point),
            fit_states=(*at.fit_states, state),
            draw_seeds=(*at.draw_seeds, approx.next_seed()),
        )
        if state is not None and state.ended in ("interrupted", "time"):
            break
        if len(at.points) == 1:
            with suppress(Stopped):
                approx.draw(
                    1, 0, approx.judged_names
                )  # compiled now: after Ctrl-C there is no time
    try:
        with grace():
            return _combined(approx, at, combine, aligned)
    except Stopped:
        _log.warning("There was no time to compare %d fits; the first is kept.", len(at.points))
        return _combined(approx, replace(at, points=at.points[:1]), combine, aligned)


def _combined(
    approx: NormalizingFlow, at: StartsState, combine: str, aligned: Aligned
) -> Approximation:
    """The best one or all modes, of the fits that there are."""
    if len(at.points) < 2:
        approx.go_to(at.points[0])
        _receive(approx, at.fit_states[0])
        return approx
    size = approx.draws_within(_WORK / len(at.points), most=_DRAWS, least=_FEW_DRAWS)
    draws: list[Samples] = []
    for number, (point, seed) in enumerate(zip(at.points, at.draw_seeds, strict=True)):
        same = next((i for i in range(number) if at.points[i] == point), None)
        if same is None:
            approx.go_to(point)
            # by the function that a diagnosis will need
            draws.append(approx.draw(size, seed, approx.judged_names))
        else:
            draws.append(draws[same])
    # deterministics follow from what is free, and may be many
    points = aligned([drawn.latent for drawn in draws])
    starts = starts_agreement(
        [unconstrained_parts(z, approx.ordering) for z in points],
        [drawn.log_weights for drawn in draws],
    )
    approx.go_to(at.points[starts.best])
    report = replace(
        approx.report,
        fit_state=at.fit_states[starts.best],
        starts=starts,
        points=at.points,
    )
    approx.receive(report)
    if combine == "best" or len(set(starts.modes)) == 1:
        return approx
    modes = [(start, weight) for start, weight in starts.of_modes if weight > 0]
    return Stack(
        approx,
        [at.points[start] for start, _ in modes],
        [weight for _, weight in modes],
        replace(report, starts=replace(starts, stacked=True)),
    )


def _receive(approx: NormalizingFlow, state: FitState | None) -> None:
    approx.receive(replace(approx.report, fit_state=state, starts=None, points=()))


def sample_starts(approx: NormalizingFlow, draws: int, random_seed: RandomState) -> xr.DataTree:
    """Draws of the fit from each start, the start as the chain."""
    points: Any = approx.report.points
    if not points:
        raise ParameterError(
            "There is one start only. Fit with restarts=4 to have a chain for each start."
        )
    trees = approx.sample_at(points, draws, random_seed)
    joined = {
        name: xr.concat([tree[name].to_dataset() for tree in trees], dim="chain").assign_coords(
            chain=np.arange(len(trees))
        )
        for name in ("posterior", "sample_stats")
    }
    rest = {name: child for name, child in trees[0].children.items() if name not in joined}
    tree = xr.DataTree.from_dict({**joined, **rest})
    tree.attrs = dict(trees[0].attrs)
    return tree
