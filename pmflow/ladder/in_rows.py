"""Fitting a model of many rows, in minibatches or not: on a few rows, judged by all of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pymc as pm

from pmflow.family.approximation import Approximation
from pmflow.family.normalizing_flow import NormalizingFlow
from pmflow.family.resampled import Resampled
from pmflow.frames.frame import Frame
from pmflow.graphs.minibatches import in_minibatches
from pmflow.inference.checkpoint import Checkpoint
from pmflow.judging.diagnosis import diagnose
from pmflow.ladder.backend import as_asked
from pmflow.ladder.centre import Centre, settle
from pmflow.ladder.climb import Climb
from pmflow.ladder.density_in_rows import density_in_rows, may_be_in_rows
from pmflow.ladder.few_rows import FewRows
from pmflow.ladder.mirrors import Mirrors, WhichImages
from pmflow.ladder.nested import NestedRung
from pmflow.ladder.rows_check import RowsCheck, check_rows, with_check, with_rows
from pmflow.ladder.rung import AbstractRung
from pmflow.ladder.rungs import RUNGS
from pmflow.ladder.states import ClimbCheckpoint
from pmflow.ladder.structured import AbstractStructuredRung
from pmflow.ladder.tried import Ladder
from pmflow.posterior.at_points import coordinate_names
from pmflow.records import Ended, FitState, Report
from pmflow.training.options import FitOptions
from pmflow.watch import Stopped, stage, why_stopped

__all__ = ["fit_in_rows"]

_log = logging.getLogger("pmflow")

_ROUNDS = 3
"""Fits, each on more rows, until these tell what all of them tell."""
_DRAWS, _DRAWS_FOR_EACH_DIMENSION = 400, 10
"""Of a fit: by which it is held against all rows, the next ones are chosen, and their expansion is
placed."""
_WORK, _MOST, _FEWEST = 2e11, 2000, 200
"""Numbers that all rows may go through for a verdict by them alone, and the draws that it takes."""


def fit_in_rows(
    model: pm.Model,
    seed: int,
    start: Mapping[str, Any] | None,
    options: FitOptions,
    symmetry: WhichImages,
    file: Checkpoint | None,
    begun: ClimbCheckpoint | None = None,
) -> Approximation | None:
    """Fit a model on a few of its rows, with the expansion of the others.

    Parameters
    ----------
    model, seed, start, options, symmetry
        As of `Climb`.
    file : Checkpoint or None
        Where the climb is kept.
    begun : ClimbCheckpoint, optional
        Where a climb of the same seed was broken off.

    Returns
    -------
    Approximation or None
        None for a model that has all of its data, if these are too few, or not in rows.

    Raises
    ------
    UnsupportedError
        If the log density of minibatches is no sum over rows.
    """
    if not may_be_in_rows(model):
        return None
    mirrors = Mirrors(symmetry, seed)
    fit: Approximation | None = None
    with as_asked(options):
        flow = NormalizingFlow("scale-loc", model=model, random_seed=seed, start=start, jitter=0.0)
        density = density_in_rows(flow)
        if density is None:
            return None
        rows = FewRows(density, seed)
        begin = flow.point.origin + flow.point.offset
        try:
            centre = settle(rows, begin, mirrors, options.restarts, seed)
            for number in range(1, _ROUNDS + 1):
                if begun is None:
                    climb = Climb(rows.model, seed, start, options, symmetry, _rungs(rows))
                    fit = climb.up(file)
                else:
                    climb = Climb.from_state(begun.climb, rows.model, options, _rungs(rows))
                    fit, begun = climb.up(file, begun.fit), None
                why = why_stopped()
                z = fit.draw(max(_DRAWS, _DRAWS_FOR_EACH_DIMENSION * density.dim), seed).latent
                check = check_rows(density, rows.fitted, rows.number, z)
                _log.info("Of the rows: %s", check)
                if check.agrees or number == _ROUNDS or why is not None:
                    break
                rows.take_more(z)
            assert fit is not None
            return _judged(fit, centre, check, mirrors, model)
        except Stopped:
            if fit is None and rows.last is None:
                raise
            why = why_stopped()
    return _not_judged(fit or _at(rows.last, model, seed), why or "time", mirrors, model)


def _at(frame: Frame | None, model: pm.Model, seed: int) -> Approximation:
    """The Gaussian of a mode that some rows have: what there is where no fit has begun."""
    flow = NormalizingFlow("scale-loc", model=model, random_seed=seed, jitter=0.0, frame=frame)
    state = FitState(0, 0, "time", "mode and curvature, by some rows", "fit")
    flow.receive(Report(fit_state=state, ladder=Ladder((), 0)))
    return flow


def _rungs(rows: FewRows) -> list[AbstractRung]:
    """What is tried: nothing is integrated out, as each draw would take a search by all rows."""
    left_out = NestedRung if rows.is_sparse else AbstractStructuredRung
    return [rung for rung in RUNGS if not isinstance(rung, left_out)]


def _of_model(
    fit: Approximation, mirrors: Mirrors, model: pm.Model, constant: float = 0.0
) -> tuple[Approximation, float]:
    """A fit of some rows as one of the model itself, with all images, and the log of their number.

    By `constant` the log evidence by all rows is larger than that by some.
    """
    result = Approximation.from_state(fit.to_state(), model)
    if not isinstance(result, Resampled):
        whole = mirrors.whole(result)
        return whole, float(np.log(whole.images / result.images))
    proposal = mirrors.whole(result.proposal)
    more = float(np.log(proposal.images / result.proposal.images))
    report = replace(result.report, images=proposal.report.images)
    return Resampled(proposal, result.log_evidence + constant + more, result.ess, report), more


def _not_judged(fit: Approximation, why: Ended, mirrors: Mirrors, model: pm.Model) -> Approximation:
    """The fit where there was no time to hold it against all rows."""
    result, _ = _of_model(fit, mirrors, model)
    state = fit.fit_state and replace(fit.fit_state, ended=why)
    result.receive(replace(result.report, diagnosis=None, fit_state=state))
    return result


def _judged(
    fit: Approximation, centre: Centre, check: RowsCheck, mirrors: Mirrors, model: pm.Model
) -> Approximation:
    """The fit as one of the model itself, with what is known of it by all rows."""
    result, more = _of_model(fit, mirrors, model, check.mean)
    found = fit.diagnosis
    if found is None:
        return result
    if check.agrees:
        found = with_check(found, check, more, result)
    else:
        with stage("Judging"):
            draws = result.draws_within(_WORK, most=_MOST, least=_FEWEST)
            found = diagnose(result, draws, mirrors.seed)
    # with all of the data the posterior as written is what is asked for, drift or not
    drifts = centre.drifts if in_minibatches(model) else []
    found = with_rows(found, centre.missed, drifts, coordinate_names(fit.ordering))
    result.receive(replace(result.report, diagnosis=found))
    return result
