"""A watch over a running fit: it knows of Ctrl-C and of the budget, and keeps the times.

Ctrl-C sets a flag. Code that can end early looks at it between pieces of its work, by `tick`, which
raises. To raise wherever the signal happens to arrive would lose it: Python ignores what is raised
in a callback of its garbage collector, and JAX has one.
"""

from __future__ import annotations

import gc
import logging
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Literal

from rich.theme import Theme

from pmflow.watch.display import Display, Line

__all__ = [
    "Interrupted",
    "OutOfTime",
    "Stopped",
    "Watch",
    "grace",
    "is_watched",
    "piece",
    "result_exists",
    "show",
    "stage",
    "tick",
    "watching",
    "why_stopped",
]

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
        self._asked, self._asked_at, self._asked_in = 0, 0.0, ""
        self._grace_left, self._lenient_until = _GRACE, -math.inf
        self._lines: list[Line] = []
        self._piece: str | None = None
        self._longest = ("", 0.0)

    @property
    def is_stopped(self) -> bool:
        """Whether the fit is to end: Ctrl-C came, or time is over and there is a result."""
        return self.why is not None

    @property
    def why(self) -> Literal["interrupted", "time"] | None:
        """Why the fit is to end, in the words of a `FitState`; None if it is not."""
        if self._asked:
            return "interrupted"
        return "time" if self._has_result and self.left <= 0 else None

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
        if not self._asked and not (self._has_result and self.left <= 0):
            return
        if leniently and self._asked < 2 and time.perf_counter() < self._lenient_until:
            return
        self._was_raised = True
        raise Interrupted if self._asked else OutOfTime

    @contextmanager
    def _within(self, seconds: float) -> Iterator[Watch]:
        """A part of the fit with a shorter budget of its own."""
        before = self._deadline
        self._deadline = min(before, time.perf_counter() + seconds)
        try:
            yield self
        finally:
            self._deadline = before

    def _on_signal(self, _: int, frame: FrameType | None) -> None:
        self._asked += 1
        if self._asked == 1:
            self._asked_at, self._asked_in = time.perf_counter(), self._doing
            self._display.note = (
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

    def _close(self) -> None:
        """No more lines; Ctrl-C ends nothing any more."""
        self._is_closing = True
        self._display.close()

    def _tell(self, *, returned: bool) -> None:
        """Say of a fit that it was stopped, and how late."""
        name, seconds = self._longest
        because = f"; {name} took {seconds:.1f} s of it and can't be cut" if name else ""
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
        elif self._was_raised and returned:
            late = -self.left
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


class _Here(threading.local):
    """The watch of this thread."""

    watch: Watch | None = None


_here = _Here()


def is_watched() -> bool:
    """Whether a watch is open in this thread."""
    return _here.watch is not None


@contextmanager
def watching(
    seconds: float | None = None, *, progressbar: bool = True, theme: Theme | None = None
) -> Iterator[Watch]:
    """Watch over what is inside; within another watch, join that one.

    Ctrl-C is taken over in the main thread where nobody else has: the first one sets a flag, which
    `tick` looks at, the second one raises KeyboardInterrupt at once.

    Parameters
    ----------
    seconds : float, optional
        Budget. When it is over, `tick` raises, once `result_exists` was called. Of a watch that
        joins another one, a budget within that one's.
    progressbar : bool
        Whether to show stages that take longer than a second.
    theme : rich.theme.Theme, optional
    """
    seconds = math.inf if seconds is None else seconds
    if _here.watch is not None:
        with _here.watch._within(seconds) as joined:
            yield joined
        return
    watch = Watch(seconds, Display(visible=progressbar, theme=theme))
    is_ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if is_ours:
        signal.signal(signal.SIGINT, watch._on_signal)
    _here.watch = watch
    returned = False
    try:
        yield watch
        returned = True
    finally:
        watch._close()
        _here.watch = None
        if is_ours and signal.getsignal(signal.SIGINT) == watch._on_signal:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        watch._tell(returned=returned)


@contextmanager
def stage(name: str, total: int | None = None) -> Iterator[None]:
    """A part of a fit that is shown on a line of its own, and whose time is kept.

    Parameters
    ----------
    name : str
        A stage of the same name goes on with its line and its time.
    total : int, optional
        What there is to do, for `tick` to count.
    """
    watch = _here.watch
    if watch is None:
        yield
        return
    line = watch._display.line(name)
    watch._lines.append(line)
    line.begin(total)
    try:
        yield
    finally:
        seconds = line.end()
        watch._lines.pop()
        watch.times[name] = watch.times.get(name, 0.0) + seconds
        if watch._lines:
            outer = watch._lines[-1].name
            watch.times[outer] = watch.times.get(outer, 0.0) - seconds


@contextmanager
def grace() -> Iterator[None]:
    """Inside, after a stop, `tick` raises only when half a second is over.

    For what makes the best so far usable. No piece that can't be cut begins in it. All such blocks
    of a watch share the half second.
    """
    watch = _here.watch
    if watch is None or not watch.is_stopped or watch._lenient_until > -math.inf:
        yield
        return
    began = time.perf_counter()
    watch._lenient_until = began + watch._grace_left
    try:
        yield
    finally:
        watch._grace_left -= time.perf_counter() - began
        watch._lenient_until = -math.inf


def why_stopped() -> Literal["interrupted", "time"] | None:
    """Why the fit of this thread is to end, in the words of a `FitState`; None if it is not."""
    return None if _here.watch is None else _here.watch.why


def show(done: int | None = None, **shown: str) -> None:
    """Say how far the stage is."""
    watch = _here.watch
    if watch is not None and watch._lines:
        watch._lines[-1].update(done, shown)


def tick(done: int | None = None, **shown: str) -> None:
    """Say how far the stage is, and end the fit if it is to end; without a watch, nothing.

    Parameters
    ----------
    done : int, optional
    **shown : str
        What else to show, such as ``loss="loss 1.2"``; what is not given again stays.

    Raises
    ------
    Interrupted, OutOfTime
    """
    watch = _here.watch
    if watch is None:
        return
    if watch._lines and (done is not None or shown):
        watch._lines[-1].update(done, shown)
    watch.look()


def result_exists() -> None:
    """From here on there is something to return: the end of the budget may end the fit."""
    if _here.watch is not None:
        _here.watch._has_result = True


@contextmanager
def piece(name: str, *, can_be_cut: bool = False) -> Iterator[None]:
    """Work within which nobody looks at the flag: it is named where an answer is late.

    Parameters
    ----------
    name : str
        Such as ``"compiling by JAX"``.
    can_be_cut : bool
        Of work without effects on anything: Ctrl-C is raised in its middle. Where it is not, the
        work is not begun once the fit is to end.

    Raises
    ------
    Interrupted, OutOfTime
        Instead of beginning it.
    """
    watch = _here.watch
    if watch is None:
        yield
        return
    watch.look(leniently=can_be_cut)
    before = watch._piece, watch._is_cuttable
    watch._piece, watch._is_cuttable = name, can_be_cut
    began = time.perf_counter()
    try:
        yield
    finally:
        watch._piece, watch._is_cuttable = before
        if watch.is_stopped:
            due = watch._asked_at if watch._asked else watch._deadline
            late = time.perf_counter() - max(began, due)
            if late > max(_LONG, watch._longest[1]):
                watch._longest = name, late
