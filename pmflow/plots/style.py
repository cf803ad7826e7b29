"""What the figures share: colours that everybody can tell apart, panels, and densities."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pmflow.checks import as_numbers
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
    "PURPLE",
    "Bounds",
    "DensityLike",
    "PlaneDensity",
    "as_points",
    "density_in_window",
    "draw_density",
    "label_plane",
    "new_panels",
    "thin",
    "tidy",
    "window_height",
]

# Okabe & Ito (2008), a palette that stays distinct under colour blindness
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, YELLOW, AMBER = "#56B4E9", "#F0E442", "#E69F00"
GREY = "#777777"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER, YELLOW, "#000000")

_GRID = 200
_LEVELS = 12
_FLATTEST, _TALLEST = 0.35, 1.6  # height over width of a panel

type Bounds = tuple[tuple[float, float], tuple[float, float]]
type PlaneDensity = Callable[[NDArray[np.float64]], ArrayLike]


class DensityLike(Protocol):
    """A density with a window to plot it in, such as a `pmflow.targets.Target`."""

    @property
    def bounds(self) -> Bounds:
        """The window."""

    def log_density(self, z: NDArray[np.float64]) -> ArrayLike:
        """Log densities, shape ``(n,)``, of points of shape ``(n, 2)``."""


def new_panels(
    panels: int, columns: int, figsize: tuple[float, float], axes: Any = None, **kwargs: Any
) -> tuple[Figure, NDArray[Any]]:
    """A figure and its axes, shape (panels,), in rows of `columns`; or the axes given."""
    _check_figsize(figsize)
    if axes is not None:
        given = np.asarray(axes, dtype=object).ravel()
        if given.size != panels:
            raise ParameterError(f"axes must be {panels}, one per panel, but are {given.size}.")
        if not all(hasattr(ax, "figure") for ax in given):
            raise ParameterError(f"axes must be matplotlib's Axes, but are {axes!r}.")
        return given[0].figure, given
    import matplotlib.pyplot as plt

    rows = math.ceil(panels / columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=figsize, layout="constrained", squeeze=False, **kwargs
    )
    for ax in grid.flat[panels:]:
        ax.remove()
    return figure, grid.ravel()[:panels]


def _check_figsize(figsize: Any) -> None:
    try:
        width, height = map(float, figsize)
        is_size = 0 < width < math.inf and 0 < height < math.inf
    except (TypeError, ValueError):
        is_size = False
    if not is_size:
        raise ParameterError(
            f"figsize must be (width, height) in inches, both positive, but is {figsize!r}."
        )


def tidy(ax: Axes) -> None:
    """Take away the frame on the sides where there is no axis."""
    ax.spines[["top", "right"]].set_visible(False)


def as_points(points: ArrayLike, name: str, dim: int | None = None) -> NDArray[np.float64]:
    """Check that `points` are rows of numbers, shape (draws, dim)."""
    expected = "dim" if dim is None else dim
    array = as_numbers(name, points, f"(draws, {expected})")
    if array.ndim != 2 or 0 in array.shape or dim not in (None, array.shape[1]):
        raise ParameterError(
            f"{name} must have shape (draws, {expected}), but has shape {array.shape}."
        )
    lost = len(array) - int(np.isfinite(array).all(1).sum())
    if lost:
        raise ParameterError(f"{name} must be finite, but {lost} of {len(array)} draws are not.")
    return array


def thin(points: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """At most `most` points, taken evenly along the draws: neighbours in a chain are alike."""
    return points[:: -(-len(points) // most)]


def density_in_window(
    density: PlaneDensity | DensityLike, bounds: Bounds | None
) -> tuple[PlaneDensity, Bounds]:
    """The log density as a callable, and the window: the one given or that of the density."""
    log_density = density if callable(density) else getattr(density, "log_density", None)
    if not callable(log_density):
        raise ParameterError(
            "log_density must be a callable or have a method log_density, "
            f"but is of type {type(density).__name__}."
        )
    if bounds is None:
        bounds = getattr(density, "bounds", None)
    if bounds is None:
        raise ParameterError(
            "bounds must be ((low, high), (low, high)), but are missing. "
            "Only a target brings its own."
        )
    check_bounds(bounds)
    return log_density, bounds


def check_bounds(bounds: Any) -> None:
    """Check that bounds are two intervals."""
    try:
        window = np.asarray(bounds, dtype=float)
    except (TypeError, ValueError):
        window = np.empty(0)
    if window.shape != (2, 2) or not np.isfinite(window).all() or (np.diff(window) <= 0).any():
        raise ParameterError(
            f"bounds must be ((low, high), (low, high)) with low < high, but are {bounds!r}."
        )


def window_height(width: float, bounds: Bounds) -> float:
    """Height of a panel of this width in which both coordinates have the same scale."""
    (left, right), (low, high) = bounds
    return width * min(max((high - low) / (right - left), _FLATTEST), _TALLEST)


def draw_density(ax: Axes, log_density: PlaneDensity, bounds: Bounds) -> None:
    """Filled contours of a density on the plane, from its mode down to what can be seen."""
    xs, ys = (np.linspace(low, high, _GRID) for low, high in bounds)
    grid = np.stack(np.meshgrid(xs, ys), axis=-1)  # (ys, xs, 2)
    values = np.asarray(log_density(grid.reshape(-1, 2)), dtype=float)
    if values.shape != (_GRID**2,):
        raise ParameterError(
            f"log_density must turn points of shape {(_GRID**2, 2)} into log densities of shape "
            f"{(_GRID**2,)}, but gives shape {values.shape}."
        )
    values = np.where(np.isfinite(values), values, -np.inf).reshape(_GRID, _GRID)
    if not np.isfinite(values.max()):
        raise ParameterError(f"log_density must be finite somewhere in {bounds}, but is not.")
    density = np.exp(values - values.max())
    ax.contourf(xs, ys, density, levels=np.linspace(0, 1, _LEVELS + 1), cmap="cividis")
    label_plane(ax)
    ax.set_xlim(*bounds[0])
    ax.set_ylim(*bounds[1])
    ax.set_aspect("equal")


def label_plane(ax: Axes, first: int = 0, second: int = 1) -> None:
    """Name the coordinates on the axes."""
    ax.set_xlabel(f"$z_{{{first}}}$")
    ax.set_ylabel(f"$z_{{{second}}}$")
