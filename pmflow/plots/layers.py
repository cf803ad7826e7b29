"""Draws after every layer of a flow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from pmflow.errors import ParameterError
from pmflow.plots.style import BLUE, as_points, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_layers"]

_COLUMNS = 5
_MOST_POINTS = 2_000


def plot_layers(
    layers: Sequence[ArrayLike],
    *,
    labels: Sequence[str] | None = None,
    coords: tuple[int, int] = (0, 1),
    figsize: tuple[float, float] | None = None,
) -> Figure:
    """The base draw and the output of each layer, side by side.

    Every point keeps its colour, which is that of its angle in the base draw, so that the eye can
    follow where a layer takes it.

    Parameters
    ----------
    layers : sequence of array_like, each of shape (draws, dim)
        ``approx.sample_layers(draws)``, unconstrained. In one dimension, histograms are shown.
    labels : sequence of str, optional
        A title for each panel; defaults to ``base``, ``layer 1`` ...
    coords : pair of int
        Which coordinates to show.
    figsize : tuple of float, optional
        Width and height in inches.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ParameterError
        If there are no layers, or `labels` or `coords` do not fit them.
    """
    arrays = [as_points(layer, f"layers[{i}]") for i, layer in enumerate(layers)]
    if not arrays:
        raise ParameterError("layers must hold at least the base draw, but is empty.")
    titles = labels or ["base", *(f"layer {i}" for i in range(1, len(arrays)))]
    if len(titles) != len(arrays):
        raise ParameterError(f"labels must be {len(arrays)}, one a panel, but are {len(titles)}.")
    dim = arrays[0].shape[1]
    if dim > 1 and not all(-dim <= c < dim for c in coords):
        raise ParameterError(f"coords must be two of 0 to {dim - 1}, but are {coords}.")
    columns = min(_COLUMNS, len(arrays))
    rows = math.ceil(len(arrays) / columns)
    figure, axes = new_figure(rows, columns, figsize or (2.2 * columns + 0.6, 2.2 * rows + 0.6))
    for ax in axes.flat[len(arrays) :]:
        ax.set_visible(False)
    for ax, array, title in zip(axes.flat, arrays, titles, strict=False):
        ax.set_title(title, fontsize="medium")
        tidy(ax)
        if dim == 1:
            ax.hist(array[:, 0], bins=60, density=True, color=BLUE)
            ax.set_xlabel("$z_0$")
            continue
        first, second = coords
        base = arrays[0][:_MOST_POINTS] - arrays[0][:_MOST_POINTS].mean(0)
        angle = np.arctan2(base[:, second], base[:, first])
        points = array[:_MOST_POINTS]
        # a cyclic scale, since an angle is one; on grey, since one of its ends is nearly white
        ax.set_facecolor("0.7")
        ax.scatter(points[:, first], points[:, second], c=angle, cmap="twilight", s=3, linewidths=0)
        ax.set_xlabel(f"$z_{{{first}}}$")
        ax.set_ylabel(f"$z_{{{second}}}$")
    return figure
