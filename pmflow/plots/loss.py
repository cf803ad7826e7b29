"""The history of the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from pmflow.errors import ParameterError
from pmflow.plots.style import BLUE, GREEN, ORANGE, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_loss"]

_WINDOWS = 200  # points of the smooth line
_LOW, _HIGH = 0.5, 99.0  # percentiles that the vertical axis covers


def plot_loss(
    hist: ArrayLike,
    *,
    log_evidence: float | None = None,
    figsize: tuple[float, float] = (7, 4),
) -> Figure:
    """Loss against steps: every step faintly, and the median of windows.

    Parameters
    ----------
    hist : array_like, shape (steps,)
        ``inference.hist``: negative ELBO estimates, in nats. Values that are not finite are left
        out.
    log_evidence : float, optional
        Exact log evidence, where it is known; its negative, the best possible loss, is marked.
    figsize : tuple of float
        Width and height in inches.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ParameterError
        If there is no finite loss.
    """
    losses = np.asarray(hist, dtype=float).ravel()
    steps = np.arange(1, losses.size + 1)[np.isfinite(losses)]
    losses = losses[np.isfinite(losses)]
    if losses.size == 0:
        raise ParameterError("hist must hold at least one finite loss. Was fit called with score?")
    figure, axes = new_figure(1, 1, figsize)
    ax = axes[0, 0]
    ax.plot(steps, losses, color=BLUE, alpha=0.25, linewidth=0.7, label="each step")
    windows = min(_WINDOWS, losses.size)
    parts = zip(np.array_split(steps, windows), np.array_split(losses, windows), strict=True)
    centres, medians = np.array([(s.mean(), np.median(part)) for s, part in parts]).T
    ax.plot(centres, medians, color=ORANGE, linewidth=2, label="median of windows")
    low, high = np.percentile(losses, (_LOW, _HIGH))
    if log_evidence is not None:
        ax.axhline(-log_evidence, color=GREEN, linestyle="--", label="best possible")
        low = min(low, -log_evidence)
    margin = 0.05 * (high - low) or 1.0
    ax.set_ylim(low - margin, high + margin)
    ax.set_xlabel("step")
    ax.set_ylabel("loss (negative ELBO, nats)")
    ax.legend(frameon=False)
    tidy(ax)
    return figure
