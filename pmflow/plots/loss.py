"""The history of the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from pmflow.checks import as_numbers, checked_count, checked_number
from pmflow.errors import ParameterError
from pmflow.plots.style import BLUE, GREEN, ORANGE, new_panels, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_loss"]

_WINDOWS = 200  # points of the smooth line
_LOW, _HIGH = 0.5, 99.0  # percentiles that the vertical axis covers


def plot_loss(
    hist: ArrayLike,
    *,
    log_evidence: float | None = None,
    window: int | None = None,
    axes: Any = None,
    figsize: tuple[float, float] = (7, 4),
) -> Figure:
    """Loss against steps: every step faintly, and the median of windows.

    The vertical axis covers the central part of the losses: a spike leaves it, and says nothing
    about the rest.

    Parameters
    ----------
    hist : array_like, shape (steps,)
        ``inference.hist``: negative ELBO estimates, in nats. Values that are not finite are left
        out, and the legend counts them.
    log_evidence : float, optional
        Exact log evidence, where it is known; its negative, the best possible loss, is marked.
    window : int, optional
        Steps to take a median of. Defaults to a 200th of the history; where that is one step,
        there is nothing to smooth and the line is left out.
    axes : Axes, optional
        Where to draw, in place of a new figure.
    figsize : tuple of float
        Width and height in inches.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ParameterError
        If there is no finite loss, or `window` is below 1.
    """
    losses = as_numbers("hist", hist, "(steps,)")
    if losses.ndim != 1:
        raise ParameterError(f"hist must have shape (steps,), but has shape {losses.shape}.")
    finite = np.isfinite(losses)
    if not finite.any():
        raise ParameterError("hist must hold at least one finite loss. Was fit called with score?")
    if window is not None:
        window = checked_count("window", window, 1)
    if log_evidence is not None:
        log_evidence = checked_number("log_evidence", log_evidence)
    lost = losses.size - finite.sum()
    steps, losses = np.arange(1, losses.size + 1)[finite], losses[finite]
    figure, (ax,) = new_panels(1, 1, figsize, axes)
    smooth = -(-losses.size // _WINDOWS) if window is None else window
    faint = {"alpha": 0.25, "linewidth": 0.7} if smooth > 1 else {"linewidth": 1.2}
    label = f"each step ({lost} not finite)" if lost else "each step"
    # a single step is no line
    marker = "o" if losses.size == 1 else None
    ax.plot(steps, losses, color=BLUE, label=label, marker=marker, **faint)
    if smooth > 1:
        starts = range(0, losses.size, smooth)
        centres = [steps[i : i + smooth].mean() for i in starts]
        medians = [np.median(losses[i : i + smooth]) for i in starts]
        ax.plot(centres, medians, color=ORANGE, linewidth=2, label=f"median of {smooth} steps")
    low, high = np.percentile(losses, (_LOW, _HIGH))
    if log_evidence is not None:
        ax.axhline(-log_evidence, color=GREEN, linestyle="--", label="best possible")
        low, high = min(low, -log_evidence), max(high, -log_evidence)
    margin = 0.05 * (high - low) or 1.0
    ax.set_ylim(low - margin, high + margin)
    ax.set_xlabel("step")
    ax.set_ylabel("loss (negative ELBO, nats)")
    # not "best", which is slow for long histories
    ax.legend(loc="upper right", frameon=True, framealpha=0.9, edgecolor="none")
    tidy(ax)
    return figure
