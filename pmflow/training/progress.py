"""What a fit shows of its steps."""

from __future__ import annotations

import time
from contextlib import ExitStack
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from rich.theme import Theme

from pmflow.watch import result_exists, show, stage, watching

__all__ = ["FitProgress", "recent_loss"]

_REFRESH_SECONDS = 0.1
_LOSS_WINDOW = 1000


def recent_loss(losses: NDArray[np.float64]) -> float:
    """Mean of the finite losses among the last 1000; NaN if there is none."""
    recent = losses[-_LOSS_WINDOW:]
    recent = recent[np.isfinite(recent)]
    return float(recent.mean()) if recent.size else float("nan")


class FitProgress:
    """The stages of training under a watch: compilation, and steps with their speed and loss.

    Parameters
    ----------
    total : int or None
        Steps to do; None where the fit decides.
    visible : bool
    theme : rich.theme.Theme, optional
    """

    def __init__(self, total: int | None, *, visible: bool, theme: Theme | None = None) -> None:
        self._total, self._visible, self._theme = total, visible, theme
        self._watch, self._stage = ExitStack(), ExitStack()
        self._is_fitting = False
        self._began = self._shown = 0.0

    def __enter__(self) -> FitProgress:
        self._watch.enter_context(watching(progressbar=self._visible, theme=self._theme))
        self._stage.enter_context(stage("Compiling"))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stage.__exit__(kind, error, trace)
        self._watch.__exit__(kind, error, trace)

    def begin(self) -> None:
        """Compilation is over, steps begin or go on."""
        if self._is_fitting:
            return
        self._stage.close()
        self._stage.enter_context(stage("Fitting", self._total))
        self._is_fitting, self._began = True, time.perf_counter()
        result_exists()

    def update(self, done: int, losses: NDArray[np.float64] | None, *, force: bool = False) -> None:
        """Show that `done` steps are over, at most ten times a second unless forced."""
        if not self._visible or not self._is_fitting:
            return
        now = time.perf_counter()
        if not force and now - self._shown < _REFRESH_SECONDS:
            return
        self._shown = now
        speed = done / max(now - self._began, 1e-9)
        loss = "" if losses is None else f"loss {recent_loss(losses):,.5g}"
        show(done, speed=f"{speed:,.0f} steps/s", loss=loss)
