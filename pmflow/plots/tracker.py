"""Traces of parameters and gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pmflow.errors import ParameterError
from pmflow.plots.style import COLOURS, new_panels, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_tracker"]

_MOST_ROWS = 12
_MOST_LINES = 8
_TRIM = (0.5, 99.5)  # percentiles of the gradients that their axis covers at least
_MARGIN = 0.5  # of that range, on either side


def plot_tracker(
    dataset: xr.Dataset,
    var_names: Sequence[str] | None = None,
    *,
    axes: Any = None,
    figsize: tuple[float, float] | None = None,
) -> Figure:
    """Parameters on the left, their gradients on the right, one row per parameter.

    A gradient's axis covers its central 99 % and half as much on either side: a spike leaves it.

    Parameters
    ----------
    dataset : xarray.Dataset
        ``tracker.to_dataset()``: variables ``u_0``, ``grad_u_0`` ... with the dimension ``step``.
    var_names : sequence of str, optional
        Parameters to show (``"u_0"``), without their gradients. Defaults to the first 12.
    axes : array of Axes, optional
        Where to draw, in place of a new figure: two per parameter.
    figsize : tuple of float, optional
        Width and height in inches.

    Returns
    -------
    matplotlib.figure.Figure
        It shows the first 8 coordinates of each parameter, and says on top what is left out.

    Raises
    ------
    ParameterError
        If nothing was tracked, or a name is unknown.
    """
    names = _chosen(dataset, var_names)
    shown = names[:_MOST_ROWS] if var_names is None else names
    traces = {name: _trace(dataset, name) for name in shown}
    most = max(values.shape[1] for values in traces.values())
    size = figsize or (9, 1.5 * len(shown) + (1.2 if most > 1 else 0.6))
    figure, panels = new_panels(2 * len(shown), 2, size, axes, sharex=True)
    rows = panels.reshape(-1, 2)
    for (left, right), (name, values) in zip(rows, traces.items(), strict=True):
        _draw(left, dataset["step"].values, values)
        left.set_ylabel(_label(name))
        if f"grad_{name}" in dataset:
            gradients = _trace(dataset, f"grad_{name}")
            _draw(right, dataset["step"].values, gradients, alpha=0.7)  # they cover each other
            _leave_spikes_out(right, gradients)
        else:
            right.set_visible(False)
    rows[0, 0].set_title("parameter")
    rows[0, 1].set_title("gradient")
    for ax in rows[-1]:
        ax.set_xlabel("step")
    if most > 1:
        widest = next(
            ax for ax, v in zip(rows[:, 0], traces.values(), strict=True) if v.shape[1] == most
        )
        _say_coordinates(figure if axes is None else None, widest)
    notes = []
    if len(shown) < len(names):
        notes.append(f"the first {len(shown)} of {len(names)} parameters")
    if most > _MOST_LINES:
        notes.append(f"the first {_MOST_LINES} of up to {most} coordinates")
    if axes is None and notes:
        figure.suptitle(", ".join(notes), fontsize="small")
    return figure


def _chosen(dataset: xr.Dataset, var_names: Sequence[str] | None) -> list[str]:
    if not isinstance(dataset, xr.Dataset):
        raise ParameterError(
            "dataset must be a Dataset, as Tracker.to_dataset() returns it, "
            f"but is of type {type(dataset).__name__}."
        )
    tracked = [str(n) for n in dataset.data_vars]
    # a statistic of the user's may be called grad_norm, and is not the gradient of anything
    names = [n for n in tracked if not (n.startswith("grad_") and n[len("grad_") :] in tracked)]
    if not names or dataset.sizes.get("step", 0) == 0:
        raise ParameterError(
            "There is nothing to plot in the dataset: give a tracker to "
            "fit(callbacks=[tracker]) first."
        )
    if var_names is None:
        return names
    if not isinstance(var_names, Sequence):
        raise ParameterError(
            f"var_names must be names, but is {var_names!r}; tracked are: {', '.join(names)}."
        )
    chosen = [var_names] if isinstance(var_names, str) else list(dict.fromkeys(var_names))
    unknown = [n for n in chosen if n not in names]
    if unknown or not chosen:
        given = f"{', '.join(unknown)} is not tracked" if unknown else "var_names is empty"
        raise ParameterError(f"{given}; tracked are: {', '.join(names)}.")
    return chosen


def _trace(dataset: xr.Dataset, name: str) -> NDArray[np.float64]:
    """Values of shape (steps, coordinates)."""
    values = dataset[name].transpose("step", ...).values.astype(float)
    flat: NDArray[np.float64] = values.reshape(len(values), -1)
    return flat


def _draw(
    ax: Axes, steps: NDArray[Any], values: NDArray[np.float64], *, alpha: float = 1.0
) -> None:
    lines = zip(values.T[:_MOST_LINES], COLOURS, strict=False)
    for coordinate, (line, colour) in enumerate(lines):
        ax.plot(steps, line, color=colour, linewidth=0.9, alpha=alpha, label=str(coordinate))
    tidy(ax)


def _leave_spikes_out(ax: Axes, values: NDArray[np.float64]) -> None:
    drawn = values[:, :_MOST_LINES]
    drawn = drawn[np.isfinite(drawn)]
    if drawn.size == 0:
        return
    low, high = np.percentile(drawn, _TRIM)
    if low < high:
        margin = _MARGIN * (high - low)
        # no wider than all values need
        ax.set_ylim(
            max(low - margin, drawn.min() - 0.05 * (high - low)),
            min(high + margin, drawn.max() + 0.05 * (high - low)),
        )


def _say_coordinates(figure: Figure | None, ax: Axes) -> None:
    """Which colour is which coordinate: below all panels, or in the one given."""
    if figure is None:
        ax.legend(title="coordinate", fontsize="small")
        return
    figure.legend(
        handles=ax.lines,
        title="coordinate",
        loc="outside lower center",
        ncols=_MOST_LINES,
        frameon=False,
    )


def _label(name: str) -> str:
    """``u_0`` as mathematics: its number is the layer's."""
    parameter, _, layer = name.rpartition("_")
    return f"${parameter.replace('_', r'\_')}$ of layer {layer}" if layer.isdigit() else name
