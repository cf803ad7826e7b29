"""Lines of progress on a terminal or in a notebook."""

from __future__ import annotations

import contextvars
import io
import logging
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text
from rich.theme import Theme

__all__ = ["Display", "Line"]

_AFTER = 1.0
"""Seconds of a stage until it is shown."""
_REFRESH = 0.2
_WIDTH = 110
_PAGE = "<pre style=\"font-family:Menlo,'DejaVu Sans Mono',consolas,monospace\">{code}</pre>"
"""Of a notebook."""

_log = logging.getLogger("pmflow")


@dataclass
class Line:
    """What is shown of a stage."""

    name: str
    total: int | None = None
    done: int | None = None
    shown: dict[str, str] = field(default_factory=dict)
    is_running: bool = False
    _began: float = 0.0
    _before: float = 0.0
    """Seconds of earlier stages of the same name."""

    def begin(self, total: int | None) -> None:
        """Its stage begins."""
        self.total, self.done = total, None
        self._began, self.is_running = time.perf_counter(), True

    def update(self, done: int | None, shown: Mapping[str, str]) -> None:
        """Its stage has come so far."""
        if done is not None:
            self.done = done
        if shown:
            self.shown = {**self.shown, **shown}  # another thread may be reading the old ones

    def end(self) -> float:
        """Its stage is over, after so many seconds."""
        seconds = time.perf_counter() - self._began
        self._before += seconds
        self.is_running = False
        return seconds

    @property
    def seconds(self) -> float:
        """Spent in its stages so far."""
        now = time.perf_counter() - self._began if self.is_running else 0.0
        return self._before + now

    @property
    def count(self) -> str:
        """How many of how many."""
        if self.done is None:
            return ""
        return f"{self.done:,}" if self.total is None else f"{self.done:,}/{self.total:,}"

    @property
    def clock(self) -> str:
        """Seconds to go, where it can be told, else those spent."""
        if self.is_running and self.total and self.done:
            spent = time.perf_counter() - self._began
            return f"{_clock(spent * (self.total - self.done) / self.done)} to go"
        return _clock(self.seconds)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


class _Lines(Progress):
    """Lines, and a note below them."""

    _note = ""

    def say(self, note: str) -> None:
        """Have another note."""
        self._note = note

    def get_renderables(self) -> Iterable[RenderableType]:
        """What to draw."""
        yield from super().get_renderables()
        if self._note:
            yield Text(self._note)


class Display:
    """Lines of stages, drawn by a thread of its own: a compiler does not let others draw.

    Parameters
    ----------
    visible : bool
    theme : rich.theme.Theme, optional
    """

    def __init__(self, *, visible: bool, theme: Theme | None) -> None:
        self._note = ""
        self._lines: dict[str, Line] = {}
        self._tasks: dict[str, Any] = {}
        self._theme = theme
        self._progress: _Lines | None = None
        self._handle: Any = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        if visible:
            # a notebook finds the cell that output belongs to in the context
            run = contextvars.copy_context().run
            self._thread = threading.Thread(target=run, args=(self._draw_until_over,), daemon=True)
            self._thread.start()

    def line(self, name: str) -> Line:
        """The line of a stage."""
        return self._lines.setdefault(name, Line(name))

    def say(self, note: str) -> None:
        """Have a note below the lines."""
        self._note = note

    def close(self) -> None:
        """Draw a last time; finished lines stay where they are."""
        if self._thread is not None:
            self._note = ""
            self._over.set()
            self._thread.join()
            self._thread = None

    def _draw_until_over(self) -> None:
        try:
            while not self._over.wait(_REFRESH):
                self._draw()
            self._draw()
        except Exception as error:  # a terminal may have gone: no reason to end a fit
            _log.debug("Progress is not shown any more: %r", error)
        finally:
            if self._progress is not None and self._handle is None:
                self._progress.stop()

    def _draw(self) -> None:
        lines = tuple(self._lines.values())
        if not any(line.seconds >= _AFTER for line in lines):
            return
        if self._progress is None:
            self._progress = self._begin()
        for line in lines:
            if line.name not in self._tasks:
                self._tasks[line.name] = self._progress.add_task(line.name, what="", clock="")
            what = [line.count, *line.shown.values()]
            is_over = not line.is_running
            # a line without an end is drawn full when it is over
            total = line.total if line.total else (1 if is_over else None)
            self._progress.update(
                self._tasks[line.name],
                visible=line.seconds >= _AFTER,
                total=total,
                completed=total if is_over and not line.total else line.done or 0,
                what="  ".join(text for text in what if text),
                clock=line.clock,
            )
        self._progress.say(self._note)
        if self._handle is None:
            self._progress.refresh()
        else:
            self._handle.update(self._as_page(self._progress), raw=True)

    def _begin(self) -> _Lines:
        console = Console(theme=self._theme)
        progress = _Lines(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[what]}"),
            TextColumn("{task.fields[clock]}"),
            console=console,
            auto_refresh=False,
        )
        if console.is_jupyter:
            # rich needs ipywidgets there, and what they show is not kept in the notebook
            import IPython.display

            show: Any = IPython.display.display
            self._handle = show(self._as_page(progress), raw=True, display_id=True)
        else:
            progress.start()
        return progress

    def _as_page(self, progress: _Lines) -> dict[str, str]:
        """The lines as HTML and as text, in the colours of the page but for the bars."""
        paper = Console(
            theme=self._theme,
            record=True,
            file=io.StringIO(),
            force_jupyter=False,
            force_terminal=True,
            color_system="truecolor",
            width=_WIDTH,
        )
        paper.print(progress.get_renderable())
        html = paper.export_html(inline_styles=True, code_format=_PAGE, clear=False)
        return {"text/html": html, "text/plain": paper.export_text()}
