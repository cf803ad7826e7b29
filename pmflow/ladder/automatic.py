"""Fitting a model without being told how."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import pymc as pm
from pymc.util import RandomState

from pmflow.checks import check_names
from pmflow.errors import FitWarning, ParameterError
from pmflow.family.approximation import Approximation
from pmflow.graphs.private import seed_from
from pmflow.inference.checkpoint import Checkpoint, checkpoint_for
from pmflow.ladder.climb import Climb
from pmflow.ladder.in_rows import fit_in_rows
from pmflow.ladder.mirrors import WhichImages
from pmflow.ladder.rung import AbstractRung
from pmflow.ladder.states import ClimbCheckpoint
from pmflow.posterior.density import shared_densities
from pmflow.posterior.model import checked_model
from pmflow.training.options import FitOptions

__all__ = ["STARTS", "climb_on", "fit_automatically", "fitted", "tell_verdict"]

STARTS = 8


def fit_automatically(
    model: pm.Model | None,
    *,
    random_seed: RandomState = None,
    start: Mapping[str, Any] | None = None,
    symmetry: WhichImages = "all",
    **options: Any,
) -> Approximation:
    """Fit richer and richer families until one is good, judged at fresh draws.

    Parameters
    ----------
    model : pymc.Model or None
        Defaults to the model of the context.
    random_seed : int, Generator or RandomState, optional
    start : dict, optional
        The first of the starts, by variable, in constrained space.
    symmetry : {"all", "one"}
        Where the posterior has mirror images, such as those of exchanged labels: return a fit of
        all of them, or of one, which its verdict mentions.
    **options
        As of `NFVI.fit`. `restarts`, 8 by default, are starts of the Gaussian, which show modes;
        all modes are fitted and stacked. `n`, `obj_optimizer`, `combine`, `schedule` and
        `objective` are chosen.

    Returns
    -------
    Approximation
        With `diagnosis` and `ladder`. After an interrupt, the best one so far.

    Raises
    ------
    ParameterError, BackendError
        If an argument is unknown or wrong, or one that this method chooses by itself.
    NotContinuousError
        If a free variable is discrete.

    Warns
    -----
    FitWarning
        If the best fit is not reliable, or could not be judged.
    """
    for name in ("n", "obj_optimizer", "combine", "schedule", "objective"):
        if options.get(name) is not None:
            raise ParameterError(
                f"method='auto' chooses {name} by itself. Leave {name} out, or say which flow to "
                "fit: method='nfvi=scale-loc'."
            )
    if options.get("executor") is not None:
        raise ParameterError(
            "executor= is for the starts of one flow: method='nfvi=planar*8', restarts=16. For one "
            "model and many sets of data there is pmflow.refit(..., executor=...)."
        )
    if symmetry not in ("all", "one"):
        raise ParameterError(
            f"symmetry must be 'all' or 'one' of the mirror images of a posterior, but is "
            f"{symmetry!r}."
        )
    check_names(options, (*FitOptions.names(), "symmetry"), "fit")
    asked = FitOptions(**{"restarts": STARTS, **options})
    model = checked_model(model)
    seed, file = seed_from(random_seed), checkpoint_for(asked, model)
    with shared_densities():
        result = fitted(model, seed, start, asked, symmetry, file)
    tell_verdict(result, stacklevel=4)
    return result


def fitted(
    model: pm.Model,
    seed: int,
    start: Mapping[str, Any] | None,
    options: FitOptions,
    symmetry: WhichImages = "all",
    file: Checkpoint | None = None,
    rungs: Sequence[AbstractRung] | None = None,
) -> Approximation:
    """The best fit, by a few of many rows where that will do, and nothing told."""
    found = fit_in_rows(model, seed, start, options, symmetry, file)
    if found is not None:
        return found
    return Climb(model, seed, start, options, symmetry, rungs).up(file)


def climb_on(climb: Climb, state: ClimbCheckpoint) -> Approximation:
    """Go on with a climb that was broken off, from its state."""
    model, options, at = climb.model, climb.options, state.climb
    file = checkpoint_for(options, model)
    with shared_densities():
        found = fit_in_rows(model, at.seed, at.start, options, at.symmetry, file, state)
        return climb.up(file, begun=state.fit) if found is None else found


def tell_verdict(result: Approximation, stacklevel: int) -> None:
    """Warn where the best fit is not reliable, or could not be judged."""
    found, ladder, state = result.diagnosis, result.ladder, result.fit_state
    if state is not None and state.ended in ("interrupted", "time"):
        said = (
            "was not judged yet: pmflow.diagnose(approx) does it"
            if found is None
            else f"is {found.summary}. Print approx.diagnosis for what to try"
        )
        warnings.warn(
            f"The fit was stopped ({state}). The best so far {said}.",
            FitWarning,
            stacklevel=stacklevel,
        )
    elif found is None:
        warnings.warn(
            "The best fit is returned, but how good it is was not judged. "
            "pmflow.diagnose(approx) does it, or says why that can't be.",
            FitWarning,
            stacklevel=stacklevel,
        )
    elif found.verdict != "reliable":
        warnings.warn(
            f"The best of {len(ladder.rungs)} fits is {found.summary}. "
            f"{' '.join(found.reasons)}. Print approx.diagnosis for what to try.",
            FitWarning,
            stacklevel=stacklevel,
        )
