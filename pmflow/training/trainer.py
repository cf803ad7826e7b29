"""Compiling the steps of an approximation, once for all fits that differ in little."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from pymc.pytensorf import floatX, resolve_backend_compile_kwargs

from pmflow.graphs.evaluate import GLOBAL_STATE, changed_flags
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
    beta : float
        Weight of the divergence from the prior.
    """

    def __init__(self, approx: Any, beta: float) -> None:
        self.approx = approx
        self._beta = beta
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
        objective = options.objective
        assert objective is not None
        if objective.uses_model:
            with piece("looking at the model where the fit begins"):
                check_beginning(self.approx, step)
        settings = options.step
        del settings["objective"]
        compile_kwargs = resolve_backend_compile_kwargs(
            settings.pop("backend"), settings.pop("compile_kwargs")
        )
        # PyTensor changes its flags as it makes nodes
        with piece("writing the graph of a step"), GLOBAL_STATE:
            loss = objective.function(
                self.approx,
                self._beta,
                draws=options.chunk_draws or options.obj_n_mc or 1,
                estimator=settings.pop("estimator"),
                anneal=settings.pop("anneal"),
            )
            graphs = build_step(loss, **settings)
        # Numba's fast mathematics rounds otherwise in code that comes from its disk cache
        with changed_flags(numba__fastmath=False) if options.is_exact else nullcontext():
            loop, first = compile_loop(
                graphs, record=bool(options.trackers), compile_kwargs=compile_kwargs, seed=seed
            )
        self._loops.append((options.key, loop))
        return loop, first
