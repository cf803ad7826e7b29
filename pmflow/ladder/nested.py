"""The rung for models with few global variables and many local ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import override

import numpy as np
from numpy.typing import NDArray

from pmflow.embedded.conditional import Conditional
from pmflow.embedded.dense import conditional_of
from pmflow.embedded.fit import CURVATURES, fit_nested
from pmflow.embedded.globals import FEW, Held, choose_globals, is_gaussian, with_hubs
from pmflow.embedded.structure import (
    NoStructureError,
    around,
    check_affordable,
    verify_pattern,
)
from pmflow.family.approximation import Approximation
from pmflow.family.embedded_laplace import EmbeddedLaplace
from pmflow.family.normalizing_flow import NormalizingFlow
from pmflow.ladder.rung import Ground
from pmflow.ladder.structured import AbstractStructuredRung, check_choice
from pmflow.records import FitState, Report
from pmflow.watch import why_stopped

__all__ = ["NestedRung"]

_LEAST = 3
"""Dimensions: below, there is nothing to integrate out."""
_GRADIENTS, _WORK = 15_000, 1e11
"""About how many gradients it takes to integrate each local variable by itself at all global ones,
and numbers that the density may go through for them."""


@dataclass(frozen=True)
class NestedRung(AbstractStructuredRung):
    """Few global variables by their marginal, local ones by Gaussians that follow them."""

    name = EmbeddedLaplace.family
    least: int = field(default=_LEAST, kw_only=True)

    @override
    def applies(self, ground: Ground) -> bool:
        """Whether it applies: where there is no such fit yet."""
        return super().applies(ground) and not ground.has_structured

    @override
    def fitted(self, flow: NormalizingFlow, held: Held, seed: int) -> Approximation:
        """Choose the global variables, and integrate the others out."""
        whole, start = held.whole, held.start
        check_choice(held)
        is_global = choose_globals(held)
        conditional = _given(held, is_global)
        # what a marginal by Gaussians misses is known too badly of many variables to be corrected
        if is_global.sum() > FEW and not is_gaussian(conditional, start):
            is_global = choose_globals(held, FEW)
            conditional = _given(held, is_global)
        more = is_global
        if whole.factors.is_apart:
            more = with_hubs(whole.pattern, held.places, is_global)
        is_cheap = whole.density.work * _GRADIENTS < _WORK
        if is_cheap and more.sum() > is_global.sum() and not is_gaussian(conditional, start):
            is_global = more
            conditional = _given(held, is_global)
        check_affordable(conditional, CURVATURES)
        verify_pattern(conditional, around(start, seed), seed)
        nested = fit_nested(conditional, start, seed)
        state = FitState(0, 0, why_stopped() or "converged", "by Newton's method")
        report = Report(fit_state=state)
        return EmbeddedLaplace(flow, whole.pattern, is_global, nested.state, report, conditional)


def _given(held: Held, is_global: NDArray[np.bool_]) -> Conditional:
    """The other variables given the global ones.

    Raises
    ------
    NoStructureError
        If there are none of the one or the other.
    """
    if not is_global.any() or is_global.all():
        raise NoStructureError("no few of its variables govern the others")
    return conditional_of(held.whole.density, held.whole.pattern, is_global, CURVATURES)
