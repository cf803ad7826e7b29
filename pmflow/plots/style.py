"""What the figures share: colours that everybody can tell apart, and empty figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pmflow.errors import ParameterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "BLUE",
    "COLOURS",
    "GREEN",
    "GREY",
    "ORANGE",
    "as_points",
    "draw_density",
    "new_figure",
    "tidy",
]

# Okabe & Ito (2008), a palette that stays distinct under colour blindness
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, YELLOW, AMBER = "#56B4E9", "#F0E442", "#E69F00"
GREY = "#777777"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER, YELLOW, "#000000")

_GRID = 200
_LEVELS = 12

type Bounds = tuple[tuple[float, float], tuple[float, float]]


def new_figure(
    rows: int, columns: int, figsize: tuple[float, float] | None, **kwargs: Any
) -> tuple[Figure, NDArray[Any]]:
    """A figure with a grid of axes, shape (rows, columns)."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        rows, columns, figsize=figsize, layout="constrained", squeeze=False, **kwargs
    )
    return figure, axes


def tidy(ax: Axes) -> None:
    """Take away the frame on the sides where there is no axis."""
    ax.spines[["top", "right"]].set_visible(False)


def as_points(points: ArrayLike, name: str) -> NDArray[np.float64]:
    """Check that `points` are rows of numbers, shape (draws, dim)."""
    array = np.asarray(points, dtype=float)
    if array.ndim != 2 or 0 in array.shape:
        raise ParameterError(f"{name} must have shape (draws, dim), but has shape {array.shape}.")
    return array


def draw_density(
    ax: Axes, log_density: Callable[[NDArray[np.float64]], ArrayLike], bounds: Bounds
) -> None:
    """Filled contours of a density on the plane, from its mode down to what can be seen."""
    xs, ys = (np.linspace(low, high, _GRID) for low, high in bounds)
    grid = np.stack(np.meshgrid(xs, ys), axis=-1)  # (ys, xs, 2)
    values = np.asarray(log_density(grid.reshape(-1, 2))).reshape(_GRID, _GRID)
    density = np.exp(values - values.max())
    levels = np.linspace(0, 1, _LEVELS + 1)
    ax.contourf(xs, ys, density, levels=levels, cmap="cividis")
    ax.set_xlim(*bounds[0])
    ax.set_ylim(*bounds[1])
    ax.set_aspect("equal")
    ax.set_xlabel("$z_0$")
    ax.set_ylabel("$z_1$")
