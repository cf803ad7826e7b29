"""Which variables of a model meet, as a matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pmflow.errors import ParameterError
from pmflow.plots.style import BLUE, GREEN, GREY, ORANGE, PURPLE, new_panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["StructureLike", "plot_structure"]

_COLOURS = {"global": ORANGE, "local": BLUE, "chained": GREEN, "joined": PURPLE}
_CELLS = 240
"""Of the matrix as it is drawn, along a side."""
_LEAST = 0.035
"""Share of a side that a variable has at least, so that small ones are seen."""


class StructureLike(Protocol):
    """What is drawn, such as a `pmflow.Structure`."""

    @property
    def pattern(self) -> Any:
        """Boolean sparse array, shape (dim, dim)."""

    @property
    def places(self) -> dict[str, slice]:
        """Where each variable is."""

    @property
    def roles(self) -> dict[str, str]:
        """What each of them is."""


def plot_structure(
    structure: StructureLike, *, axes: Any = None, figsize: tuple[float, float] = (6.5, 6)
) -> Figure:
    """The pairs of coordinates that meet, with the variables as blocks.

    A cell is darker the more of its pairs meet. Small variables are drawn wider than they are.

    Parameters
    ----------
    structure : Structure
        Of `pmflow.structure`.
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
        If `structure` is none, such as a model.
    """
    if not all(hasattr(structure, name) for name in ("pattern", "places", "roles")):
        raise ParameterError(
            f"structure must be what pmflow.structure gives, but is a "
            f"{type(structure).__name__}. Use plot_structure(pmflow.structure(model))."
        )
    from matplotlib.colors import LinearSegmentedColormap

    names = list(structure.places)
    sizes = np.array([structure.places[name].stop - structure.places[name].start for name in names])
    widths = np.maximum(np.maximum(1, np.round(_CELLS * _LEAST)), _CELLS * sizes / sizes.sum())
    widths = np.round(widths).astype(int)
    figure, (ax,) = new_panels(1, 1, figsize, axes)
    shades = LinearSegmentedColormap.from_list("meet", ["#ffffff", "#9db8cc", "#17324a"])
    image = _shares(structure, names, sizes, widths) ** 0.4
    ax.imshow(image, cmap=shades, vmin=0.0, vmax=1.0, interpolation="nearest", aspect="equal")
    edges = np.r_[0, np.cumsum(widths)] - 0.5
    for edge in edges[1:-1]:
        ax.axhline(edge, color=GREY, linewidth=0.5)
        ax.axvline(edge, color=GREY, linewidth=0.5)
    ax.set_xticks([])
    ax.set_yticks((edges[:-1] + edges[1:]) / 2)
    ax.set_yticklabels(
        [f"{name} ({size:,})" for name, size in zip(names, sizes, strict=True)], fontsize=8
    )
    for label, name in zip(ax.get_yticklabels(), names, strict=True):
        label.set_color(_COLOURS.get(structure.roles[name], GREY))
    ax.tick_params(length=0)
    roles = [role for role in _COLOURS if role in structure.roles.values()]
    for number, role in enumerate(roles):
        ax.text(
            (number + 0.5) / len(roles),
            -0.04,
            role,
            color=_COLOURS[role],
            transform=ax.transAxes,
            ha="center",
            va="top",
        )
    ax.set_title(f"{sizes.sum():,} coordinates, {structure.pattern.nnz:,} pairs meet", fontsize=10)
    return figure


def _shares(
    structure: StructureLike, names: list[str], sizes: NDArray[Any], widths: NDArray[Any]
) -> NDArray[np.float64]:
    """What share of the pairs of each cell meet."""
    cell = np.empty(int(sizes.sum()), dtype=int)
    starts = np.cumsum(widths) - widths
    for name, size, width, start in zip(names, sizes, widths, starts, strict=True):
        cell[structure.places[name]] = start + np.arange(size) * width // size
    counts = np.bincount(cell, minlength=widths.sum())
    pairs = structure.pattern.tocoo()
    rows, columns = pairs.coords
    met = np.zeros((len(counts), len(counts)))
    np.add.at(met, (cell[rows], cell[columns]), 1.0)
    shares = met / np.maximum(np.outer(counts, counts), 1)
    # a variable of few entries has cells without one: they show the entry before
    filled = np.maximum.accumulate(np.where(counts > 0, np.arange(len(counts)), 0))
    return np.asarray(shares[filled][:, filled])
