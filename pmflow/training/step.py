"""One optimisation step as a graph: loss, gradients, guarded updates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pymc.pytensorf import collect_default_updates, floatX, reseed_rngs
from pymc.variational.opvi import ObjectiveFunction
from pymc.variational.updates import get_or_compute_grads
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable
from pytensor.graph.replace import clone_replace
from pytensor.graph.traversal import ancestors, graph_inputs
from pytensor.tensor.random.type import RandomType
from pytensor.tensor.variable import TensorConstant, TensorVariable

from pmflow.draws.chunks import mean_over_chunks
from pmflow.draws.normal import NormalDraws
from pmflow.draws.sobol import QuasiDraws
from pmflow.graphs.checks import checks_as_values
from pmflow.graphs.evaluate import ready_to_compile
from pmflow.training.optimizers import ELEMENTWISE, SteadyAdam, optimizer_rate
from pmflow.training.params import ParamVector

__all__ = ["MAX_FAILURES", "Optimizer", "Step", "build_step"]

type Optimizer = Callable[[list[TensorVariable], list[SharedVariable]], dict[Any, Any]]

MAX_FAILURES = 100
"""A fit ends after this many steps in a row without a finite loss and gradient."""

_LARGE = 2**16
"""A constant of this many numbers or more is passed to the compiled code, not embedded in it."""


@dataclass(frozen=True)
class Step:
    """Graphs of one step, over the vector of parameters.

    Attributes
    ----------
    params : ParamVector
    loss : TensorVariable, shape ()
        Negative ELBO at the parameters before the step, scaled to the minibatch if there is one.
    updates : dict of shared variable to Variable
        New values of parameters, of the optimiser's state, of random generators and of `failures`.
        Where loss or gradients are not finite, parameters and optimiser keep their values.
    failures : shared variable, int
        How many steps in a row, up to the last one, were not finite.
    gradient : TensorVariable, shape (size,)
        What the optimiser got: the gradient after any constraint on its norm.
    learning_rate : shared variable or None
        The learning rate of PyMC's optimisers: another value needs no new compilation.
    handles : dict of str to shared variable
        What a course may set or read while the loop runs, by name: see `SteadyAdam.updates`, and
        ``annealed``, how far the target is on its way to the posterior.
    noise : list of tuple of shared variable and TensorVariable
        The random generator and the standard normal numbers of each group's draws: a loop may put
        numbers of its own in their place. Empty for a Sobol set, and where chunks are drawn in a
        scan.
    """

    params: ParamVector
    loss: TensorVariable
    updates: dict[SharedVariable, Variable]
    failures: SharedVariable
    gradient: TensorVariable
    learning_rate: SharedVariable | None
    handles: dict[str, SharedVariable]
    noise: list[tuple[SharedVariable, TensorVariable]]
    _fresh: dict[SharedVariable, Any] = field(repr=False)
    _quasi: QuasiDraws | None = field(default=None, repr=False)

    @property
    def size(self) -> int:
        """How many numbers are trained."""
        return int(self.params.vector.type.shape[0])

    @property
    def new_params(self) -> TensorVariable:
        """The parameters after the step, shape (size,)."""
        return self.updates[self.params.vector]

    @property
    def points(self) -> SharedVariable | None:
        """A row for each draw of a step, of a Sobol set whose draws are all evaluated at once."""
        quasi = self._quasi
        return quasi.points if quasi is not None and quasi.chunk is quasi.points else None

    @property
    def unread(self) -> set[SharedVariable]:
        """State of the optimiser that nobody reads while the loop runs."""
        return set(self._fresh) - {self.failures, *self.handles.values()}

    @property
    def constants(self) -> list[SharedVariable]:
        """Shared variables that the step reads and does not change, such as data."""
        graphs = [self.loss, self.gradient, *self.updates.values()]
        return [
            v
            for v in graph_inputs(graphs)
            if isinstance(v, SharedVariable) and v not in self.updates
        ]

    def restart(self, seed: int) -> None:
        """Give the optimiser its first state and the random generators new ones."""
        for shared, value in self._fresh.items():
            shared.set_value(np.array(value))
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Seed the random generators."""
        reseed_rngs([v for v in self.updates if isinstance(v.type, RandomType)], seed)
        if self._quasi is not None:
            self._quasi.reseed(seed)


def build_step(
    objective: ObjectiveFunction,
    *,
    obj_optimizer: Optimizer,
    obj_n_mc: int = 1,
    chunk_draws: int | None = None,
    total_grad_norm_constraint: float | None = None,
    more_obj_params: Sequence[SharedVariable] | None = None,
    more_updates: Mapping[SharedVariable, Variable] | None = None,
    more_replacements: Mapping[Variable, Variable] | None = None,
    qmc: bool = False,
) -> Step:
    """Build the graphs of a step from PyMC's objective.

    Parameters
    ----------
    objective : pymc.variational.opvi.ObjectiveFunction
    obj_optimizer : callable
        ``(gradients, params) -> updates``, as PyMC's optimisers.
    obj_n_mc : int
        How many draws a step takes.
    chunk_draws : int, optional
        How many draws are evaluated at a time, a divisor of `obj_n_mc`; all by default.
    total_grad_norm_constraint, more_obj_params, more_replacements
        As of `ObjectiveFunction.updates`.
    more_updates : dict, optional
        The user's own updates: carried out at every step, finite or not.
    qmc : bool
        Whether the draws of a step are a Sobol set moved at random (see `QuasiDraws`).
    """
    more_updates = dict(more_updates or {})
    optimize = _Flattening(obj_optimizer)
    chunk = chunk_draws or obj_n_mc
    groups = objective.approx.groups
    quasi = QuasiDraws(groups, obj_n_mc, chunk) if qmc else None
    normal = NormalDraws(groups, chunk)
    # the user's come last: they may replace these too
    replacements = {**(quasi or normal).replacements, **(more_replacements or {})}
    own = [*objective.obj_params, *(more_obj_params or ())]
    loss = objective(chunk, more_obj_params=more_obj_params, more_replacements=replacements)
    gradients = get_or_compute_grads(loss, own)
    bounds = objective.approx.model.check_bounds
    order = list(collect_default_updates([loss, *gradients]))
    if chunk < obj_n_mc:
        loss, gradients = _in_chunks(loss, gradients, own, obj_n_mc // chunk, quasi, bounds)
    if total_grad_norm_constraint is not None:
        gradients = pm.total_norm_constraint(gradients, total_grad_norm_constraint)
    updates = optimize(gradients, own)
    vector = optimize.params.vector
    # a sum is finite only if all its terms are: one reduction, no mask
    is_finite = pt.isfinite(loss) & pt.isfinite(optimize.gradient.sum())
    failures = pytensor.shared(np.int32(0), "failures")
    guarded = {old: pt.switch(is_finite, new, old) for old, new in updates.items()}
    guarded[failures] = pt.switch(is_finite, 0, failures + 1).astype("int32")
    by_hand = [more_updates.pop(p, None) for p in optimize.params.params]
    if any(new is not None for new in by_hand):
        parts = optimize.params.parts(guarded[vector])
        guarded[vector] = optimize.params.join(
            [part if new is None else new for part, new in zip(parts, by_hand, strict=True)]
        )
    guarded |= more_updates
    generators = collect_default_updates([loss, optimize.gradient, *guarded.values()])
    # seeds are given in this order: with chunks and without the same ones
    generators = {rng: generators[rng] for rng in dict.fromkeys([*order, *generators])}
    guarded |= {rng: new for rng, new in generators.items() if rng not in guarded}
    # `pymc.compile` does so to the function it compiles, but not to what is inside of a scan
    seen = set(ancestors([loss, optimize.gradient]))
    noise = [draw for draw in normal.generators if draw in seen]
    graphs = [loss, optimize.gradient, *guarded.values(), *noise]
    graphs = checks_as_values(graphs, check_bounds=bounds)
    replaced = clone_replace(graphs, optimize.params.replacements() | _large_constants(graphs))
    new_values = [
        old.type.filter_variable(new, allow_convert=True)
        for old, new in zip(guarded, replaced[2 : 2 + len(guarded)], strict=True)
    ]
    drawn = replaced[2 + len(guarded) :]
    loss, gradient, *new_values = ready_to_compile([*replaced[:2], *new_values, *drawn])
    new_values, drawn = new_values[: len(guarded)], new_values[len(guarded) :]
    return Step(
        params=optimize.params,
        loss=loss,
        updates=dict(zip(guarded, new_values, strict=True)),
        failures=failures,
        gradient=gradient,
        learning_rate=optimize.learning_rate,
        handles=optimize.handles | _annealed(objective),
        noise=list(zip((normal.generators[draw] for draw in noise), drawn, strict=True)),
        _fresh={v: v.get_value() for v in [*updates, failures] if v is not vector},
        _quasi=quasi,
    )


def _in_chunks(
    loss: TensorVariable,
    gradients: list[TensorVariable],
    params: list[SharedVariable],
    chunks: int,
    quasi: QuasiDraws | None,
    check_bounds: bool,  # noqa: FBT001
) -> tuple[TensorVariable, list[TensorVariable]]:
    """Mean loss and gradients over `chunks` chunks of draws, given those of one chunk."""
    vector = ParamVector(params)
    gradient = pt.specify_shape(vector.join(gradients), vector.vector.type.shape)

    def prepare(graphs: list[Variable]) -> tuple[list[Variable], dict[Variable, SharedVariable]]:
        graphs = checks_as_values(graphs, check_bounds=check_bounds)
        return graphs, _large_constants(graphs)

    loss, mean = mean_over_chunks(
        [loss, gradient],
        chunks,
        once=[quasi.shift] if quasi else (),
        sliced={quasi.chunk: quasi.chunks} if quasi else {},
        prepare=prepare,
    )
    return loss, vector.parts(mean)


def _annealed(objective: ObjectiveFunction) -> dict[str, SharedVariable]:
    """The share of the way to the posterior, of an objective that has one."""
    share = getattr(objective.op, "share", None)
    return {} if share is None else {"annealed": share}


class _Flattening:
    """An optimiser of many parameters that works on one vector."""

    params: ParamVector
    gradient: TensorVariable

    def __init__(self, optimizer: Any) -> None:
        self.learning_rate: SharedVariable | None = None
        self.handles: dict[str, SharedVariable] = {}
        self._is_elementwise = getattr(optimizer, "func", optimizer) in ELEMENTWISE
        rate = optimizer_rate(optimizer)
        if rate is not None:
            self.learning_rate = pytensor.shared(floatX(rate), "learning_rate")
            self.handles = {"learning_rate": self.learning_rate}
            optimizer = partial(optimizer, learning_rate=self.learning_rate)
        self._optimizer = optimizer

    def __call__(
        self, gradients: list[TensorVariable], params: list[SharedVariable]
    ) -> dict[SharedVariable, TensorVariable]:
        self.params = ParamVector(params)
        self.gradient = self.params.join(gradients)
        vector = self.params.vector
        if isinstance(self._optimizer, SteadyAdam):
            made, self.handles = self._optimizer.updates(self.gradient, vector)
            return made
        if self._is_elementwise:
            return dict(self._optimizer([self.gradient], [vector]))
        updates = dict(self._optimizer(gradients, params))
        new = self.params.join([updates.pop(p, p) for p in params])
        return {vector: new, **updates}


def _large_constants(graphs: list[Variable]) -> dict[Variable, SharedVariable]:
    """Data that are part of the graph, as shared variables, without copying them.

    Compilers would hash and embed them, and numba can't keep such code for the next session.
    """
    return {
        x: pytensor.shared(x.data, borrow=True, shape=x.data.shape)
        for x in graph_inputs(graphs)
        if isinstance(x, TensorConstant) and x.data.size >= _LARGE
    }
