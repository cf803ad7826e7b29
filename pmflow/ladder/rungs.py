"""The rungs of the ladder: what is tried for a model, from a Gaussian to richer flows.

A new rung is a class here, or another `FlowRung`, and a line in `RUNGS`.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import override

import numpy as np

from pmflow.family.approximation import Approximation
from pmflow.family.normalizing_flow import NormalizingFlow
from pmflow.family.resampled import Resampled
from pmflow.family.stack import Stack
from pmflow.family.state import FlowPoint
from pmflow.frames import MOST_DENSE
from pmflow.inference import NFVI
from pmflow.inference.checkpoint import Checkpoint, FitCheckpoint
from pmflow.judging.diagnosis import as_resampled
from pmflow.ladder.backend import with_backend
from pmflow.ladder.nested import NestedRung
from pmflow.ladder.reused import flow_in
from pmflow.ladder.rung import AbstractRung, AbstractSizedRung, Ground, NothingGained
from pmflow.ladder.sparse import SparseRung
from pmflow.records import FitState, Report
from pmflow.starts.restarts import NoMoreStarts, StartsState, fit_from_starts
from pmflow.training.fixed_draws import LEAST_EVALUATIONS, fit_on_fixed_draws
from pmflow.training.schedule_state import ScheduleSettings
from pmflow.watch import OutOfTime, watching, why_stopped

__all__ = [
    "RUNGS",
    "FlowRung",
    "GaussianRung",
    "QuickRung",
    "ResampledRung",
]

_JITTER = 0.01
_SCHEDULE = ScheduleSettings(window=100, most_windows=12, patience=1)
_SEARCH_WORK, _FEWEST_STARTS = 8e9, 2
"""Numbers that the density may go through in a search, half a minute or so, before it goes on from
a further start than the second."""
_TIMES_LONGER, _SHORTEST = 3.0, 3.0
"""How many times as long as the search from the first start one from a further start may take, and
the seconds that the first counts at least: on its way a density may be without end, as a series is
that does not converge."""
_MOST_BENT = 300
"""Dimensions up to which a map with parameters for each pair of coordinates is tried."""
_BENT_WORK, _BENT_WORK_IF_USABLE = 3e11, 3e10
"""Numbers that the density may go through for it at its fewest draws, and where weights lead to the
posterior already. A density of 300 correlated values in 46 dimensions takes 2e12."""
_NEAR, _NEARER, _NETWORKS = 3.0, 0.7, 12
"""Nats beyond which no network is tried, or no larger one, above so many dimensions: there the
larger one leaves about half of what the smaller one has left, and takes longer than all before it.
Of the public catalogue, none of twelve models that were 1.4 nats away and more came to a reliable
fit, in 17 to 128 s, and all of five that were within 0.7 did."""
_MIDDLE = 40
"""Dimensions above which integrating out is tried first: a search for a Gaussian takes longer."""
_SMALL = 7
"""Dimensions up to which maps of few parameters come before it: there are no hierarchies."""
_SMALL_WEIGHT = 0.01
"""Share of the evidence below which a mode gets no flow of its own."""


class GaussianRung(AbstractRung):
    """The Gaussian with the largest ELBO, found by natural gradients: nothing is trained."""

    name = "Gaussian"

    @override
    def applies(self, ground: Ground) -> bool:
        """Whether it applies: not where it has no correlations and another fit has."""
        return ground.dim <= MOST_DENSE or not ground.has_structured

    @override
    def climb(
        self, ground: Ground, file: Checkpoint | None, begun: FitCheckpoint | None
    ) -> Approximation:
        """The Gaussians of all modes that several starts find."""
        began = time.perf_counter()
        approx = NormalizingFlow(
            "scale-loc",
            model=ground.model,
            random_seed=ground.next_seed(),
            start=ground.start,
            jitter=0.0,
            frame="gaussian",
        )
        (flow,) = approx.groups
        longest = _TIMES_LONGER * max(time.perf_counter() - began, _SHORTEST)

        def move(number: int, seed: int) -> None:
            if number >= _FEWEST_STARTS and flow.log_density.spent > _SEARCH_WORK:
                raise NoMoreStarts
            with watching(seconds=longest) as watch:
                with suppress(OutOfTime):
                    flow.move(seed)
                is_lost = watch.left <= 0
            if is_lost:
                raise NoMoreStarts

        numbers = range(1, ground.options.restarts)
        moves = [partial(move, number, ground.next_seed()) for number in numbers]
        aligned = partial(ground.mirrors.aligned, approx)
        return fit_from_starts(approx, moves, "stack", lambda _: _found(approx), aligned=aligned)


def _found(approx: NormalizingFlow) -> FitState:
    """How the search for the Gaussian ended."""
    frame = approx.groups[0].frame
    if frame is None:
        return FitState(0, 0, "failed", "no point of finite density was found")
    ended = why_stopped() or "converged"
    return FitState(0, 0, ended, frame.note or "Gaussian, by natural gradients")


@dataclass(frozen=True)
class AbstractFlowRung(AbstractSizedRung):
    """A flow in the frame of the Gaussian, one for each mode that was found.

    Parameters
    ----------
    name : str
        The formula.
    """

    name: str


class QuickRung(AbstractFlowRung):
    """A flow of few parameters, fitted by a quasi-Newton method: nothing is trained.

    Its limits: docs/auto.md.
    """

    @override
    def applies(self, ground: Ground) -> bool:
        """Whether it applies: not where it takes minutes, or half a minute and weights would do."""
        if not super().applies(ground):
            return False
        _, found = ground.best
        is_usable = found is not None and found.verdict != "not reliable"
        work = ground.gaussian.groups[0].log_density.work
        return work * LEAST_EVALUATIONS < (_BENT_WORK_IF_USABLE if is_usable else _BENT_WORK)

    @override
    def climb(
        self, ground: Ground, file: Checkpoint | None, begun: FitCheckpoint | None
    ) -> Approximation:
        """Fit the flow at each mode on fixed draws; together they are a Stack."""
        points = _modes(ground.gaussian)
        seed, start = ground.next_seed(), ground.start
        approx = flow_in(points[0].frame, self.name, ground.model, seed, start)
        (flow,) = approx.groups
        moves = [partial(flow.move_to, p.frame, ground.next_seed()) for p in points[1:]]
        losses, has_moved = [], []

        def fit_once(_: StartsState) -> FitState | None:
            begin = [param.get_value() for param in flow.params]
            outcome = fit_on_fixed_draws(flow, flow.log_density, approx.next_seed())
            losses.append(outcome.losses)
            now = [param.get_value() for param in flow.params]
            has_moved.append(not all(map(np.array_equal, begin, now)))
            return outcome.fit_state

        result = fit_from_starts(approx, moves, "stack", fit_once)
        if not any(has_moved):
            raise NothingGained("no better than the Gaussian")
        report = replace(result.report, hist=np.concatenate(losses))
        return _with_starts(result, report, ground.gaussian, is_one=not moves)


class ResampledRung(AbstractRung):
    """The best fit so far as a proposal: draws that are weighted and chosen anew."""

    name = "resampled"

    @override
    def applies(self, ground: Ground) -> bool:
        """Whether it applies: where weights lead to the posterior."""
        best, found = ground.best
        is_usable = found is not None and found.verdict != "not reliable"
        return is_usable and not best.is_resampled

    @override
    def climb(
        self, ground: Ground, file: Checkpoint | None, begun: FitCheckpoint | None
    ) -> Approximation:
        """Nothing is fitted, and what is known of the proposal tells how good it is."""
        proposal, found = ground.best
        assert isinstance(proposal, NormalizingFlow | Stack)
        assert found is not None
        report = replace(proposal.report, diagnosis=as_resampled(found, proposal.report.images))
        whole = ground.mirrors.whole(proposal)
        return Resampled(whole, found.log_evidence, found.ess, report)


@dataclass(frozen=True)
class FlowRung(AbstractFlowRung):
    """A flow that is trained: with a network in it, for what no simpler map can do.

    Parameters
    ----------
    within : float
        Nats that the best flow so far may be away from the posterior, for it to be tried.
    """

    within: float = field(default=np.inf, kw_only=True)

    @override
    def applies(self, ground: Ground) -> bool:
        """Whether it applies: not where it would have too far to go."""
        return super().applies(ground) and not ground.distance > self.within

    @override
    def climb(
        self, ground: Ground, file: Checkpoint | None, begun: FitCheckpoint | None
    ) -> Approximation:
        """Train the flow at each mode; together they are a Stack."""
        points = _modes(ground.gaussian)
        seed = ground.next_seed()
        if begun is None:
            inference = NFVI(
                self.name,
                model=ground.model,
                random_seed=seed,
                jitter=_JITTER,
                start=ground.start,
                frame=points[0].frame,
            )
        else:
            inference = NFVI(Approximation.from_state(begun.approx, ground.model), beta=begun.beta)
        move_to = inference.approx.groups[0].move_to
        moves = [partial(move_to, p.frame, ground.next_seed()) for p in points[1:]]
        options = with_backend(
            replace(ground.options, restarts=1, combine="stack", schedule=_SCHEDULE, verdict=False),
            ground.gaussian.groups[0].log_density,
        )
        result = inference.carry_out(options, file=file, begun=begun, moves=moves)
        return _with_starts(result, result.report, ground.gaussian, is_one=not moves)


def _with_starts(
    result: Approximation, report: Report, gaussian: NormalizingFlow, *, is_one: bool
) -> Approximation:
    """The flows of all modes, or of the one that matters: modes of little weight are left out."""
    if is_one and gaussian.starts is not None:
        report = replace(report, starts=replace(gaussian.starts, stacked=False))
    result.receive(report)
    return result


def _modes(gaussian: NormalizingFlow) -> list[FlowPoint]:
    """Where the modes that matter are, the best one first."""
    starts, points = gaussian.starts, gaussian.report.points
    if starts is None:
        return [gaussian.point]
    found = [start for start, weight in starts.of_modes if weight >= _SMALL_WEIGHT]
    found.sort(key=lambda start: -starts.elbo[start])
    return [points[start] for start in found]  # type: ignore[misc]


_NETWORK = "coupling[hidden=16]*2-sinh-scale-loc"
_LARGER = "coupling[hidden=32]*4-spline[hidden=0]-sinh-scale-loc"
RUNGS: tuple[AbstractRung, ...] = (
    NestedRung(least=_MIDDLE + 1),
    SparseRung(least=_MIDDLE + 1),
    GaussianRung(),
    NestedRung(least=_SMALL + 1, most=_MIDDLE),
    QuickRung("spline[hidden=0]-sinh-scale-loc", most=1),
    QuickRung("sinh-bend-reverse", least=2, most=_MOST_BENT),
    ResampledRung(),
    NestedRung(most=_SMALL),
    FlowRung("spline[hidden=0]*4-sinh-scale-loc", most=1),
    FlowRung(_NETWORK, least=2, most=_NETWORKS),
    FlowRung(_NETWORK, least=_NETWORKS + 1, most=MOST_DENSE, within=_NEAR),
    ResampledRung(),
    FlowRung(_LARGER, least=2, most=_NETWORKS, within=_NEAR),
    FlowRung(_LARGER, least=_NETWORKS + 1, most=MOST_DENSE, within=_NEARER),
    ResampledRung(),
)
"""What is tried, in this order, until one is good."""
