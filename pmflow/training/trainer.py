"""Compiling the steps of an approximation, once for all fits that differ in little."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from pymc.pytensorf import floatX, resolve_backend_compile_kwargs

from pmflow.graphs.evaluate import changed_flags
from pmflow.objectives.estimators import objective_for
from pmflow.training.blame import check_beginning
from pmflow.training.loops.engine import compile_loop
from pmflow.training.loops.loop import Loop, Trace
from pmflow.training.optimizers import optimizer_rate
from pmflow.training.options import FitOptions
from pmflow.training.step import build_step
from pmflow.watch import piece

__all__ = ["Trainer"]


class Trainer:
    """Compiles the steps of an approximation, and keeps what it has compiled.

    A second fit that differs in nothing but callbacks, seed and learning rate begins at once.

    Parameters
    ----------
    approx : Approximation
    objective : pymc.variational.opvi.ObjectiveFunction
    """

    def __init__(self, approx: Any, objective: Any) -> None:
        self.approx = approx
        self._objective = objective
        self._loops: list[tuple[dict[str, Any], Loop]] = []

    def loop_for(self, options: FitOptions, seed: int, step: int) -> tuple[Loop, Trace | None]:
        """A loop that does what the options say, and what the first step of a new one gave.

        Parameters
        ----------
        options : FitOptions
            Filled in for the approximation.
        seed : int
        step : int
            The number of the step that is to come, for errors.
        """
        for key, loop in self._loops:
            if key == options.key and not loop.is_stale:
                loop.step.params.pull()
                loop.restart(seed)
                if loop.step.learning_rate is not None:
                    rate = optimizer_rate(options.obj_optimizer)
                    loop.step.learning_rate.set_value(floatX(rate))
                return loop, None
        with piece("looking at the model where the fit begins"):
            check_beginning(self.approx, step)
        settings = options.step
        compile_kwargs = resolve_backend_compile_kwargs(
            settings.pop("backend"), settings.pop("compile_kwargs")
        )
        objective = objective_for(
            self._objective, settings.pop("estimator"), anneal=settings.pop("anneal")
        )
        with piece("writing the graph of a step"):
            graphs = build_step(objective, **settings)
        # Numba's fast mathematics rounds otherwise in code that comes from its disk cache
        exact = options.checkpoint is not None
        with changed_flags(numba__fastmath=False) if exact else nullcontext():
            loop, first = compile_loop(
                graphs, record=bool(options.trackers), compile_kwargs=compile_kwargs, seed=seed
            )
        self._loops.append((options.key, loop))
        return loop, first
