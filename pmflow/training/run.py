"""Running a fit: chunks of steps, and between them callbacks, progress and Ctrl-C."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pymc.pytensorf import floatX, resolve_backend_compile_kwargs

from pmflow.errors import NonFiniteError
from pmflow.graphs.evaluate import changed_flags
from pmflow.objectives.estimators import objective_for
from pmflow.training.blame import check_beginning, find_culprits
from pmflow.training.handles import LoopHandles, Losses
from pmflow.training.loops.engine import compile_loop
from pmflow.training.loops.loop import Loop, Trace
from pmflow.training.pace import DeferredInterrupt, Pace, is_due, next_due
from pmflow.training.progress import FitProgress, recent_loss
from pmflow.training.run_state import Keeper, RunState
from pmflow.training.step import MAX_FAILURES, build_step, optimizer_key, optimizer_rate

__all__ = ["Trainer"]

_log = logging.getLogger("pmflow")

type Ended = Literal["steps", "interrupted", "callback"]
type Callback = Callable[[Any, NDArray[np.float64] | None, int], Any]


@dataclass(frozen=True)
class _Plan:
    """What a fit was asked for."""

    callbacks: tuple[Callback, ...]
    score: bool
    settings: dict[str, Any]
    seed: int
    keeper: Keeper | None = None

    @property
    def trackers(self) -> list[Any]:
        """Callbacks whose parameters and gradients the loop records."""
        return [c for c in self.callbacks if getattr(c, "watched_names", ())]

    @property
    def key(self) -> dict[str, Any]:
        """Equal for plans that one compiled loop can carry out."""
        optimizer = optimizer_key(self.settings["obj_optimizer"])
        return {
            **self.settings,
            "obj_optimizer": optimizer,
            "record": bool(self.trackers),
            "exact": self.keeper is not None,
        }


class Trainer:
    """Carries out the fits of one inference, whose `hist` and `skipped` it keeps up to date.

    Compiled loops are kept: a second fit that differs in nothing but callbacks, seed and learning
    rate begins at once.

    Parameters
    ----------
    inference : Inference
        With `approx`, `objective`, `hist` and `skipped`.
    """

    def __init__(self, inference: Any) -> None:
        self._inference = inference
        self._loops: list[tuple[dict[str, Any], Loop]] = []
        self._plan: _Plan | None = None
        self._loop: Loop | None = None
        self._steps_done = self._begin = self._end = 0
        self._taken: RunState | None = None
        self._is_whole = False
        self._failed_in_a_row = 0  # a schedule that restarts the loop resets what the loop counts

    @property
    def steps_done(self) -> int:
        """Of all fits."""
        return self._steps_done

    @property
    def has_begun(self) -> bool:
        """Whether there was a fit to go on with."""
        return self._plan is not None

    def begin(
        self,
        callbacks: tuple[Callback, ...],
        *,
        score: bool,
        settings: dict[str, Any],
        seed: int,
        keeper: Keeper | None = None,
    ) -> None:
        """Plan a fit with a fresh optimiser and fresh random numbers.

        Parameters
        ----------
        callbacks : tuple of callable
        score : bool
            Whether to keep losses in `hist`.
        settings : dict
            Arguments of `build_step`, and `backend`, `compile_kwargs`, `estimator` and
            `anneal`.
        seed : int
        keeper : Keeper, optional
            Is offered the state of the fit between chunks, to write it to a file.
        """
        self._plan, self._loop = _Plan(callbacks, score, settings, seed, keeper), None
        self._failed_in_a_row, self._taken = 0, None

    def go_back(self, taken: RunState) -> None:
        """To the state of a fit that was broken off, planned anew by `begin`."""
        self._taken, self._steps_done = taken, taken.done

    def run(self, segments: Iterable[int], progress: FitProgress) -> Ended:
        """Do steps; whatever ends them, losses and parameters so far are kept.

        Parameters
        ----------
        segments : iterable of int
            Numbers of steps. Between them the state may be looked at and changed.
        progress : FitProgress

        Returns
        -------
        {"steps", "interrupted", "callback"}
            What ended it.
        """
        assert self._plan is not None
        begin = self._begin = self._taken.begin if self._taken else self._steps_done
        self._losses = Losses(self._inference.hist)
        self._is_whole = False
        ended: Ended | None = None
        try:
            with DeferredInterrupt() as interrupt:
                self._run_segments(segments, progress, interrupt)
            ended = "steps"
        except KeyboardInterrupt:
            ended = "interrupted"
            _log.warning(
                "Interrupted at step %d; everything fitted so far is kept.", self._steps_done
            )
        except StopIteration as stop:
            ended = "callback"
            _log.info("Stopped at step %d: %s", self._steps_done, stop)
        finally:
            if self._plan.score:
                self._inference.hist = self._losses.so_far
            hist = self._inference.approx.hist = self._inference.hist  # pm.fit looks for it there
            shown = hist if self._plan.score else None
            progress.update(self._steps_done - begin, shown, force=True)
            self._keep(ended or "failed")
        if self._plan.score and len(hist):
            _log.info("Average loss of the last steps: %.5g", recent_loss(hist))
        return ended

    def _run_segments(
        self, segments: Iterable[int], progress: FitProgress, interrupt: DeferredInterrupt
    ) -> None:
        assert self._plan is not None
        plan, begin, pace = self._plan, self._begin, Pace()
        for n in segments:
            end = self._end = self._steps_done + n
            if n and self._loop is None:
                self._loop, first = self._compile(plan)
                if first is not None:
                    self._record(plan, self._loop, first)
                    self._call_back(plan, begin)
                progress.begin()
            while self._steps_done < end:
                assert self._loop is not None
                due = next_due(self._steps_done, begin + 1, plan.callbacks) or end
                steps = min(due, end) - self._steps_done
                steps = min(steps, pace.steps, self._loop.most_steps)
                with interrupt.held():
                    self._is_whole = False
                    self._loop.step.params.pull()
                    with pace.measure(steps):
                        trace = self._loop.advance(steps)
                    self._record(plan, self._loop, trace)
                self._call_back(plan, begin)
                shown = self._losses.so_far if plan.score else None
                progress.update(self._steps_done - begin, shown)
                with interrupt.held():
                    self._keep()

    def _keep(self, ended: str | None = None) -> None:
        """Offer the state to who keeps it, unless a chunk was broken off in its middle."""
        assert self._plan is not None
        if self._plan.keeper is not None and self._loop is not None and self._is_whole:
            self._plan.keeper.offer(self._take, ended)

    def _take(self) -> RunState:
        assert self._loop is not None
        assert self._plan is not None
        self._loop.step.params.pull()  # what a callback has set
        return RunState(
            seed=self._plan.seed,
            begin=self._begin,
            done=self._steps_done,
            end=self._end,
            skipped=self._inference.skipped,
            score=self._plan.score,
            losses=self._losses.so_far if self._plan.score else self._inference.hist,
            arrays=self._loop.snapshot(),
        )

    @property
    def handles(self) -> LoopHandles:
        """The state of the compiled loop, for a schedule."""
        assert self._loop is not None
        assert self._plan is not None
        return LoopHandles(self._loop, self._losses, self._plan.seed)

    def _compile(self, plan: _Plan) -> tuple[Loop, Trace | None]:
        """A loop that does what is planned, and what the first step of a new one gave."""
        for key, loop in self._loops:
            if key == plan.key and not loop.is_stale:
                loop.step.params.pull()
                loop.restart(plan.seed)
                if loop.step.learning_rate is not None:
                    rate = optimizer_rate(plan.settings["obj_optimizer"])
                    loop.step.learning_rate.set_value(floatX(rate))
                return loop, None
        check_beginning(self._inference.approx, self._steps_done + 1)
        settings = dict(plan.settings)
        compile_kwargs = resolve_backend_compile_kwargs(
            settings.pop("backend"), settings.pop("compile_kwargs")
        )
        objective = objective_for(
            self._inference.objective,
            settings.pop("estimator", "total"),
            anneal=settings.pop("anneal", False),
        )
        step = build_step(objective, **settings)
        # Numba's fast mathematics rounds otherwise in code that comes from its disk cache
        exact = nullcontext() if plan.keeper is None else changed_flags(numba__fastmath=False)
        with exact:
            loop, first = compile_loop(
                step, record=bool(plan.trackers), compile_kwargs=compile_kwargs, seed=plan.seed
            )
        self._loops.append((plan.key, loop))
        if self._taken is None:
            return loop, first
        loop.go_back(plan.seed, self._taken.arrays)  # also from the first step, that of compiling
        loop.step.params.push()
        self._taken = None
        return loop, None

    def _record(self, plan: _Plan, loop: Loop, trace: Trace) -> None:
        """Keep what some steps gave: parameters, losses, what trackers watch."""
        approx, params = self._inference.approx, loop.step.params
        params.push()
        self._losses.extend(trace.losses)
        if trace.params is not None and trace.gradients is not None:
            names = approx.param_names
            # the parameters of `more_obj_params` come after those of the approximation
            values = dict(zip(names, params.split(trace.params), strict=False))
            gradients = params.split(trace.gradients)
            values |= {f"grad_{n}": g for n, g in zip(names, gradients, strict=False)}
            for tracker in plan.trackers:
                tracker.extend(self._steps_done + 1, values)
        self._steps_done += len(trace.losses)
        self._inference.skipped += int((trace.failures > 0).sum())
        self._is_whole = True
        good = np.flatnonzero(trace.failures == 0)
        failed = len(trace.failures) - 1 - int(good[-1]) if len(good) else len(trace.failures)
        failed += 0 if len(good) else self._failed_in_a_row
        self._failed_in_a_row = failed
        if failed >= MAX_FAILURES:
            loop.step.failures.set_value(np.int32(0))
            self._failed_in_a_row = 0
            raise _failure(approx, failed, self._steps_done - failed + 1)

    def _call_back(self, plan: _Plan, begin: int) -> None:
        so_far = self._losses.so_far if plan.score else None
        for callback in plan.callbacks:
            if is_due(callback, self._steps_done, begin + 1):
                callback(self._inference.approx, so_far, self._steps_done)


def _failure(approx: Any, steps: int, first: int) -> NonFiniteError:
    """What to say after so many failed steps, of which `first` was the first."""
    culprits = find_culprits(approx, int(approx.rng.randint(2**30)))
    found = "; ".join(f"{name!r}: {what}" for name, what in culprits.items())
    return NonFiniteError(
        f"Loss or gradient was infinite or NaN at {steps} steps in a row, from "
        f"step {first} on. {found or 'At fresh draws every term of the model is finite'}. "
        "The approximation keeps its last good parameters. Look at the model with "
        "model.debug(), give `start` a point of positive probability, take a smaller step "
        "(obj_optimizer=pm.adam(learning_rate=1e-3)), or set total_grad_norm_constraint.",
        step=first,
        variables=tuple(culprits),
    )
