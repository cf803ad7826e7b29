"""What a fit that chose its own end says of itself."""

from __future__ import annotations

import logging
import warnings

from pmflow.errors import FitWarning, UnsupportedError
from pmflow.family.approximation import Approximation
from pmflow.judging.diagnosis import diagnose
from pmflow.watch import Stopped, stage

__all__ = ["judge_and_tell"]

_log = logging.getLogger("pmflow")

_DRAWS, _FEWEST = 4000, 100
"""How many draws a fit is judged by, and how many at least one that was trained on minibatches."""
_WORK = 5e10
"""Numbers that all rows may go through for it: a quarter of a minute or so."""


def judge_and_tell(approx: Approximation) -> None:
    """One line on how good the fit is, as a warning where it is not good."""
    try:
        with stage("Judging"):
            draws = _DRAWS
            if approx.facts.minibatches:  # all rows are gone through at each draw
                draws = approx.draws_within(_WORK, most=_DRAWS, least=_FEWEST)
            found = diagnose(approx, draws, random_seed=0)
    except UnsupportedError as error:
        _log.info("Not diagnosed: %s", error)
        return
    except Stopped:
        warnings.warn(
            f"The fit was stopped before it was judged ({approx.fit_state}). "
            "pmflow.diagnose(approx) judges it.",
            FitWarning,
            stacklevel=3,
        )
        return
    if found.verdict == "reliable":
        _log.info("The fit is %s", found.summary)
        return
    warnings.warn(
        f"The fit is {found.summary}. {' '.join(found.reasons)}. "
        "See pmflow.diagnose(approx) for what to try.",
        FitWarning,
        stacklevel=3,
    )
