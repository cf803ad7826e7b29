"""The watch that is open in this thread, for whoever works under it."""

from __future__ import annotations

import math
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

from rich.theme import Theme

from pmflow.watch.display import Display
from pmflow.watch.watch import Watch

__all__ = [
    "grace",
    "importing",
    "is_watched",
    "piece",
    "result_exists",
    "show",
    "stage",
    "tick",
    "watching",
    "why_stopped",
]


class _Here(threading.local):
    """The watch of this thread."""

    watch: Watch | None = None

    def set(self, watch: Watch | None) -> None:
        """Have another one, or none."""
        self.watch = watch


_here = _Here()


def is_watched() -> bool:
    """Whether a watch is open in this thread."""
    return _here.watch is not None


@contextmanager
def watching(
    seconds: float | None = None,
    *,
    is_needed: bool = True,
    progressbar: bool = True,
    theme: Theme | None = None,
) -> Iterator[Watch]:
    """Watch over what is inside; within another watch, join that one.

    Ctrl-C is taken over in the main thread where nobody else has: the first one sets a flag, which
    `tick` looks at, the second one raises KeyboardInterrupt at once.

    Parameters
    ----------
    seconds : float, optional
        Budget. When it is over, `tick` raises, once `result_exists` was called. Of a watch that
        joins another one, a budget within that one's.
    is_needed : bool
        Whether something has to come of it. A part of a fit that can do without ends with its
        budget, result or none.
    progressbar : bool
        Whether to show stages that take longer than a second.
    theme : rich.theme.Theme, optional
    """
    seconds = math.inf if seconds is None else seconds
    if _here.watch is not None:
        with _here.watch.within(seconds, is_needed=is_needed) as joined:
            yield joined
        return
    watch = Watch(seconds, Display(visible=progressbar, theme=theme))
    is_ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if is_ours:
        signal.signal(signal.SIGINT, watch.on_signal)
    _here.set(watch)
    returned = False
    try:
        yield watch
        returned = True
    finally:
        watch.close()
        _here.set(None)
        if is_ours and signal.getsignal(signal.SIGINT) == watch.on_signal:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        watch.tell(returned=returned)


def stage(name: str, total: int | None = None) -> AbstractContextManager[None]:
    """A part of a fit that is shown on a line of its own, and whose time is kept.

    Parameters
    ----------
    name : str
        A stage of the same name goes on with its line and its time.
    total : int, optional
        What there is to do, for `tick` to count.
    """
    watch = _here.watch
    return nullcontext() if watch is None else watch.stage(name, total)


def grace() -> AbstractContextManager[None]:
    """Inside, after a stop, `tick` raises only when half a second is over.

    For what makes the best so far usable. No piece that can't be cut begins in it. All such blocks
    of a watch share the half second.
    """
    watch = _here.watch
    return nullcontext() if watch is None else watch.grace()


def why_stopped() -> Literal["interrupted", "time"] | None:
    """Why the fit of this thread is to end, in the words of a `FitState`; None if it is not."""
    return None if _here.watch is None else _here.watch.why


def show(done: int | None = None, **shown: str) -> None:
    """Say how far the stage is."""
    if _here.watch is not None:
        _here.watch.show(done, shown)


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
    if done is not None or shown:
        watch.show(done, shown)
    watch.look()


def importing(module: str) -> AbstractContextManager[None]:
    """Import a module that is slow to import: a piece, but where it was imported before."""
    return nullcontext() if module in sys.modules else piece(f"importing {module}")


def result_exists() -> None:
    """From here on there is something to return: the end of the budget may end the fit."""
    if _here.watch is not None:
        _here.watch.result_exists()


def piece(name: str, *, can_be_cut: bool = False) -> AbstractContextManager[None]:
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
    return nullcontext() if watch is None else watch.piece(name, can_be_cut=can_be_cut)
