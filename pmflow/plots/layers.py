"""Draws after every layer of a flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from pmflow.errors import ParameterError
from pmflow.plots.style import (
    BLUE,
    Bounds,
    as_points,
    check_bounds,
    label_plane,
    new_panels,
    tidy,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_layers"]

_COLUMNS = 5
_MOST_POINTS = 2_000


def plot_layers(
    layers: Sequence[ArrayLike],
    *,
    bounds: Bounds | None = None,
    labels: Sequence[str] | None = None,
    coords: tuple[int, int] = (0, 1),
    axes: Any = None,
    figsize: tuple[float, float] | None = None,
) -> Figure:
    """The base draw and the output of each layer, side by side.

    Every point keeps its colour, which is that of its angle in the base draw, so that the eye can
    follow where a layer takes it.

    Parameters
    ----------
    layers : sequence of array_like, each of shape (draws, dim)
        ``approx.sample_layers(draws)``, unconstrained. In one dimension, histograms are shown. At
        most 2,000 draws are shown.
    bounds : pair of pairs of float, optional
        A window for all panels, ``((low, high), (low, high))``. Without it each panel shows all of
        its points.
    labels : sequence of str, optional
        A title for each panel; defaults to ``base``, ``layer 1`` ...
    coords : pair of int
        Which coordinates to show.
    axes : array of Axes, optional
        Where to draw, in place of a new figure: one per panel.
    figsize : tuple of float, optional
        Width and height in inches.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ParameterError
        If there are no layers, if they differ in shape, or `labels` or `coords` do not fit them.
    """
    if not isinstance(layers, Sequence) or isinstance(layers, str):
        raise ParameterError(
            "layers must be a list of draws, as sample_layers returns it, "
            f"but is of type {type(layers).__name__}."
        )
    arrays = [as_points(layer, f"layers[{i}]") for i, layer in enumerate(layers)]
    if not arrays:
        raise ParameterError("layers must hold at least the base draw, but is empty.")
    for i, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise ParameterError(
                f"layers must have the same shape, but layers[0] has {arrays[0].shape} and "
                f"layers[{i}] has {array.shape}."
            )
    if labels is not None and (not isinstance(labels, Sequence) or isinstance(labels, str)):
        raise ParameterError(f"labels must be a list with one per panel, but is {labels!r}.")
    titles = [*labels] if labels is not None else _titles(len(arrays))
    if len(titles) != len(arrays):
        raise ParameterError(f"labels must be {len(arrays)}, one per panel, but are {len(titles)}.")
    dim = arrays[0].shape[1]
    if dim > 1:
        _check_coords(coords, dim)
    if bounds is not None:
        check_bounds(bounds)
    columns = min(_COLUMNS, len(arrays))
    rows = -(-len(arrays) // columns)
    size = figsize or (2.2 * columns + 0.6, 2.2 * rows + 0.6)
    figure, panels = new_panels(len(arrays), columns, size, axes)
    angle = None if dim == 1 else _angle(arrays[0][:_MOST_POINTS, list(coords)])
    for ax, array, title in zip(panels, arrays, titles, strict=True):
        ax.set_title(title, fontsize="medium")
        tidy(ax)
        if angle is None:
            ax.hist(array[:, 0], bins=60, density=True, color=BLUE)
            ax.set_xlabel("$z_0$")
            ax.set_ylabel("density")
        else:
            # on grey, since one end of the scale is nearly white
            ax.set_facecolor("0.7")
            points = array[:_MOST_POINTS, list(coords)]
            ax.scatter(*points.T, c=angle, cmap="twilight", s=3, linewidths=0)
            label_plane(ax, *coords)
            # a rotation looks like one; the box stays, so that the panels are of one size
            ax.set_aspect("equal", adjustable="datalim" if bounds is None else "box")
        if bounds is not None:
            ax.set_xlim(*bounds[0])
            if dim > 1:
                ax.set_ylim(*bounds[1])
    return figure


def _check_coords(coords: Any, dim: int) -> None:
    are_places = isinstance(coords, Sequence) and all(
        isinstance(c, int | np.integer) and not isinstance(c, bool) and 0 <= c < dim for c in coords
    )
    if not are_places or len(coords) != 2:
        raise ParameterError(f"coords must be two of 0 to {dim - 1}, but are {coords!r}.")


def _titles(panels: int) -> list[str]:
    return ["base", *(f"layer {i}" for i in range(1, panels))]


def _angle(base: np.ndarray) -> np.ndarray:
    """The angle of each point around the mean, for a colour scale that is as cyclic as an angle."""
    centred = base - base.mean(0)
    angles: np.ndarray = np.arctan2(centred[:, 1], centred[:, 0])
    return angles
