"""Marginal posteriors of two sets of draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from pmflow.errors import ParameterError
from pmflow.plots.style import BLUE, GREY, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_marginals"]

_COLUMNS = 4
_BINS = 50
_TRIM = (0.25, 99.75)  # percentiles: heavy tails would leave one bar


def plot_marginals(
    idata: xr.DataTree,
    reference: xr.DataTree,
    var_names: Sequence[str] | None = None,
    *,
    names: tuple[str, str] = ("flow", "NUTS"),
    figsize: tuple[float, float] | None = None,
) -> Figure:
    """Histograms of every marginal, one method over the other.

    Parameters
    ----------
    idata, reference : DataTree
        With a group ``posterior``, in constrained space.
    var_names : sequence of str, optional
        Defaults to all variables that both have.
    names : pair of str
        What the legend calls them.
    figsize : tuple of float, optional
        Width and height in inches.

    Returns
    -------
    matplotlib.figure.Figure
        The axes cover the central 99.5 % of the reference.

    Raises
    ------
    ParameterError
        If they have no variable in common.
    """
    from arviz_base import labels, xarray_sel_iter  # slow to import: it loads JAX if it is there

    ours, theirs = (tree["posterior"].to_dataset() for tree in (idata, reference))
    shared = [n for n in var_names or ours.data_vars if n in ours and n in theirs]
    if not shared:
        raise ParameterError(
            f"idata and reference must share variables, but have {list(ours.data_vars)} and "
            f"{list(theirs.data_vars)}."
        )
    parts = list(xarray_sel_iter(theirs[shared], skip_dims={"chain", "draw"}))
    columns = min(_COLUMNS, len(parts))
    rows = math.ceil(len(parts) / columns)
    figure, axes = new_figure(rows, columns, figsize or (2.6 * columns, 1.9 * rows + 0.4))
    for ax in axes.flat[len(parts) :]:
        ax.set_visible(False)
    labeller = labels.BaseLabeller()
    for ax, (name, selection, index) in zip(axes.flat, parts, strict=False):
        ref, own = (d[name].sel(selection).values.ravel() for d in (theirs, ours))
        low, high = np.percentile(ref, _TRIM)
        bins = np.linspace(low, high, _BINS)
        # weights, not density: what lies outside the window must not inflate the rest
        width = bins[1] - bins[0]
        weigh = {len(x): np.full(len(x), 1 / (len(x) * width)) for x in (ref, own)}
        ax.hist(ref, bins, weights=weigh[len(ref)], color=GREY, alpha=0.45, label=names[1])
        ax.hist(
            own,
            bins,
            weights=weigh[len(own)],
            histtype="step",
            color=BLUE,
            linewidth=1.6,
            label=names[0],
        )
        ax.set_title(labeller.make_label_flat(name, selection, index), fontsize="medium")
        ax.set_yticks([])
        tidy(ax)
        ax.spines["left"].set_visible(False)
    handles, texts = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles[::-1], texts[::-1], loc="outside lower center", ncols=2, frameon=False)
    return figure
