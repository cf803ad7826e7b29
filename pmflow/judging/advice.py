"""What to try next: a sentence and a line of Python, from facts about a fit.

A line runs as it is printed where ``pmf`` is pmflow, ``pm`` is PyMC, ``model`` the model and
``approx`` the fit.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from pmflow.judging.verdict import A_FEW, MISSED, Judgement
from pmflow.judging.weights import MIN_DRAWS, Weights
from pmflow.records import Facts, Starts

__all__ = ["NUTS", "Advice", "advise"]

_STARTS = 8
"""Starts that are advised where there was one."""

_DENSE = 300
"""Dimensions up to which all correlations are advised: a dense factor has half the square of it
in parameters."""

_AS_FORMULA = {"mean_field": "scale-loc", "full_rank": "tril-loc"}
"""The formulas of PyMC's families."""

_CUT_SHORT = ("failed", "interrupted", "time")
"""How training ends that did not come to its own end."""

_NAMED_FRAMES = ("gaussian", "laplace", "pathfinder", "sparse")


class Advice(NamedTuple):
    """A sentence, and a line of Python that runs as printed."""

    why: str
    code: str

    def __str__(self) -> str:
        return f"{self.why}:\n{self.code}"


_NO_DENSITY = Advice(
    "the fit reaches where the model has no density: look for a hard constraint, and put a "
    "transform in its place",
    "model.point_logps()",
)
_LOOK = Advice("no point of finite density was found: look at the model", "model.point_logps()")
_RESAMPLE = Advice(
    "take draws that are weighted and chosen anew, in place of approx.sample()",
    "idata = pmf.importance_resample(approx, 1_000)",
)
NUTS = Advice(
    "NUTS, which goes through the posterior in the units of this fit",
    "idata = pmf.sample(approx)",
)
_GO_ON = "approx = pmf.NFVI(approx).fit()"


def advise(
    judgement: Judgement,
    weights: Weights,
    shifts: pd.DataFrame,
    facts: Facts,
    starts: Starts | None = None,
) -> tuple[Advice, ...]:
    """What to try next, the most promising first.

    Parameters
    ----------
    judgement : Judgement
    weights, shifts
        What it came from.
    facts : Facts
        Of the fit: what it lacks is what is advised.
    starts : Starts, optional
    """
    if weights.draws - weights.non_finite < MIN_DRAWS:
        return (_NO_DENSITY,)
    found = [_NO_DENSITY] if weights.non_finite > A_FEW * weights.draws else []
    found += [*_unfinished(facts), *_missed_modes(facts, starts)]
    if judgement.verdict == "reliable":
        return (*found, *_one_start(facts, starts))
    if judgement.verdict.startswith("usable"):
        found.append(_RESAMPLE)
    found += [*_richer(facts, shifts), *_more_steps(facts)]
    if judgement.verdict == "not reliable":
        found += [*_one_start(facts, starts), *_other_methods(facts)]
    return tuple({piece.code: piece for piece in reversed(found)}.values())[::-1]


def _unfinished(facts: Facts) -> list[Advice]:
    if facts.ended is None or facts.ended.ended not in _CUT_SHORT:
        return []
    why = f"training did not finish ({facts.ended})"
    if facts.by == "fit":
        failed = facts.ended.ended == "failed"
        return [_LOOK if failed else Advice(f"{why}: climb again", "approx = pmf.fit(model=model)")]
    if facts.stacked:
        return [Advice(f"{why}: fit again", _from_starts(facts, _STARTS))]
    return [Advice(f"{why}: go on", _GO_ON)] if facts.trained else []


def _more_steps(facts: Facts) -> list[Advice]:
    known = facts.ended is not None and facts.ended.ended in ("converged", *_CUT_SHORT)
    if known or facts.stacked or not facts.trained:
        return []
    return [Advice("it may not have settled: train until it has", _GO_ON)]


def _missed_modes(facts: Facts, starts: Starts | None) -> list[Advice]:
    if starts is None or not starts.missed > MISSED:
        return []
    return [Advice("keep all modes, weighted by their evidence", _from_starts(facts, _STARTS))]


def _one_start(facts: Facts, starts: Starts | None) -> list[Advice]:
    if starts is not None:
        return []
    why = "if there may be several modes, begin from several places: no number here can see a mode"
    return [Advice(f"{why} that the fit has missed", _from_starts(facts, _STARTS))]


def _from_starts(facts: Facts, number: int) -> str:
    """The same family from several starts, all modes kept."""
    if facts.by == "fit":
        return f"approx = pmf.fit(model=model, restarts={number})"
    return _refit(facts, _formula(facts) or _dense(facts), restarts=number)


def _other_methods(facts: Facts) -> list[Advice]:
    found = []
    if facts.by != "fit" and facts.dim <= _DENSE:
        found.append(
            Advice(
                "let pmflow climb from a Gaussian to richer families by itself",
                "approx = pmf.fit(model=model)",
            )
        )
    return found if facts.minibatches else [*found, NUTS]


def _richer(facts: Facts, shifts: pd.DataFrame) -> list[Advice]:
    """A family that has what this one lacks."""
    formula, several = _formula(facts), facts.dim > 1
    dense = _dense(facts)
    if formula is None:
        why = "fit one flow to all variables: groups are independent of each other"
        return [Advice(why, f'approx = pmf.NFVI("{dense}", model=model).fit()')]
    found = []
    if several and not facts.correlated:
        with_them = f"{formula}-{dense}" if facts.bent else dense
        why = f"a formula with correlations (now {formula})"
        found.append(Advice(why, _refit(facts, with_them)))
    else:
        # more than the ladder has tried, where it was the ladder
        coupling = "coupling[hidden=64]*2" if facts.by == "fit" else "coupling*2"
        layers = coupling if several else "spline*2"
        why = "a formula that bends more" if facts.bent else "a formula that bends"
        found.append(Advice(f"{why} (now {formula})", _refit(facts, f"{layers}-{formula}")))
        if not facts.bent and facts.base == "normal" and _is_too_narrow(shifts):
            heavy = _refit(facts, formula, base="student_t")
            found.append(Advice("a base with heavier tails", heavy))
    lacks = facts.frame is None and (facts.bent or not facts.correlated)
    if several and lacks and facts.dim <= _DENSE:
        why = "scales and correlations found before training, which the layers then need not learn"
        found.append(Advice(why, _refit(facts, formula, frame="gaussian")))
    return found


def _dense(facts: Facts) -> str:
    return "tril-loc" if facts.dim <= _DENSE else "lowrank[rank=10]-loc"


def _formula(facts: Facts) -> str | None:
    """Of the one flow, or of what is one; None for several groups."""
    if len(facts.families) > 1:
        return None
    (family,) = facts.families
    return _AS_FORMULA.get(family, family)


def _refit(
    facts: Facts,
    formula: str,
    *,
    base: str | None = None,
    frame: str | None = None,
    restarts: int | None = None,
) -> str:
    """The line that fits a formula, with the base and the frame of the fit that is there."""
    options = ""
    if base is not None or facts.base != "normal":
        named = base or facts.base
        options += f', base="{named}"' if named else ", base=approx.groups[0].base"
    if frame is not None or facts.frame is not None:
        named = frame or facts.frame
        options += (
            f', frame="{named}"' if named in _NAMED_FRAMES else ", frame=approx.groups[0].frame"
        )
    if restarts is None and facts.stacked:
        restarts = _STARTS
    how = "" if restarts is None else f'restarts={restarts}, combine="stack"'
    return f'approx = pmf.NFVI("{formula}", model=model{options}).fit({how})'


def _is_too_narrow(shifts: pd.DataFrame) -> bool:
    return bool((shifts["sd_ratio"] < 1).mean() > 0.5)
