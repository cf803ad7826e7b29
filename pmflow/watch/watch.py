"""A watch over a running fit: it knows of Ctrl-C and of the budget, and keeps the times.

Ctrl-C sets a flag. Code that can end early looks at it between pieces of its work, by `tick`, which
raises. To raise wherever the signal happens to arrive would lose it: Python ignores what is raised
in a callback of its garbage collector, and JAX has one.
"""

from __future__ import annotations

import gc
import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Literal

from pmflow.watch.display import Display, Line

__all__ = ["Interrupted", "OutOfTime", "Stopped", "Watch"]

_GRACE = 0.5
"""Seconds for what is put in order after a stop, all together."""
_LONG = 0.5
"""Seconds of a piece from which on it is named as the reason of a late answer."""

_log = logging.getLogger("pmflow")


class Stopped(KeyboardInterrupt):
    """The fit is to end; as a `KeyboardInterrupt`, whatever keeps the best so far sees it."""


class Interrupted(Stopped):
    """By Ctrl-C."""


class OutOfTime(Stopped):
    """The seconds given are over."""


class Watch:
    """Made by `watching`.

    Attributes
    ----------
    times : dict of str to float
        Seconds of each stage, without those of the stages within it.
    """

    def __init__(self, seconds: float, display: Display) -> None:
        self.times: dict[str, float] = {}
        self._display = display
        self._given, self._deadline = seconds, time.perf_counter() + seconds
        self._has_result = self._is_cuttable = self._is_closing = self._was_raised = False
        self._is_needed = True
        self._is_heard_late = False
        self._asked, self._asked_at, self._asked_in = 0, 0.0, ""
        self._grace_left, self._lenient_until = _GRACE, -math.inf
        self._lines: list[Line] = []
        self._piece: str | None = None
        self._piece_began = math.inf
        self._longest = ("", 0.0)

    @property
    def is_stopped(self) -> bool:
        """Whether the fit is to end: Ctrl-C came, or time is over and that may end it."""
        return self.why is not None

    @property
    def why(self) -> Literal["interrupted", "time"] | None:
        """Why the fit is to end, in the words of a `FitState`; None if it is not."""
        if self._asked:
            return "interrupted"
        return "time" if self._is_over else None

    @property
    def _is_over(self) -> bool:
        """Whether the budget ends the fit, or the part of it: not where a result is to come."""
        return (self._has_result or not self._is_needed) and self.left <= 0

    @property
    def left(self) -> float:
        """Seconds left of the budget; infinite where there is none."""
        return self._deadline - time.perf_counter()

    def look(self, *, leniently: bool = True) -> None:
        """Raise if the fit is to end.

        Raises
        ------
        Interrupted, OutOfTime
        """
        if not self._asked and not self._is_over:
            return
        if leniently and self._asked < 2 and time.perf_counter() < self._lenient_until:
            return
        self._was_raised = True
        raise Interrupted if self._asked else OutOfTime

    def result_exists(self) -> None:
        """From here on there is something to return."""
        self._has_result = True

    def show(self, done: int | None, shown: Mapping[str, str]) -> None:
        """Say how far the stage is."""
        if self._lines:
            self._lines[-1].update(done, shown)

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[None]:
        """Have a line on the screen and a time of one's own."""
        line = self._display.line(name)
        self._lines.append(line)
        line.begin(total)
        try:
            yield
        finally:
            seconds = line.end()
            self._lines.pop()
            self.times[name] = self.times.get(name, 0.0) + seconds
            if self._lines:
                outer = self._lines[-1].name
                self.times[outer] = self.times.get(outer, 0.0) - seconds

    @contextmanager
    def piece(self, name: str, *, can_be_cut: bool) -> Iterator[None]:
        """Do work within which nobody looks at the flag."""
        self.look(leniently=can_be_cut)
        before = self._piece, self._is_cuttable, self._piece_began
        began = time.perf_counter()
        self._piece, self._is_cuttable, self._piece_began = name, can_be_cut, began
        try:
            yield
        finally:
            self._piece, self._is_cuttable, self._piece_began = before
            if self.is_stopped:
                due = self._asked_at if self._asked else self._deadline
                late = time.perf_counter() - max(began, due)
                if late > max(_LONG, self._longest[1]):
                    self._longest = name, late

    @contextmanager
    def grace(self) -> Iterator[None]:
        """After a stop, let `look` raise only when the rest of half a second is over."""
        if not self.is_stopped or self._lenient_until > -math.inf:
            yield
            return
        began = time.perf_counter()
        self._lenient_until = began + self._grace_left
        try:
            yield
        finally:
            self._grace_left -= time.perf_counter() - began
            self._lenient_until = -math.inf

    @contextmanager
    def within(self, seconds: float, *, is_needed: bool) -> Iterator[Watch]:
        """A part of the fit with a shorter budget of its own; what raises has no result."""
        before, is_needed_before, had_result = self._deadline, self._is_needed, self._has_result
        self._deadline = min(before, time.perf_counter() + seconds)
        self._is_needed = is_needed and is_needed_before
        try:
            yield self
        except BaseException:
            self._has_result = had_result
            raise
        finally:
            self._deadline, self._is_needed = before, is_needed_before

    def on_signal(self, _: int, frame: FrameType | None) -> None:
        """Answer Ctrl-C: by the flag, or at once."""
        self._asked += 1
        if self._asked == 1:
            self._asked_at, self._asked_in = time.perf_counter(), self._doing
            # Python is told only when machine code comes back: how long before, nobody knows
            since = self._asked_at - self._piece_began
            self._is_heard_late = since > _LONG and not self._is_cuttable
            self._display.say(
                f"Stopping after this piece: {self._doing}; Ctrl-C again ends at once"
            )
        is_first_and_waits = self._asked == 1 and not self._is_cuttable
        if self._is_closing or is_first_and_waits or _collects_garbage(frame):
            return  # the flag is set
        self._was_raised = True
        raise Interrupted

    @property
    def _doing(self) -> str:
        return self._piece or (self._lines[-1].name if self._lines else "the fit")

    def close(self) -> None:
        """No more lines; Ctrl-C ends nothing any more."""
        self._is_closing = True
        self._display.close()

    def tell(self, *, returned: bool) -> None:
        """Say of a fit that it was stopped, and how late."""
        name, seconds = self._longest
        because = f"; {name} took {seconds:.1f} s of it and can't be cut" if name else ""
        if self._is_heard_late and not name:
            because = f"; {self._asked_in} can't be cut, and may have heard of it late"
        waited = time.perf_counter() - self._asked_at
        if self._asked and not returned:
            if name:
                _log.warning("Ctrl-C was answered after %.1f s%s.", waited, because)
        elif self._asked and not self._was_raised:
            _log.warning("Ctrl-C came when everything was done: the result is complete.")
        elif self._asked:
            _log.warning(
                "Interrupted (%s): what was found so far is returned, %.1f s after Ctrl-C%s.",
                self._asked_in,
                waited,
                because,
            )
        elif self._was_raised and returned and math.isfinite(self._given):
            late = max(0.0, -self.left)
            _log.log(
                logging.WARNING if late > _LONG else logging.INFO,
                "Out of the %g s given: what was found so far is returned, %.1f s over%s.",
                self._given,
                late,
                because,
            )


def _collects_garbage(frame: FrameType | None) -> bool:
    """Whether a callback of the garbage collector is running, which ignores exceptions."""
    codes = {getattr(callback, "__code__", None) for callback in gc.callbacks}
    while frame is not None:
        if frame.f_code in codes:
            return True
        frame = frame.f_back
    return False
