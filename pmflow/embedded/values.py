"""A marginal that was found by its scores, weighted by its values where these have no noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from pmflow.embedded.conditional import Conditional
from pmflow.embedded.globals import is_gaussian
from pmflow.embedded.marginal import Centre, is_independent
from pmflow.embedded.nested import Nested
from pmflow.judging.weights import importance_weights

__all__ = ["integrated", "with_values"]

_DF = 30.0
"""Degrees of freedom of what is proposed: with normal tails few far places would count for many."""
_DRAWS, _FEWEST = 256, 0.1
"""Of the global variables, and the share of them that must count: of fewer, weighted moments have
more noise than what the scores have led to has errors."""


def integrated(conditional: Conditional, centre: Centre) -> Literal["gaussian", "curves"] | None:
    """How local variables are integrated over without noise; None where it takes draws."""
    if is_independent(conditional, centre):
        return "curves"
    return "gaussian" if is_gaussian(conditional, centre.z) else None


def with_values(
    nested: Nested, locals_by: Literal["gaussian", "curves"], seed: int
) -> Nested | None:
    """The same fit with local variables that are integrated over exactly.

    What the scores have led to is no more than where global variables are proposed then. None where
    too few of the places that are proposed count.

    Parameters
    ----------
    nested : Nested
        With a marginal of its own.
    locals_by : {"gaussian", "curves"}
        What the local variables are, see `NestedState`.
    seed : int
    """
    pull = np.zeros_like(nested.state.pull)
    assert nested.state.marginal is not None
    source = nested.state.marginal.heavier(_DF)
    state = replace(nested.state, marginal=source, locals_by=locals_by, pull=pull)
    made = Nested(nested.conditional, state)
    theta = source.draws(_DRAWS, seed)
    log_marginal = np.concatenate([given.log_marginal for given in made.each(theta)])
    weights = importance_weights(log_marginal, source.log_density(theta))
    if not weights.ess > _FEWEST:
        return None
    found = replace(state, log_evidence=weights.log_evidence, ess=float(weights.ess))
    return Nested(nested.conditional, found)
