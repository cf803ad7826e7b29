"""A target on the plane beside draws of it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from pmflow.errors import ParameterError
from pmflow.plots.style import (
    COLOURS,
    Bounds,
    DensityLike,
    PlaneDensity,
    as_points,
    density_in_window,
    draw_density,
    label_plane,
    new_panels,
    thin,
    window_height,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_comparison"]

_COLUMNS = 4
_WIDTH = 3.6
_MOST_POINTS = 4_000
_WORTH_SAYING = 0.0005  # share outside of the window: 0.1 % when rounded


def plot_comparison(
    log_density: PlaneDensity | DensityLike,
    bounds: Bounds | None = None,
    draws: Mapping[str, ArrayLike] | None = None,
    *,
    axes: Any = None,
    figsize: tuple[float, float] | None = None,
) -> Figure:
    """A density of two numbers and draws by several methods, in panels with the same axes.

    Parameters
    ----------
    log_density : callable or Target
        Points of shape ``(n, 2)`` to log densities of shape ``(n,)``, normalised or not.
    bounds : pair of pairs of float, optional
        The window; how many draws lie outside is said in the title of their panel. Defaults to that
        of the target.
    draws : mapping of str to array_like, each of shape (draws, 2)
        By method: ``{"NUTS": ..., "planar*8": ...}``. At most 4,000 of each are shown.
    axes : array of Axes, optional
        Where to draw, in place of a new figure: one for the density and one per method.
    figsize : tuple of float, optional
        Width and height in inches.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ParameterError
        If there is nothing to compare, bounds are missing, or draws have another shape.
    """
    if draws is not None and not isinstance(draws, Mapping):
        raise ParameterError(
            "draws must be a dict of a method's name to its draws, "
            f"but is of type {type(draws).__name__}."
        )
    if not draws:
        raise ParameterError("draws must hold at least one method, but is empty.")
    density, window = density_in_window(log_density, bounds)
    methods = {n: as_points(points, f"draws[{n!r}]", dim=2) for n, points in draws.items()}
    columns = min(_COLUMNS, len(methods) + 1)
    rows = -(-(len(methods) + 1) // columns)
    height = window_height(_WIDTH - 0.7, window) + 0.8
    figure, (target, *others) = new_panels(
        len(methods) + 1, columns, figsize or (_WIDTH * columns, height * rows), axes
    )
    draw_density(target, density, window)
    target.set_title("target")
    (left, right), (low, high) = window
    for ax, (name, points), colour in zip(others, methods.items(), cycle(COLOURS), strict=False):
        ax.scatter(*thin(points, _MOST_POINTS).T, s=3, color=colour, alpha=0.3, linewidths=0)
        label_plane(ax)
        ax.set_xlim(left, right)
        ax.set_ylim(low, high)
        ax.set_aspect("equal")
        inside = (points >= (left, low)).all(1) & (points <= (right, high)).all(1)
        outside = 1 - inside.mean()
        ax.set_title(f"{name} ({outside:.1%} outside)" if outside >= _WORTH_SAYING else name)
    return figure
