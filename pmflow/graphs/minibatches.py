"""Which variables of a model are observed in minibatches."""

from __future__ import annotations

from typing import Any

from pymc.data import MinibatchOp
from pymc.variational.minibatch_rv import MinibatchRandomVariable
from pytensor.graph.traversal import ancestors

__all__ = ["observed_in_minibatches"]


def observed_in_minibatches(model: Any) -> list[str]:
    """Names of what is observed in minibatches: the log density of such a model is an estimate."""
    found = []
    for rv in model.observed_RVs:
        graph = ancestors([rv, model.rvs_to_values[rv]])
        if any(
            isinstance(getattr(v.owner, "op", None), MinibatchOp | MinibatchRandomVariable)
            for v in graph
        ):
            found.append(rv.name)
    return found
