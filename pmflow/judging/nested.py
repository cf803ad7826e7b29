"""The verdict on approximations of large models, each coordinate by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pmflow.judging.verdict import ERRORS, bounds, missed_images, with_images
from pmflow.judging.weights import Weights
from pmflow.records import Images

__all__ = [
    "FAR",
    "FEWEST_EFFECTIVE",
    "MOST_OFF",
    "MOST_OFF_TO_FIRST_ORDER",
    "is_open",
    "nested_judgement",
    "nested_shifts",
    "times_as_many",
]

FAR = 0.02
"""Variance of the log weights of the local variables given the global ones, for each of them: above
it first-order corrections are not to be believed."""
FEWEST_EFFECTIVE = 50.0
"""Effective draws of the global variables below which their marginal is not known."""

MOST_OFF, MOST_OFF_TO_FIRST_ORDER = 0.1, 0.08
"""Largest shift of a mean, in sd, and distance of an sd ratio from 1, with its error added; and
where it is told to first order, which sees a little less than there is. With 0.1 fits passed whose
estimate was 0.09, known well, and the truth 0.11."""

_LEAST = 0.1
"""Of a limit: how near to it an estimate counts as, since that itself is known by noise."""

type Floats = NDArray[np.float64]


def nested_shifts(check: Any, labels: list[str]) -> pd.DataFrame:
    """How far weighting would move each coordinate, as of `Diagnosis.shifts`; unconstrained.

    Parameters
    ----------
    check : NestedCheck
    labels : list of str, length dim
    """
    ratio = _sd_ratio(check.growth)
    sd = check.sd / ratio
    return pd.DataFrame(
        {
            "mean_shift": check.shift,
            "mean_shift_mcse": check.shift_error,
            "sd_ratio": ratio,
            "sd_ratio_mcse": check.growth_error / 2,
            "mean_before": check.mean,
            "mean_after": check.mean + check.shift * sd,
            "sd_before": check.sd,
            "sd_after": sd,
        },
        index=labels,
    )


def is_open(moved: Floats, limit: float) -> bool:
    """Whether some coordinate is at its limit by noise alone, and none is surely beyond.

    Parameters
    ----------
    moved : ndarray, shape (4, n)
        Shifts, growths, each with its errors, as of `NestedCheck`.
    limit : float
    """
    shift, shift_error, growth, growth_error = moved
    distance = np.abs([shift, _sd_ratio(growth) - 1])
    error = ERRORS * np.array([shift_error, growth_error / 2])
    return bool((distance + error > limit).any() and not (distance - error > limit).any())


def times_as_many(moved: Floats, limit: float) -> float:
    """How many times as many draws it takes until noise does not decide; 1 where it does not.

    Parameters
    ----------
    moved, limit
        As of `is_open`.
    """
    shift, shift_error, growth, growth_error = moved
    distance = np.abs([shift, _sd_ratio(growth) - 1])
    error = ERRORS * np.array([shift_error, growth_error / 2])
    is_open = distance + error > limit
    left = np.maximum(np.abs(limit - distance), _LEAST * limit)
    return float(((error / left) ** 2).max(where=is_open, initial=1.0))


def _sd_ratio(growth: Floats) -> Floats:
    """Sd of the fit over that of the posterior, by the growth of the variance."""
    return np.asarray(1 / np.sqrt(np.maximum(1 + growth, 1e-2)))


def nested_judgement(
    check: Any, shifts: pd.DataFrame, images: Images | None = None
) -> tuple[bool, tuple[str, ...]]:
    """Whether the fit is reliable, and why.

    Parameters
    ----------
    check : NestedCheck
    shifts : DataFrame
        Of `nested_shifts`.
    images : Images or None
        Of the posterior, where the fit has one of several.
    """
    weights, of_what, order, against = check.of_globals, "its variables", "second", []
    if check.is_first_order.any():
        of_what, order = "given the global variables the local ones", "first"
    if weights is not None:
        against = _of_marginal(weights)
    if not np.isfinite(check.log_weights).all():
        return False, (*against, "the density is not finite at some draws")
    spread = float(check.log_weights.var(1).mean()) / check.locals
    if spread > FAR:
        against.append(
            f"{of_what} are not near a Gaussian: their log weights vary by "
            f"{spread:.2g} for each of them (limit {FAR})"
        )
    against += missed_images(images)
    if weights is not None:
        against += [
            f"{name} is so far out at a few proposed places that its sd is not known: the k-hat of "
            f"its square is {k_hat:.2f} (limit {weights.k_threshold:.2f})"
            for name, k_hat in check.tails.items()
            if k_hat > weights.k_threshold
        ]
    against += _off(shifts, np.where(check.is_first_order, MOST_OFF_TO_FIRST_ORDER, MOST_OFF))
    if against:
        return False, tuple(against)
    mean, sd = (float(bound.max()) for bound in bounds(shifts))
    reason = (
        f"to {order} order, weighting moves no mean by more than {mean:.2f} sd and no sd by more "
        f"than {100 * sd:.0f} %, Monte Carlo errors included"
    )
    return True, with_images([reason], images)


def _of_marginal(weights: Weights) -> list[str]:
    effective = weights.ess * weights.draws
    if weights.k_hat <= weights.k_threshold and effective >= FEWEST_EFFECTIVE:
        return []
    return [
        f"the marginal of the global variables is not known: k-hat {weights.k_hat:.2f} (limit "
        f"{weights.k_threshold:.2f}), {effective:.0f} effective draws of {weights.draws:,}"
    ]


def _off(shifts: pd.DataFrame, limits: Floats) -> list[str]:
    found = []
    of_mean, of_sd = bounds(shifts)
    for bound, column, what in ((of_mean, "mean_shift", "mean"), (of_sd, "sd_ratio", "sd")):
        if not (bound <= limits).all():
            row = shifts.iloc[int(np.nanargmax((bound / limits).to_numpy()))]
            number = int((bound > limits).sum())
            size = (
                f"{row[column]:+.2f} sd" if what == "mean" else f"by the factor {row[column]:.2f}"
            )
            found.append(
                f"{what}s may be off, {number:,} of {len(shifts):,}: the most that of {row.name}, "
                f"{size} ± {ERRORS * row[f'{column}_mcse']:.2f}"
            )
    return found
