"""The course of a fit, by its options."""

from __future__ import annotations

from typing import Any

from pmflow.objectives.fresh import FreshElbo
from pmflow.training.anneal import Annealing
from pmflow.training.course import Course, InTurn, Steps
from pmflow.training.options import FitOptions
from pmflow.training.schedule import Schedule

__all__ = ["course_for"]

_ANNEALING_RATE = 0.01


def course_for(approx: Any, beta: float, options: FitOptions, seed: int) -> Course:
    """What decides about the steps of a fit.

    Parameters
    ----------
    approx : Approximation
    beta : float
        Weight of the divergence from the prior.
    options : FitOptions
        Filled in for the approximation.
    seed : int
        Of the draws that states are compared by.
    """
    parts: list[Course] = []
    if options.anneal:
        ratio = FreshElbo(approx, beta=beta, from_start=True)
        rate = _ANNEALING_RATE if options.n is None else None
        parts.append(Annealing(ratio, seed, rate=rate))
    if options.n is None:
        assert options.objective is not None
        measure = options.objective.measure(approx, beta)
        parts.append(Schedule(measure, approx.ddim, seed, options.schedule))
    else:
        parts.append(Steps(options.n))
    return InTurn(parts)
