"""From numbers about a fit to a verdict in words: the limits, and the reasons.

The limits were set on families of approximations whose quality is known exactly, made without
training: ``python -m tests.benchmarks.honesty``. A fit counts as bad there if a mean is off by more
than 0.1 sd or an sd by more than 15 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from pmflow.judging.weights import NEARLY_EQUAL, Weights
from pmflow.records import Images, Starts

__all__ = ["A_FEW", "MISSED", "Judgement", "bounds", "judge", "missed_images", "with_images"]

type Verdict = Literal["reliable", "usable after importance resampling", "not reliable"]

MEAN_LIMIT = 0.07
"""Largest shift of a mean, in sd, with its error added."""

SD_LIMIT = 0.07
"""Largest distance of an sd ratio from 1, with its error added.

Tails that the draws have not reached hide up to half of an error of the sd: half of 15 %, rounded
down.
"""

ERRORS = 3.0
"""Standard errors added to an estimate before it is held against its limit."""

K_LIGHT = 0.45
"""Below this k-hat the weights have a variance (1/2, less the noise of k-hat), and errors of
weighted moments can be trusted."""

ESS_RELIABLE = 0.8
"""Below it the joint distribution is off, though each marginal may be right."""

EQUAL_BUT_FOR_A_FEW = 0.9
"""ESS of the raw weights above which resampling does no harm whatever k-hat is."""

ESS_USABLE = 0.2
"""Below it weighted moments are not to be trusted, whatever k-hat is.

Where the fit is far too narrow, 4,000 draws do not reach what it misses, and k-hat comes out too
small by 0.3 and more. In the benchmark, weighting mended 10 of 47 fits with a smaller ESS and a
k-hat below 0.7.
"""

ESS_USABLE_HEAVY = 0.4
"""The same where k-hat is not below `K_LIGHT`: weighting mended 11 of 26 between the two."""

ESS_RESAMPLED = 0.5
"""Below it resampled draws are not called reliable: of 41 fits weighting did not mend 8, and of 320
above it 12, all of a t with 3 degrees of freedom or fewer, whose sds no weights can find."""

A_FEW = 0.001
"""Share of draws without finite density that is no reason to distrust the others."""

MISSED = 0.05
"""Share of the evidence in modes that the fit does not have."""


@dataclass(frozen=True)
class Judgement:
    """A verdict and what led to it."""

    verdict: Verdict
    reasons: tuple[str, ...]


def judge(
    weights: Weights, shifts: pd.DataFrame, starts: Starts | None, images: Images | None = None
) -> Judgement:
    """Hold the numbers against the limits.

    Parameters
    ----------
    weights : Weights
    shifts : DataFrame
        As of `Diagnosis.shifts`.
    starts : Starts or None
    images : Images or None
        Of the posterior, where the fit has one of several.
    """
    against = [*_of_densities(weights), *_of_starts(starts), *_of_infinite(shifts)]
    against += missed_images(images)
    if not np.isnan(weights.k_hat):
        against += _of_weights(weights)
    if against:
        return Judgement("not reliable", tuple(against))
    doubts = _doubts(weights, shifts)
    if doubts:
        return Judgement("usable after importance resampling", with_images(doubts, images))
    return Judgement("reliable", with_images([_good(weights, shifts)], images))


def with_images(reasons: Sequence[str], images: Images | None) -> tuple[str, ...]:
    """Reasons for a verdict on one image, and that it is about one."""
    return tuple(reasons) if images is None else (*reasons, str(images))


def missed_images(images: Images | None) -> list[str]:
    """What there is to say against a fit of one image, unless one was asked for."""
    return [] if images is None or images.is_asked else [f"modes are missed: {images}"]


def _of_densities(weights: Weights) -> list[str]:
    share = weights.non_finite / weights.draws
    if np.isnan(weights.k_hat):
        return [
            f"log_p or log_q is not finite at {weights.non_finite:,} of {weights.draws:,} draws: "
            "too few are left to say anything about the rest"
        ]
    if share > A_FEW:
        return [
            f"log_p or log_q is not finite at {weights.non_finite:,} of {weights.draws:,} draws; "
            "all numbers are about the others"
        ]
    return []


def _of_starts(starts: Starts | None) -> list[str]:
    if starts is None or not starts.missed > MISSED:
        return []
    return [f"modes are missed: {starts.summary}"]


def _of_infinite(shifts: pd.DataFrame) -> list[str]:
    names = [str(name) for name in shifts.index[~np.isfinite(shifts["mean_before"])]]
    if not names:
        return []
    return [f"draws of {_listed(names)} are not finite: nothing is known about their moments"]


def _of_weights(weights: Weights) -> list[str]:
    """Whether weights lead to the posterior at all."""
    found = []
    heavy = weights.k_hat > weights.k_threshold
    if heavy and weights.ess_raw < EQUAL_BUT_FOR_A_FEW:
        found.append(
            f"k-hat is {weights.k_hat:.2f}, above {weights.k_threshold:.2f}: a few draws carry the "
            "weight, and how far off the fit is can't be told from its own draws"
        )
    least = ESS_USABLE_HEAVY if weights.k_hat > K_LIGHT else ESS_USABLE
    if weights.ess < least:
        found.append(
            f"after weighting, the draws are worth {weights.ess:.0%} of their number: the fit is "
            "too far from the posterior for weights to tell how far"
        )
    return found


def _doubts(weights: Weights, shifts: pd.DataFrame) -> list[str]:
    found = []
    if weights.k_hat > K_LIGHT and weights.ess < NEARLY_EQUAL:
        limit = (
            f"above {weights.k_threshold:.2f}, though the weights are nearly equal but for a few"
            if weights.k_hat > weights.k_threshold
            else f"between {K_LIGHT} and {weights.k_threshold:.2f}"
        )
        found.append(
            f"k-hat is {weights.k_hat:.2f}, {limit}: the posterior has heavier tails than the fit"
        )
    if weights.ess < ESS_RELIABLE:
        found.append(f"after weighting, the draws are worth {weights.ess:.0%} of their number")
    found += _off(shifts)
    return found


def bounds(shifts: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """How far means and sds may be off: distance plus errors, NaN where nothing varies."""
    mean = shifts["mean_shift"].abs() + ERRORS * shifts["mean_shift_mcse"]
    sd = (shifts["sd_ratio"] - 1).abs() + ERRORS * shifts["sd_ratio_mcse"]
    return mean, sd


def _off(shifts: pd.DataFrame) -> list[str]:
    found = []
    of_mean, of_sd = bounds(shifts)
    if (of_mean > MEAN_LIMIT).any():
        off, row, verb = _worst(of_mean, shifts["mean_shift"].abs(), MEAN_LIMIT, shifts)
        found.append(
            f"means {verb} off: weighting moves that of {row.name} by {row['mean_shift']:+.2f} ± "
            f"{row['mean_shift_mcse']:.2f} sd{off}"
        )
    if (of_sd > SD_LIMIT).any():
        off, row, verb = _worst(of_sd, (shifts["sd_ratio"] - 1).abs(), SD_LIMIT, shifts)
        found.append(
            f"sds {verb} off: fit over posterior is {row['sd_ratio']:.2f} ± "
            f"{row['sd_ratio_mcse']:.2f} for {row.name}{off}"
        )
    return found


def _worst(
    bound: pd.Series, distance: pd.Series, limit: float, shifts: pd.DataFrame
) -> tuple[str, pd.Series, str]:
    """How many others are off, the row that may be off the most, and whether it surely is."""
    place = int(np.nanargmax(bound.to_numpy()))
    sure = (distance > limit).to_numpy()
    others = int(sure.sum() - sure[place])
    return (
        f" ({others} more)" if others else "",
        shifts.iloc[place],
        ("are" if sure[place] else "may be"),
    )


def _good(weights: Weights, shifts: pd.DataFrame) -> str:
    mean, sd = (bound.max() for bound in bounds(shifts))
    return (
        f"weighting moves no mean by more than {_up(mean)} sd and no sd by more than "
        f"{_up(100 * sd, 0)} %, Monte Carlo errors included"
        if np.isfinite(mean) and np.isfinite(sd)
        else f"the weights are nearly equal: the draws are worth {weights.ess:.0%} of their number"
    )


def _up(value: float, digits: int = 2) -> str:
    """Rounded up: a bound stays a bound."""
    scale = 10**digits
    return f"{np.ceil(value * scale) / scale:.{digits}f}"


def _listed(names: list[str], most: int = 4) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
