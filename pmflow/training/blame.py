"""Which variables of the model make a step fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt
from pymc.pytensorf import find_rng_nodes, reseed_rngs

from pmflow.errors import NonFiniteError
from pmflow.graphs.evaluate import GLOBAL_STATE, compile_once

__all__ = ["check_beginning", "find_culprits"]

_DRAWS = 100

_FIRST = 10
"""Draws looked at before the others: nearly always one of them is fine."""


def check_beginning(approx: Any, step: int) -> None:
    """Check that the model has a finite log density at some draw, before steps are compiled.

    Evaluated by NumPy, which starts at once; it changes no random state of the approximation.

    Parameters
    ----------
    approx : Approximation
    step : int
        The step that is to come, for the error.

    Raises
    ------
    NonFiniteError
        If it is infinite or NaN at all of 100 draws.
    """
    for draws in (_FIRST, _DRAWS):
        with np.errstate(all="ignore"):
            if np.isfinite(approx.draw(draws, 0).log_p).any():
                return
    culprits = find_culprits(approx, 0)
    found = "; ".join(f"{name!r}: {what}" for name, what in culprits.items())
    raise NonFiniteError(
        f"The log density of the model is infinite or NaN at all of {_DRAWS} draws at the start, "
        f"so that no step can be taken; nothing was compiled. {found}. Look at the model with "
        "model.debug() and model.point_logps(), or give `start` a point of positive probability "
        "for these variables.",
        step=step,
        variables=tuple(culprits),
    )


def find_culprits(approx: Any, seed: int) -> dict[str, str]:
    """Name the variables whose log-probability or gradient is not finite at fresh draws.

    Parameters
    ----------
    approx : Approximation
        At the last good parameters.
    seed : int

    Returns
    -------
    dict of str to str
        Name of a variable of the model, and what is wrong with it, in words.
    """
    model = approx.model
    terms = [*model.free_RVs, *model.observed_RVs, *model.potentials]
    with GLOBAL_STATE:  # PyMC changes PyTensor's flags as it writes a log density
        logps = [term.sum() for term in model.logp(vars=terms, sum=False)]
    total = sum(logps[1:], logps[0])
    values = list(model.rvs_to_values[rv] for rv in model.free_RVs)
    # the whole gradient at one point is batched with the terms: one function, one set of draws
    gradients = [pt.abs(g).sum() for g in pt.grad(total, values, disconnected_inputs="ignore")]
    batched = approx.symbolic_sample_over_posterior([*logps, *gradients])
    outputs = approx.set_size_and_deterministic(batched, _DRAWS, 0)
    fn = compile_once([], outputs, random_seed=False)
    reseed_rngs(find_rng_nodes(outputs), seed)
    with np.errstate(all="ignore"):
        results = fn()
    culprits: dict[str, str] = {}
    for term, result in zip(terms, results[: len(terms)], strict=True):
        bad = ~np.isfinite(result)
        if bad.any():
            kinds = " or ".join(sorted({str(x) for x in result[bad]}))
            culprits[term.name] = f"its log-probability is {kinds} in {bad.sum()} of {_DRAWS} draws"
    for rv, result in zip(model.free_RVs, results[len(terms) :], strict=True):
        bad = ~np.isfinite(result)
        if bad.any() and rv.name not in culprits:
            culprits[rv.name] = (
                f"the gradient of the log-probability with respect to it is not finite in "
                f"{bad.sum()} of {_DRAWS} draws"
            )
    return culprits
