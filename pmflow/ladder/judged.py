"""Judging what a rung has fitted, within a budget of evaluations."""

from __future__ import annotations

import logging
from collections.abc import Callable

from pmflow.errors import UnsupportedError
from pmflow.family.approximation import Approximation
from pmflow.judging.diagnosis import Diagnosis, diagnose
from pmflow.ladder.mirrors import Mirrors
from pmflow.ladder.tried import may_be_reliable
from pmflow.watch import Stopped, stage

__all__ = ["judged"]

_log = logging.getLogger("pmflow")

_DRAWS, _FEW_DRAWS, _MORE = 4000, 250, 5
"""How many draws a fit is judged by, how many where the density is slow, and how many times as many
where these do not decide."""
_WORK = 5e9
"""Numbers that the density may go through for them: some seconds."""


def judged(fit: Approximation, mirrors: Mirrors, next_seed: Callable[[], int]) -> Diagnosis | None:
    """Judge a fit and its images, once more at more draws where these may be all that is missing.

    Parameters
    ----------
    fit : Approximation
    mirrors : Mirrors
        The symmetries of its model.
    next_seed : callable
        Gives seeds of draws.

    Returns
    -------
    Diagnosis or None
        None where it can't be judged, or the fit was stopped meanwhile.
    """
    try:
        with stage("Judging"):
            approx = mirrors.whole(fit)
            draws = approx.draws_within(_WORK, most=_DRAWS, least=_FEW_DRAWS)
            found = diagnose(approx, draws, random_seed=next_seed())
            more = approx.draws_within(_WORK, most=_MORE * draws, least=draws)
            if more > draws and may_be_reliable(found, approx.ddim):
                # more draws cost less than a richer flow, and may be all that is missing
                found = diagnose(approx, more, random_seed=next_seed())
    except UnsupportedError as error:
        _log.info("Not diagnosed: %s", error)
        return None
    except Stopped:
        _log.info("Not diagnosed: the fit was stopped")
        return None
    return found
