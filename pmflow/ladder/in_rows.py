"""Fitting a model whose data come in minibatches: on a few rows, judged by all of them."""

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
from pmflow.inference.checkpoint import Checkpoint
from pmflow.judging.diagnosis import diagnose
from pmflow.ladder.climb import Climb
from pmflow.ladder.few_rows import FewRows
from pmflow.ladder.mirrors import Mirrors, WhichImages
from pmflow.ladder.nested import NestedRung
from pmflow.ladder.rows_check import RowsCheck, check_rows, with_check, with_rows
from pmflow.ladder.rung import AbstractRung
from pmflow.ladder.rungs import RUNGS
from pmflow.ladder.structured import AbstractStructuredRung
from pmflow.posterior.at_points import coordinate_names
from pmflow.posterior.density import StreamedDensity, shared_densities
from pmflow.training.options import FitOptions
from pmflow.watch import stage, why_stopped

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
) -> Approximation:
    """Fit a model of minibatches on a few of its rows, with the expansion of the others.

    Parameters
    ----------
    model, seed, start, options, symmetry
        As of `Climb`.
    file : Checkpoint or None
        Where the climb is kept.

    Raises
    ------
    UnsupportedError
        If the log density is no sum over rows.
    """
    with options.watching(), shared_densities():
        flow = NormalizingFlow("scale-loc", model=model, random_seed=seed, start=start, jitter=0.0)
        density = flow.groups[0].log_density
        assert isinstance(density, StreamedDensity)
        rows = FewRows(density, flow.point.origin + flow.point.offset, seed)
        mirrors = Mirrors(symmetry, seed)
        rows.find_centre(mirrors, options.restarts)
        for number in range(1, _ROUNDS + 1):
            fit = Climb(rows.model, seed, start, options, symmetry, _rungs(rows)).up(file)
            draws = max(_DRAWS, _DRAWS_FOR_EACH_DIMENSION * density.dim)
            z = fit.draw(draws, seed).latent
            check = check_rows(density, rows.fitted, rows.number, z)
            _log.info("Of the rows: %s", check)
            if check.agrees or number == _ROUNDS or why_stopped() is not None:
                break
            rows.take_more(z)
        return _judged(fit, rows, check, mirrors, model)


def _rungs(rows: FewRows) -> list[AbstractRung]:
    """What is tried: nothing is integrated out, as each draw would take a search by all rows."""
    left_out = NestedRung if rows.is_sparse else AbstractStructuredRung
    return [rung for rung in RUNGS if not isinstance(rung, left_out)]


def _judged(
    fit: Approximation, rows: FewRows, check: RowsCheck, mirrors: Mirrors, model: pm.Model
) -> Approximation:
    """The fit as one of the model itself with all images, and what is known of it by all rows."""
    result = mirrors.whole(Approximation.from_state(fit.to_state(), model))
    found, more = fit.diagnosis, float(np.log(result.images / fit.images))
    if result.is_resampled:
        proposal = mirrors.whole(result.proposal)
        more = float(np.log(proposal.images / result.proposal.images))
        evidence = result.log_evidence + check.mean + more
        result = Resampled(proposal, evidence, result.ess, proposal.report)
    if found is None:
        return result
    if check.agrees:
        found = with_check(found, check, more, result)
    else:
        with stage("Judging"):
            draws = result.draws_within(_WORK, most=_MOST, least=_FEWEST)
            found = diagnose(result, draws, mirrors.seed)
    found = with_rows(found, rows.missed, rows.drifts, coordinate_names(rows.density.ordering))
    result.receive(replace(result.report, diagnosis=found))
    return result
