"""A density on the plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from pmflow.plots.style import (
    Bounds,
    DensityLike,
    PlaneDensity,
    as_points,
    density_in_window,
    draw_density,
    new_panels,
    thin,
    window_height,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_density"]

_MOST_POINTS = 1_000
_WIDTH = 5.0


def plot_density(
    log_density: PlaneDensity | DensityLike,
    bounds: Bounds | None = None,
    draws: ArrayLike | None = None,
    *,
    title: str | None = None,
    axes: Any = None,
    figsize: tuple[float, float] | None = None,
) -> Figure:
    """Filled contours of a density of two numbers, with draws on top if given.

    Parameters
    ----------
    log_density : callable or Target
        Points of shape ``(n, 2)`` to log densities of shape ``(n,)``, normalised or not:
        ``target.log_density``, ``approx.log_prob``. Where it is not finite the density counts as 0.
    bounds : pair of pairs of float, optional
        The window: ``((low, high), (low, high))``. Defaults to that of the target.
    draws : array_like, shape (draws, 2), optional
        In the space of the density. At most 1,000 of them are shown.
    title : str, optional
        Defaults to the name of the target.
    axes : Axes, optional
        Where to draw, in place of a new figure.
    figsize : tuple of float, optional
        Width and height in inches.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ParameterError
        If bounds are missing, draws or log densities have another shape, or the density is finite
        nowhere.
    """
    density, window = density_in_window(log_density, bounds)
    points = None if draws is None else as_points(draws, "draws", dim=2)
    size = figsize or (_WIDTH, window_height(_WIDTH - 0.7, window) + 0.8)
    figure, (ax,) = new_panels(1, 1, size, axes)
    draw_density(ax, density, window)
    if points is not None:
        # white shows on the dark ends of the scale, its dark rim on the bright one
        shown = thin(points, _MOST_POINTS)
        ax.scatter(*shown.T, s=5, color="white", edgecolors="black", linewidths=0.3)
    ax.set_title(str(getattr(log_density, "name", "")) if title is None else title)
    return figure
