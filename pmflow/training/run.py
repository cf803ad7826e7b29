"""Running a fit: chunks of steps, and between them callbacks, progress and Ctrl-C."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmflow.errors import NonFiniteError
from pmflow.records import Ended, FitState, Outcome
from pmflow.training.blame import find_culprits
from pmflow.training.course import Course
from pmflow.training.handles import LoopHandles, Losses
from pmflow.training.loops.loop import Loop, Trace
from pmflow.training.options import FitOptions
from pmflow.training.pace import Pace, is_due, next_due
from pmflow.training.progress import FitProgress, recent_loss
from pmflow.training.run_state import Keeper, RunState
from pmflow.training.step import MAX_FAILURES
from pmflow.training.trainer import Trainer
from pmflow.watch import OutOfTime, piece, tick

__all__ = ["Run"]

_log = logging.getLogger("pmflow")


class Run:
    """A fit that is under way, or over and ready for more steps.

    Parameters
    ----------
    trainer : Trainer
    options : FitOptions
        Filled in for the approximation.
    seed : int
    before : Outcome
        The outcome of the fits before this one.
    keeper : Keeper, optional
        Is offered the state of the fit between chunks, to write it to a file.
    begun : RunState, optional
        Where the fit was broken off: it goes on from there.
    """

    def __init__(
        self,
        trainer: Trainer,
        options: FitOptions,
        seed: int,
        before: Outcome,
        *,
        keeper: Keeper | None = None,
        begun: RunState | None = None,
    ) -> None:
        self._trainer, self._options, self._seed = trainer, options, seed
        self._keeper, self._begun = keeper, begun
        start = before if begun is None else begun
        self._losses = Losses(start.losses)
        self._done = before.steps if begun is None else begun.done
        self._skipped = start.skipped
        self._skipped_before = before.skipped if begun is None else 0
        self._end = self._done if begun is None else begun.end
        self._begin = self._done if begun is None else begun.begin
        self._loop: Loop | None = None
        self._handles: LoopHandles | None = None
        self._last = before
        self._is_whole = False
        self._failed_in_a_row = 0  # a course that restarts the loop resets what the loop counts

    def go(self, course: Course, progress: FitProgress) -> Outcome:
        """Do steps; whatever ends them, losses and parameters so far are kept.

        Parameters
        ----------
        course : Course
            Says how many, and what is done between them.
        progress : FitProgress

        Returns
        -------
        Outcome

        Raises
        ------
        NonFiniteError
            After 100 steps in a row without effect; `last` says what was reached.
        """
        if self._begun is None:
            self._begin, self._skipped_before = self._done, self._skipped
        ended: Ended = "failed"
        try:
            self._go_segments(course, progress)
            ended = "steps"
        except KeyboardInterrupt as stop:
            ended = "time" if isinstance(stop, OutOfTime) else "interrupted"
            said = "Out of time" if ended == "time" else "Interrupted"
            _log.warning("%s at step %d; everything fitted so far is kept.", said, self._done)
        except StopIteration as stop:
            ended = "callback"
            _log.info("Stopped at step %d: %s", self._done, stop)
        finally:
            progress.update(self._done - self._begin, self._shown, force=True)
            # a file goes on from where the steps ended, and has the approximation at its best
            state = self._state(course) if self._keeper and self._is_whole else None
            course.finish(self._handles)
            self._last = self._outcome(course, ended)
            if self._keeper is not None:
                self._keeper.offer(lambda: state, self._last.fit_state)
        if len(self._last.losses) and self._options.score:
            _log.info("Average loss of the last steps: %.5g", recent_loss(self._last.losses))
        return self._last

    @property
    def last(self) -> Outcome:
        """What the last `go` has come to, also where it raised."""
        return self._last

    def _outcome(self, course: Course, ended: Ended) -> Outcome:
        losses = self._losses.so_far if self._options.score else self._losses.before
        state = FitState(
            self._done - self._begin,
            self._skipped - self._skipped_before,
            course.ended if ended == "steps" else ended,
            course.message,
            by="NFVI",
        )
        return Outcome(losses, self._done, self._skipped, state)

    @property
    def _shown(self) -> NDArray[np.float64] | None:
        return self._losses.so_far if self._options.score else None

    def _go_segments(self, course: Course, progress: FitProgress) -> None:
        pace = Pace()
        if self._begun is not None:
            loop, handles = self._compiled()
            course.go_to(self._begun.course)
            course.resume(handles)
            self._begun = None
            self._do(loop, course, pace, progress)
        while (steps := course.next(self._handles)) is not None:
            self._end = self._done + steps
            if steps:
                loop = self._loop or self._compiled()[0]
                self._do(loop, course, pace, progress)

    def _compiled(self) -> tuple[Loop, LoopHandles]:
        loop, first = self._trainer.loop_for(self._options, self._seed, self._done + 1)
        if self._begun is not None:
            loop.go_to(self._seed, self._begun.loop)  # also from the first step, of compiling
            loop.step.params.push()
        handles = LoopHandles(loop, self._losses, self._seed)
        self._loop, self._handles = loop, handles
        if self._begun is None and first is not None:
            self._record(loop, first)
            self._call_back()
        return loop, handles

    def _do(self, loop: Loop, course: Course, pace: Pace, progress: FitProgress) -> None:
        """The steps of a segment, in chunks."""
        callbacks = self._options.callbacks or ()
        progress.begin()
        while self._done < self._end:
            tick()
            due = next_due(self._done, self._begin + 1, callbacks) or self._end
            steps = min(due, self._end) - self._done
            steps = min(steps, pace.steps, loop.most_steps)
            self._is_whole = False
            loop.step.params.pull()
            with pace.measure(steps):
                trace = loop.advance(steps)
            self._record(loop, trace)
            self._call_back()
            progress.update(self._done - self._begin, self._shown)
            if self._keeper is not None:
                self._keeper.offer(lambda: self._state(course), None)

    def _state(self, course: Course) -> RunState | None:
        """Where the fit is, between two chunks."""
        if self._loop is None:
            return None
        self._loop.step.params.pull()  # what a callback has set
        return RunState(
            seed=self._seed,
            begin=self._begin,
            done=self._done,
            end=self._end,
            skipped=self._skipped,
            losses=np.array(self._losses.so_far if self._options.score else self._losses.before),
            loop=self._loop.to_state(),
            course=course.to_state(),
        )

    def _record(self, loop: Loop, trace: Trace) -> None:
        """Keep what some steps gave: parameters, losses, what trackers watch."""
        approx, params = self._trainer.approx, loop.step.params
        params.push()
        self._losses.extend(trace.losses)
        if trace.params is not None and trace.gradients is not None:
            names = approx.param_names
            # the parameters of `more_obj_params` come after those of the approximation
            values = dict(zip(names, params.split(trace.params), strict=False))
            gradients = params.split(trace.gradients)
            values |= {f"grad_{n}": g for n, g in zip(names, gradients, strict=False)}
            for tracker in self._options.trackers:
                tracker.extend(self._done + 1, values)
        self._done += len(trace.losses)
        self._skipped += int((trace.failures > 0).sum())
        self._is_whole = True
        good = np.flatnonzero(trace.failures == 0)
        failed = len(trace.failures) - 1 - int(good[-1]) if len(good) else len(trace.failures)
        failed += 0 if len(good) else self._failed_in_a_row
        self._failed_in_a_row = failed
        if failed >= MAX_FAILURES:
            loop.step.failures.set_value(np.int32(0))
            self._failed_in_a_row = 0
            raise _failure(approx, failed, self._done - failed + 1)

    def _call_back(self) -> None:
        for callback in self._options.callbacks or ():
            if is_due(callback, self._done, self._begin + 1):
                with piece("a callback"):
                    callback(self._trainer.approx, self._shown, self._done)


def _failure(approx: Any, steps: int, first: int) -> NonFiniteError:
    """What to say after `steps` failed steps, of which `first` was the first."""
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
