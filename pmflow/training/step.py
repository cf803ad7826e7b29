"""One optimisation step as a graph: loss, gradients, guarded updates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytensor.tensor as pt
from pymc.variational.opvi import ObjectiveFunction
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable
from pytensor.tensor.random.type import RandomType
from pytensor.tensor.variable import TensorVariable

__all__ = ["Optimizer", "Step", "build_step"]

type Optimizer = Callable[[list[TensorVariable], list[SharedVariable]], dict[Any, Any]]


@dataclass(frozen=True)
class Step:
    """Graphs of one step.

    Attributes
    ----------
    loss : TensorVariable, shape ()
        Negative ELBO at the parameters before the step, scaled to the minibatch if there is one.
    is_finite : TensorVariable, shape ()
        Whether loss and gradients are finite; where not, `updates` keep the old values.
    updates : dict of shared variable to Variable
        New values of parameters and of the optimiser's state.
    gradients : list of TensorVariable
        In the order of the approximation's `params`, after any constraint on their norm: what the
        optimiser got.
    """

    loss: TensorVariable
    is_finite: TensorVariable
    updates: dict[SharedVariable, Variable]
    gradients: list[TensorVariable]

    def watched(
        self, params: Sequence[SharedVariable], names: Sequence[str]
    ) -> dict[str, TensorVariable]:
        """Parameters after the step and the gradients it used, by name."""
        after = {name: self.updates[p] for name, p in zip(names, params, strict=True)}
        grads = {f"grad_{name}": g for name, g in zip(names, self.gradients, strict=True)}
        return after | grads


def build_step(
    objective: ObjectiveFunction,
    *,
    obj_optimizer: Optimizer,
    more_updates: Mapping[SharedVariable, Variable] | None = None,
    **kwargs: Any,
) -> Step:
    """Build the graphs of a step from PyMC's objective.

    Parameters
    ----------
    objective : pymc.variational.opvi.ObjectiveFunction
    obj_optimizer : callable
        ``(gradients, params) -> updates``, as PyMC's optimisers.
    more_updates : dict, optional
        The user's own updates: carried out at every step, finite or not.
    **kwargs
        Passed on to `ObjectiveFunction.updates`.
    """
    used: list[TensorVariable] = []

    def optimizer(gradients: list[TensorVariable], params: list[SharedVariable]) -> dict[Any, Any]:
        used.extend(gradients)
        return obj_optimizer(gradients, params)

    updates = objective.updates(obj_optimizer=optimizer, **kwargs)
    # a sum is finite only if all its terms are: one reduction a parameter, no mask
    checked = [updates.loss, *(g.sum() for g in used)]
    is_finite = pt.all(pt.stack([pt.isfinite(x) for x in checked]))
    guarded = {
        old: new if isinstance(old.type, RandomType) else pt.switch(is_finite, new, old)
        for old, new in updates.items()
    }
    return Step(
        loss=updates.loss,
        is_finite=is_finite,
        updates=guarded | dict(more_updates or {}),
        gradients=used[: len(objective.obj_params)],
    )
