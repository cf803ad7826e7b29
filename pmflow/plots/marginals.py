"""Marginal posteriors of two sets of draws.

Not by `arviz_plots.plot_dist`, whose axes reach to the farthest draw (a heavy tail leaves one bar),
whose titles run into the panels above, and which does not match labels between the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pmflow.errors import ParameterError
from pmflow.judging.components import matched_components
from pmflow.plots.style import BLUE, GREY, new_panels, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_marginals"]

_COLUMNS = 4
_MOST_PANELS = 40
_BINS = 50
_TRIM = (0.25, 99.75)  # percentiles: heavy tails would leave one bar
_WORTH_SAYING = 0.05  # share outside of the panel: ten times what the percentiles leave there


def plot_marginals(
    idata: xr.DataTree | xr.Dataset,
    reference: xr.DataTree | xr.Dataset,
    var_names: Sequence[str] | None = None,
    *,
    names: tuple[str, str] = ("flow", "NUTS"),
    axes: Any = None,
    figsize: tuple[float, float] | None = None,
) -> Figure:
    """Histograms of every marginal, one method over the other.

    A panel covers the central 99.5 % of the reference and, as far as that at most doubles or
    triples it, of the other. Its title says when more than 5 % of `idata` lie outside.

    Parameters
    ----------
    idata, reference : DataTree or Dataset
        Draws with dimensions ``chain`` and ``draw``, in constrained space: a DataTree with a
        group ``posterior``, or that group. Matched as `pmflow.compare` matches them, the panels in
        the order of its rows.
    var_names : sequence of str, optional
        Defaults to all variables that both have draws of.
    names : pair of str
        What the legend calls them.
    axes : array of Axes, optional
        Where to draw, in place of a new figure: one per number. The legend stands in the first.
    figsize : tuple of float, optional
        Width and height in inches.

    Returns
    -------
    matplotlib.figure.Figure
        Without `axes`, the first 40 numbers are shown; what is left out is said on top.

    Raises
    ------
    ParameterError
        If draws are missing, of other shapes or coordinates, or not finite, or if a variable is
        unknown.
    """
    if not isinstance(names, Sequence) or isinstance(names, str) or len(names) != 2:
        raise ParameterError(f"names must be two, of idata and of reference, but are {names!r}.")
    pairs = matched_components(idata, reference, var_names)
    total = len(pairs)
    if axes is None:
        pairs = pairs[:_MOST_PANELS]
    columns = min(_COLUMNS, len(pairs))
    rows = -(-len(pairs) // columns)
    size = figsize or (max(2.6 * columns, 3.6), 1.9 * rows + 0.4)
    figure, panels = new_panels(len(pairs), columns, size, axes)
    for ax, pair in zip(panels, pairs, strict=True):
        own, ref = (draws.ravel() for draws in pair.draws)
        outside = _draw(ax, own, ref, names)
        said = f"{pair.label} ({outside:.0%} outside)" if outside > _WORTH_SAYING else pair.label
        ax.set_title(said, fontsize="medium")
    handles, texts = (entries[::-1] for entries in panels[0].get_legend_handles_labels())
    if axes is not None:
        panels[0].legend(handles, texts, frameon=False, fontsize="small")
        return figure
    figure.legend(handles, texts, loc="outside lower center", ncols=2, frameon=False)
    if total > len(pairs):
        figure.suptitle(f"the first {len(pairs)} of {total} numbers", fontsize="small")
    return figure


def _draw(ax: Axes, own: NDArray[Any], ref: NDArray[Any], names: tuple[str, str]) -> float:
    """Both histograms; returns the share of `own` that lies outside of the panel."""
    low, high = _window(own, ref)
    bins = np.linspace(low, high, _BINS + 1)
    styles: tuple[dict[str, Any], ...] = (
        {"x": ref, "color": GREY, "alpha": 0.45, "label": names[1]},
        {"x": own, "color": BLUE, "histtype": "step", "linewidth": 1.6, "label": names[0]},
    )
    for style in styles:
        # weights, not density: what lies outside of the window must not inflate the rest
        share = 1 / (style["x"].size * (bins[1] - bins[0]))
        ax.hist(bins=bins.tolist(), weights=np.full(style["x"].size, share), **style)
    padding = 0.03 * (high - low)  # shows the end of a bounded variable, and its tick
    ax.set_xlim(low - padding, high + padding)
    ax.set_yticks([])
    tidy(ax)
    ax.spines["left"].set_visible(False)
    return float(((own < low) | (own > high)).mean())


def _window(own: NDArray[Any], ref: NDArray[Any]) -> tuple[float, float]:
    low, high = np.percentile(ref, _TRIM)
    own_low, own_high = np.percentile(own, _TRIM)
    width = high - low
    if width > 0:  # a fit far away must not squeeze the reference into one bar
        return max(min(low, own_low), low - width), min(max(high, own_high), high + width)
    low, high = min(low, own_low), max(high, own_high)
    margin = 0.05 * (high - low) or max(1e-3, 1e-3 * abs(low))
    return low - margin, high + margin
