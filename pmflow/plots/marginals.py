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
_SAMPLE_DIMS = {"chain", "draw"}


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
        group ``posterior``, or that group.
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
    from arviz_base import labels, xarray_sel_iter  # slow to import: it loads JAX if it is there

    if not isinstance(names, Sequence) or isinstance(names, str) or len(names) != 2:
        raise ParameterError(f"names must be two, of idata and of reference, but are {names!r}.")
    ours, theirs = _posterior(idata, "idata"), _posterior(reference, "reference")
    chosen = _shared_names(ours, theirs, var_names)
    ours, theirs = _matched(ours[chosen], theirs[chosen])
    parts = list(xarray_sel_iter(theirs, skip_dims=_SAMPLE_DIMS))
    total = len(parts)
    if axes is None:
        parts = parts[:_MOST_PANELS]
    columns = min(_COLUMNS, len(parts))
    rows = -(-len(parts) // columns)
    size = figsize or (max(2.6 * columns, 3.6), 1.9 * rows + 0.4)
    figure, panels = new_panels(len(parts), columns, size, axes)
    labeller = labels.BaseLabeller()
    for ax, (name, selection, index) in zip(panels, parts, strict=True):
        label = labeller.make_label_flat(name, selection, index)
        own, ref = (_finite(data[name].isel(index).values, label) for data in (ours, theirs))
        outside = _draw(ax, own, ref, names)
        ax.set_title(
            f"{label} ({outside:.0%} outside)" if outside > _WORTH_SAYING else label,
            fontsize="medium",
        )
    handles, texts = (entries[::-1] for entries in panels[0].get_legend_handles_labels())
    if axes is not None:
        panels[0].legend(handles, texts, frameon=False, fontsize="small")
        return figure
    figure.legend(handles, texts, loc="outside lower center", ncols=2, frameon=False)
    if total > len(parts):
        figure.suptitle(f"the first {len(parts)} of {total} numbers", fontsize="small")
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


def _posterior(data: xr.DataTree | xr.Dataset, name: str) -> xr.Dataset:
    if isinstance(data, xr.DataTree):
        data = data.children.get("posterior", data).to_dataset()
    if not isinstance(data, xr.Dataset) or any(data.sizes.get(d, 0) == 0 for d in _SAMPLE_DIMS):
        raise ParameterError(
            f"{name} must have draws: a DataTree with a group 'posterior', or that group, with "
            f"dimensions chain and draw. Got {_described(data)}."
        )
    return data


def _described(data: Any) -> str:
    if isinstance(data, xr.Dataset):
        return f"the dimensions {dict(data.sizes)}" if data.sizes else "nothing that has draws"
    return f"an object of type {type(data).__name__}"


def _shared_names(
    ours: xr.Dataset, theirs: xr.Dataset, var_names: Sequence[str] | None
) -> list[str]:
    mine, there = (
        [str(n) for n, array in data.data_vars.items() if {*array.dims} >= _SAMPLE_DIMS]
        for data in (ours, theirs)
    )
    shared = [name for name in mine if name in there]
    if not shared:
        raise ParameterError(
            f"idata and reference must share variables, but have {mine} and {there}."
        )
    if var_names is None:
        return shared
    if not isinstance(var_names, Sequence):
        raise ParameterError(
            f"var_names must be among what both have, {', '.join(shared)}, but are {var_names!r}."
        )
    names = [var_names] if isinstance(var_names, str) else list(dict.fromkeys(var_names))
    unknown = [name for name in names if name not in shared]
    if unknown or not names:
        raise ParameterError(
            f"var_names must be among what both have, {', '.join(shared)}, but are {names}."
        )
    return names


def _matched(ours: xr.Dataset, theirs: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """Both with the coordinates of the reference, in its order."""
    for name in theirs.data_vars:
        mine, there = (
            {d: size for d, size in data[name].sizes.items() if d not in _SAMPLE_DIMS}
            for data in (ours, theirs)
        )
        if mine != there:
            raise ParameterError(
                f"{name!r} must have the same shape in both, but is {mine} in idata and {there} "
                "in reference."
            )
        for dim in there:
            here, labels = ours[name].indexes.get(dim), theirs[name].indexes.get(dim)
            if here is None or labels is None or here.equals(labels):
                continue
            if not here.is_unique or not labels.isin(here).all():
                raise ParameterError(
                    f"{name!r} must have the same coordinates along {dim!r} in both, but has "
                    f"{[*here]} in idata and {[*labels]} in reference."
                )
            ours = ours.isel({dim: here.get_indexer(labels)})
    return ours, theirs


def _finite(values: NDArray[Any], label: str) -> NDArray[np.float64]:
    draws = values.ravel().astype(float)
    if not np.isfinite(draws).all():
        raise ParameterError(
            f"The draws of {label} must be finite, "
            f"but {(~np.isfinite(draws)).sum()} of {draws.size} are not."
        )
    return draws
