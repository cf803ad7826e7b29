"""A target on the plane beside draws of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pmflow.errors import ParameterError
from pmflow.plots.style import COLOURS, Bounds, as_points, draw_density, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_comparison"]

_MOST_POINTS = 4_000


def plot_comparison(
    log_density: Callable[[NDArray[np.float64]], ArrayLike],
    bounds: Bounds,
    draws: Mapping[str, ArrayLike],
    *,
    figsize: tuple[float, float] | None = None,
) -> Figure:
    """A density of two numbers and draws by several methods, in panels with the same axes.

    Parameters
    ----------
    log_density : callable
        Points of shape ``(n, 2)`` to log densities of shape ``(n,)``, normalised or not.
    bounds : pair of pairs of float
        The window; how many draws lie outside is said in the title of their panel.
    draws : mapping of str to array_like, each of shape (draws, 2)
        By method: ``{"NUTS": ..., "planar*8": ...}``. At most 4,000 of each are shown.
    figsize : tuple of float, optional
        Width and height in inches.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ParameterError
        If there is nothing to compare, or draws have another shape.
    """
    if not draws:
        raise ParameterError("draws must hold at least one method, but is empty.")
    panels = len(draws) + 1
    figure, axes = new_figure(1, panels, figsize or (3.6 * panels, 3.8))
    draw_density(axes[0, 0], log_density, bounds)
    axes[0, 0].set_title("target")
    (left, right), (low, high) = bounds
    for ax, (name, values), colour in zip(axes[0, 1:], draws.items(), COLOURS, strict=False):
        points = as_points(values, f"draws[{name!r}]")[:, :2]
        inside = (points >= (left, low)).all(1) & (points <= (right, high)).all(1)
        shown = points[:: max(1, len(points) // _MOST_POINTS)]
        ax.scatter(*shown.T, s=3, color=colour, alpha=0.3, linewidths=0)
        ax.set_xlim(left, right)
        ax.set_ylim(low, high)
        ax.set_aspect("equal")
        ax.set_xlabel("$z_0$")
        ax.set_ylabel("$z_1$")
        outside = 1 - inside.mean()
        ax.set_title(f"{name} ({outside:.1%} outside)" if outside >= 0.0005 else name)
    return figure
