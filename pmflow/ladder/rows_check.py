"""A fit of a few rows held against all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pmflow.family.approximation import Approximation
from pmflow.judging.diagnosis import Diagnosis
from pmflow.judging.verdict import MISSED, missed_images, with_images
from pmflow.posterior.density import LogDensity, StreamedDensity
from pmflow.posterior.rows.order import Drift
from pmflow.watch import stage

__all__ = ["RowsCheck", "check_rows", "with_check", "with_rows"]

_FEWEST, _DRAWS = 40, 320
"""Draws by which it is told how far two log densities agree, and at how many at most."""
_WORK = 1.5e11
"""Numbers that all rows may go through for more than the fewest: half a minute or so."""
_AGREE, _MOVED, _ERRORS = 0.3, 0.035, 3.0
"""Nats: sd of the difference up to which it is small; sds by which it may move a mean, and change
an sd, errors included, for the verdict on few rows to be one on all: half of what that allows."""

type Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RowsCheck:
    """How far log densities by some rows are from those by all, at draws of a fit.

    Attributes
    ----------
    rows, used : int
        All rows, and those of the fit.
    draws : int
    mean, sd : float
        Of the difference, in nats; the mean is a constant of the density.
    moved : float
        By how many sds the difference moves a mean, or changes an sd, at most, errors included.
    """

    rows: int
    used: int
    draws: int
    mean: float
    sd: float
    moved: float

    @property
    def agrees(self) -> bool:
        """Whether what is known of the fit by some rows holds for all of them."""
        return bool(self.sd < _AGREE and self.moved < _MOVED)

    def __str__(self) -> str:
        if self.used == self.rows:
            return f"all {self.rows:,} rows were used"
        return (
            f"at {self.draws} draws all {self.rows:,} rows give the log density that "
            f"{self.used:,} of them and an expansion of the others give, to {self.sd:.2g} nats"
        )


def check_rows(density: StreamedDensity, fitted: LogDensity, used: int, z: Floats) -> RowsCheck:
    """Hold the density of some rows against that of all, at few draws, and at more if need be.

    Parameters
    ----------
    density, fitted : LogDensity
        By all rows, and by some.
    used : int
        How many these are.
    z : ndarray, shape (n, dim)
        Draws of the fit, of which not all may be needed.
    """
    rows = density.number_of_rows
    if used == rows:
        return RowsCheck(rows, used, 0, 0.0, 0.0, 0.0)
    most = density.draws_within(_WORK, most=min(_DRAWS, len(z)), least=_FEWEST)
    difference = np.empty(0)
    with stage("Going through all rows"):
        while True:
            number = min(most, max(_FEWEST, 2 * len(difference)))
            new = z[len(difference) : number]
            difference = np.append(difference, density.value(new) - fitted.value(new))
            check = _checked(difference, z[:number], rows, used)
            if check.agrees or number == most or not check.sd < _AGREE:
                return check


def _checked(difference: Floats, z: Floats, rows: int, used: int) -> RowsCheck:
    number = len(difference)
    if not np.isfinite(difference).all():
        return RowsCheck(rows, used, number, np.nan, np.inf, np.inf)
    mean, sd = float(difference.mean()), float(difference.std(ddof=1))
    # to first order in the difference, weighting by it moves a mean by its covariance
    y = (z - z.mean(0)) / z.std(0)
    of_means = (difference - mean) @ y / number
    of_sds = (difference - mean) @ (y**2 - 1) / (2 * number)
    largest = max(np.abs(of_means).max(), np.abs(of_sds).max())
    moved = min(sd, largest + _ERRORS * sd / number**0.5)
    return RowsCheck(rows, used, number, mean, sd, float(moved))


def with_check(found: Diagnosis, check: RowsCheck, more: float, result: Approximation) -> Diagnosis:
    """What is known of a fit by some rows, as what is known by all, where the two agree.

    Parameters
    ----------
    found : Diagnosis
        By some rows, of one image.
    check : RowsCheck
    more : float
        Log of how many images the result has.
    result : Approximation
    """
    error = check.sd / np.sqrt(max(1, check.draws))
    against = missed_images(result.report.images)
    return replace(
        found,
        verdict="not reliable" if against else found.verdict,
        reasons=(*with_images((*against, *found.reasons), result.report.images), str(check)),
        images=result.images,
        elbo=found.elbo + check.mean + more,
        elbo_se=float(np.hypot(found.elbo_se, error)),
        log_evidence=found.log_evidence + check.mean + more,
        log_evidence_se=float(np.hypot(found.log_evidence_se, error)),
        kl_se=float(np.hypot(found.kl_se, error)),
    )


def with_rows(
    found: Diagnosis, missed: float, drifts: Sequence[Drift], names: Sequence[str]
) -> Diagnosis:
    """What is known of a fit, with what all rows say against it.

    Parameters
    ----------
    found : Diagnosis
    missed : float
        Share of the evidence in modes elsewhere.
    drifts : sequence of Drift
    names : sequence of str
        Of the coordinates.
    """
    against = [
        f"the rows drift: their parts, in the order in which they stand, differ in "
        f"{names[one.coordinate]} by {one.spread:.1f} times what is chance, by {one.change:+,.0f} "
        "sds from the first to the last. The model takes rows for exchangeable, and so its "
        "posterior is that of none of the parts, and too narrow for all"
        for one in drifts
    ]
    if missed > MISSED:
        against.append(
            f"modes are missed: starts elsewhere end at others, which have {missed:.0%} of the "
            "evidence by all rows"
        )
    if not against:
        return found
    return replace(found, verdict="not reliable", reasons=(*against, *found.reasons))
