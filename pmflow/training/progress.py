"""The progress bar of a fit."""

from __future__ import annotations

import time
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.theme import Theme

__all__ = ["FitProgress", "recent_loss"]

_REFRESH_SECONDS = 0.1
_LOSS_WINDOW = 1000


def recent_loss(losses: NDArray[np.float64]) -> float:
    """Mean of the finite losses among the last 1000; NaN if there is none."""
    recent = losses[-_LOSS_WINDOW:]
    recent = recent[np.isfinite(recent)]
    return float(recent.mean()) if recent.size else float("nan")


class FitProgress:
    """A line with what is done, how fast, and the recent loss.

    Parameters
    ----------
    total : int or None
        Steps to do; None where the fit decides.
    visible : bool
    theme : rich.theme.Theme, optional
    """

    def __init__(self, total: int | None, *, visible: bool, theme: Theme | None = None) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TextColumn("{task.fields[loss]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=Console(theme=theme),
            disable=not visible,
        )
        self._task = self._bar.add_task("Compiling", total=total, speed="", loss="")
        self._visible = visible
        self._began = self._shown = 0.0

    def __enter__(self) -> FitProgress:
        self._bar.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def begin(self) -> None:
        """Compilation is over, steps begin."""
        self._bar.reset(self._task, description="Fitting")
        self._began = time.perf_counter()

    def update(self, done: int, losses: NDArray[np.float64] | None, *, force: bool = False) -> None:
        """Show that `done` steps are over, at most ten times a second unless forced."""
        if not self._visible:
            return
        now = time.perf_counter()
        if not force and now - self._shown < _REFRESH_SECONDS:
            return
        self._shown = now
        speed = done / max(now - self._began, 1e-9)
        loss = "" if losses is None else f"loss {recent_loss(losses):,.5g}"
        self._bar.update(self._task, completed=done, speed=f"{speed:,.0f} steps/s", loss=loss)
