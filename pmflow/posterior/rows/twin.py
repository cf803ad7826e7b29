"""A model with another likelihood in the place of what it observes in rows."""

from __future__ import annotations

from collections.abc import Sequence

import pymc as pm
from pytensor.tensor.variable import TensorVariable

from pmflow.graphs.evaluate import GLOBAL_STATE
from pmflow.graphs.minibatches import has_minibatches
from pmflow.posterior.copied import add_potential, copied

__all__ = ["twin_of"]


def twin_of(model: pm.Model, in_rows: Sequence[str], likelihood: TensorVariable) -> pm.Model:
    """A model of the same variables in which the rows of some observed ones count by another graph.

    Deterministics that follow from minibatches are left out: they are other numbers at each call.

    Parameters
    ----------
    model : pymc.Model
    in_rows : sequence of str
        Names of these observed variables.
    likelihood : TensorVariable, shape ()
        A graph of the model's value variables.
    """
    of_rows = [v.name for v in model.deterministics if has_minibatches([v])]
    with GLOBAL_STATE:  # PyMC changes PyTensor's flags as it makes variables
        twin = copied(model, without={*in_rows, *of_rows})
        add_potential(twin, "rows", likelihood)
    return twin
