"""A density on the plane."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pmflow.plots.style import Bounds, as_points, draw_density, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_density"]

_MOST_POINTS = 2_000


def plot_density(
    log_density: Callable[[NDArray[np.float64]], ArrayLike],
    bounds: Bounds,
    draws: ArrayLike | None = None,
    *,
    title: str = "",
    figsize: tuple[float, float] = (5, 4.5),
) -> Figure:
    """Filled contours of a density of two numbers, with draws on top if given.

    Parameters
    ----------
    log_density : callable
        Points of shape ``(n, 2)`` to log densities of shape ``(n,)``, normalised or not:
        ``target.log_density``, ``approx.log_prob``.
    bounds : pair of pairs of float
        The window: ``((low, high), (low, high))``.
    draws : array_like, shape (draws, 2), optional
        At most 2,000 of them are shown.
    title : str
    figsize : tuple of float
        Width and height in inches.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = new_figure(1, 1, figsize)
    ax = axes[0, 0]
    draw_density(ax, log_density, bounds)
    if draws is not None:
        points = as_points(draws, "draws")[:_MOST_POINTS]
        ax.scatter(*points[:, :2].T, s=4, color="white", alpha=0.6, linewidths=0)
    ax.set_title(title)
    return figure
