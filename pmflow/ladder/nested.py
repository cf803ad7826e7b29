"""The rung for models with few global variables and many local ones."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import override

import numpy as np
from numpy.typing import NDArray

from pmflow.embedded.by_scores import MANY, fit_by_scores
from pmflow.embedded.conditional import Conditional
from pmflow.embedded.dense import conditional_of
from pmflow.embedded.fit import CURVATURES, fit_nested
from pmflow.embedded.globals import FEW, MOST, Held, choose_globals, is_gaussian, with_hubs
from pmflow.embedded.linear import gaussian_given_others
from pmflow.embedded.marginal import NoCentreError
from pmflow.embedded.nested import Nested
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
_GRADIENTS_BY_SCORES, _WORK_BY_SCORES = 40_000, 4e11
"""The same for the scores of many global variables: with nothing beside that is right, it may take
minutes."""

_FEW_BY_VALUES = 8
"""Global variables of blocks, up to which the values of their marginal have as little noise."""

_LARGEST_EXACT = 128
"""Variables that are exactly Gaussian and hang together: a trace takes two gradients for each."""

type Way = Callable[[Conditional, NDArray[np.float64], int], Nested]


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
        check_choice(held)
        conditional, nested = _fitted(held, seed)
        is_global = np.isin(np.arange(conditional.density.dim), conditional.globals)
        state = FitState(0, 0, why_stopped() or "converged", "by Newton's method")
        pattern, report = held.whole.pattern, Report(fit_state=state)
        return EmbeddedLaplace(flow, pattern, is_global, nested.state, report, conditional)


def _fitted(held: Held, seed: int) -> tuple[Conditional, Nested]:
    """What is found of the global variables, by scores where these are many."""
    many = _many(held)
    if many is not None:
        with suppress(NoCentreError):
            return many, _by(fit_by_scores, many, held, seed)
    try:
        conditional = _given(held, _few(held))
        return conditional, _by(fit_nested, conditional, held, seed)
    except (NoCentreError, NoStructureError):
        exact = _exact(held, seed)
        if exact is None:
            raise
    return exact, _by(fit_by_scores, exact, held, seed)


def _by(way: Way, conditional: Conditional, held: Held, seed: int) -> Nested:
    check_affordable(conditional, CURVATURES)
    verify_pattern(conditional, around(held.start, seed), seed)
    return way(conditional, held.start, seed)


def _few(held: Held) -> NDArray[np.bool_]:
    """The global variables, few enough for values of their marginal."""
    whole = held.whole
    is_global = choose_globals(held)
    conditional = _given(held, is_global)
    # what a marginal by Gaussians misses is known too badly of many variables to be corrected
    if is_global.sum() > FEW and not is_gaussian(conditional, held.start):
        is_global = choose_globals(held, FEW)
        conditional = _given(held, is_global)
    more = is_global
    if whole.factors.is_apart:
        more = with_hubs(whole.pattern, held.places, is_global)
    is_cheap = whole.density.work * _GRADIENTS < _WORK
    is_more = more.sum() > is_global.sum()
    if is_cheap and is_more and not is_gaussian(conditional, held.start):
        return more
    return is_global


def _many(held: Held) -> Conditional | None:
    """What is left in blocks by many global variables; None where there is no such thing."""
    whole = held.whole
    if not whole.factors.is_apart or whole.density.work * _GRADIENTS_BY_SCORES > _WORK_BY_SCORES:
        return None
    chosen = choose_globals(held, MANY)
    is_global = with_hubs(whole.pattern, held.places, chosen, MANY)
    if is_global.sum() <= _FEW_BY_VALUES or is_global.all():
        return None
    conditional = _given(held, is_global)
    # values have no noise then, and those by whom others only meet may be local
    has_few = conditional.is_independent and 0 < chosen.sum() <= FEW
    if conditional.blocks is None or has_few:
        return None
    by_values = is_global.sum() <= MOST and is_gaussian(conditional, held.start)
    return None if by_values else conditional


def _exact(held: Held, seed: int) -> Conditional | None:
    """What is exactly Gaussian given many others, such as the coefficients of a regression."""
    whole = held.whole
    if not whole.factors.is_apart or whole.density.work * _GRADIENTS_BY_SCORES > _WORK_BY_SCORES:
        return None
    is_local = gaussian_given_others(whole.density, held.places, held.start, seed)
    if is_local.sum() < _LEAST or not FEW < (~is_local).sum() <= MANY:
        return None
    conditional = _given(held, ~is_local)
    largest = np.bincount(conditional.apart.labels).max()
    return conditional if largest <= _LARGEST_EXACT else None


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
