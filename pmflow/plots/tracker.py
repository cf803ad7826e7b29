"""Traces of parameters and gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import xarray as xr

from pmflow.errors import ParameterError
from pmflow.plots.style import COLOURS, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_tracker"]

_MOST_ROWS = 12
_MOST_LINES = 8


def plot_tracker(
    dataset: xr.Dataset,
    var_names: Sequence[str] | None = None,
    *,
    figsize: tuple[float, float] | None = None,
) -> Figure:
    """Parameters on the left, their gradients on the right, one row a parameter.

    Parameters
    ----------
    dataset : xarray.Dataset
        ``tracker.to_dataset()``: variables ``u_0``, ``grad_u_0`` ... with the dimension ``step``.
    var_names : sequence of str, optional
        Parameters to show (``"u_0"``), without their gradients. Defaults to the first 12.
    figsize : tuple of float, optional
        Width and height in inches.

    Returns
    -------
    matplotlib.figure.Figure
        Of each parameter the first 8 coordinates are shown.

    Raises
    ------
    ParameterError
        If nothing was tracked, or a name is unknown.
    """
    names = [str(n) for n in dataset.data_vars if not str(n).startswith("grad_")]
    if var_names is not None:
        unknown = [n for n in var_names if n not in names]
        if unknown:
            raise ParameterError(
                f"{', '.join(unknown)} is not tracked; tracked are: {', '.join(names)}."
            )
        names = list(var_names)
    if not names or dataset.sizes.get("step", 0) == 0:
        raise ParameterError(
            "There is nothing to plot: give a tracker to fit(callbacks=[tracker]) first."
        )
    left_out = len(names) - _MOST_ROWS
    names = names[:_MOST_ROWS] if var_names is None else names
    figure, axes = new_figure(len(names), 2, figsize or (9, 0.6 + 1.5 * len(names)), sharex=True)
    for (left, right), name in zip(axes, names, strict=True):
        _draw(left, dataset, name)
        left.set_ylabel(_label(name))
        if f"grad_{name}" in dataset:
            _draw(right, dataset, f"grad_{name}")
        else:
            right.set_visible(False)
    axes[0, 0].set_title("parameter")
    axes[0, 1].set_title("gradient")
    for ax in axes[-1]:
        ax.set_xlabel("step")
    if var_names is None and left_out > 0:
        figure.suptitle(
            f"the first {_MOST_ROWS} of {_MOST_ROWS + left_out} parameters", fontsize="small"
        )
    return figure


def _draw(ax: Axes, dataset: xr.Dataset, name: str) -> None:
    values = dataset[name].values.reshape(dataset.sizes["step"], -1)
    for line, colour in zip(values.T[:_MOST_LINES], COLOURS, strict=False):
        ax.plot(dataset["step"], line, color=colour, linewidth=0.9)
    tidy(ax)


def _label(name: str) -> str:
    """``u_0`` as mathematics: its number is the layer's."""
    parameter, _, layer = name.rpartition("_")
    return f"${parameter.replace('_', r'\_')}$ of layer {layer}" if layer.isdigit() else name
