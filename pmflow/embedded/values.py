"""A marginal that was found by its scores, weighted by its values where these have no noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pmflow.embedded.marginal import NoCentreError
from pmflow.embedded.nested import Nested
from pmflow.judging.weights import importance_weights

__all__ = ["with_values"]

_DF = 30.0
"""Degrees of freedom of what is proposed: with normal tails few far places would count for many."""
_DRAWS, _FEWEST = 256, 16.0
"""Of the global variables, and effective ones without which scores have led elsewhere."""


def with_values(nested: Nested, seed: int) -> Nested:
    """The same fit with each local variable integrated over by itself.

    What the scores have led to is no more than where global variables are proposed then.

    Parameters
    ----------
    nested : Nested
        With a marginal of its own, of local variables that are independent given the global ones.
    seed : int

    Raises
    ------
    NoCentreError
        If hardly any of the draws counts.
    """
    pull = np.zeros_like(nested.state.pull)
    assert nested.state.marginal is not None
    source = nested.state.marginal.heavier(_DF)
    state = replace(nested.state, marginal=source, locals_by="curves", pull=pull)
    made = Nested(nested.conditional, state)
    theta = source.draws(_DRAWS, seed)
    log_marginal = np.concatenate([given.log_marginal for given in made.each(theta)])
    weights = importance_weights(log_marginal, source.log_density(theta))
    if not weights.ess * _DRAWS > _FEWEST:
        raise NoCentreError("scores of the global variables do not lead to their marginal")
    found = replace(state, log_evidence=weights.log_evidence, ess=float(weights.ess))
    return Nested(nested.conditional, found)
