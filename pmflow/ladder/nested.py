"""The rung for models with few global variables and many local ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import override

import numpy as np
import pytensor
from numpy.typing import NDArray

from pmflow.embedded.conditional import Conditional
from pmflow.embedded.fit import CURVATURES, fit_nested
from pmflow.embedded.globals import choose_globals
from pmflow.embedded.marginal import NoCentreError
from pmflow.embedded.structure import NoStructureError, read_pattern, verify_pattern
from pmflow.family.approximation import Approximation
from pmflow.family.embedded_laplace import EmbeddedLaplace
from pmflow.family.normalizing_flow import NormalizingFlow
from pmflow.graphs.minibatches import observed_in_minibatches
from pmflow.inference.checkpoint import Checkpoint, FitCheckpoint
from pmflow.ladder.rung import AbstractSizedRung, Ground, NothingGained
from pmflow.records import FitState, Report
from pmflow.watch import OutOfTime, why_stopped

__all__ = ["NestedRung"]

_LEAST = 3
"""Dimensions: below, there is nothing to integrate out."""
_WORK = 3e11
"""Numbers that the density may go through for them."""


@dataclass(frozen=True)
class NestedRung(AbstractSizedRung):
    """Few global variables by their marginal, local ones by Gaussians that follow them."""

    name = EmbeddedLaplace.family
    least: int = field(default=_LEAST, kw_only=True)

    @override
    def applies(self, ground: Ground) -> bool:
        """Whether it applies: to so many dimensions, all data and double precision."""
        is_double = pytensor.config.floatX == "float64"
        return super().applies(ground) and is_double and not observed_in_minibatches(ground.model)

    @override
    def climb(
        self, ground: Ground, file: Checkpoint | None, begun: FitCheckpoint | None
    ) -> Approximation:
        """Read the structure, choose the global variables, integrate the others out."""
        flow = NormalizingFlow(
            "scale-loc",
            model=ground.model,
            random_seed=ground.next_seed(),
            start=ground.start,
            jitter=0.0,
        )
        (group,) = flow.groups
        if ground.has_gaussian:
            group.share_density(ground.gaussian.groups[0])
        density = group.log_density
        places = {name: place for name, place, *_ in group.ordering.values()}
        start = flow.point.origin + flow.point.offset
        seed = ground.next_seed()
        try:
            pattern = read_pattern(density)
            whole = Conditional(density, pattern, np.zeros(density.dim, dtype=bool))
            verify_pattern(whole, _around(start, seed), seed)
            is_global = choose_globals(whole, places, start)
            conditional = _affordable(Conditional(density, pattern, is_global, CURVATURES))
            verify_pattern(conditional, _around(start, seed), seed)
            nested = fit_nested(conditional, start, seed)
        except OutOfTime as error:
            raise NothingGained("no time was left for it") from error
        except (NoStructureError, NoCentreError) as error:
            raise NothingGained(str(error)) from error
        state = FitState(0, 0, why_stopped() or "converged", "by Newton's method")
        report = Report(fit_state=state)
        return EmbeddedLaplace(flow, pattern, is_global, nested.state, report)


def _around(start: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return start + 0.1 * rng.standard_normal((2, len(start)))


def _affordable(conditional: Conditional) -> Conditional:
    """What was given.

    Raises
    ------
    NoStructureError
        If there is nothing global or nothing local, or the curvature takes too many gradients.
    """
    if not len(conditional.globals) or not len(conditional.locals):
        raise NoStructureError("no few of its variables govern the others")
    work = float(conditional.gradients) * conditional.density.work * CURVATURES
    if work > _WORK:
        raise NoStructureError(
            f"its second derivatives take {conditional.gradients:,} gradients at each point"
        )
    return conditional
