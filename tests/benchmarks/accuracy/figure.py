"""Accuracy against time as a figure: ``python -m tests.benchmarks.accuracy.figure``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pmflow.plots.style import COLOURS, GREY, tidy

from .cli import read
from .methods import METHODS
from .posteriors import ALL
from .table import Run, summarise

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_accuracy"]

_ROOT = Path(__file__).resolve().parents[3]
_NOISE = 0.04
"""Between two exact samples of 10,000 draws, ten parameters, 95 %."""
_LOOKS = dict(zip(METHODS, [(c, "o") for c in COLOURS] + [(GREY, "D")], strict=False))
"""Colour and marker of each method."""


def draw_accuracy(runs: Iterable[Run]) -> Figure:
    """The largest error of a mean against seconds, each posterior of posteriordb a point.

    A point is the median over seeds, with a bar to the worst of them. Seconds are warm; a hollow
    point has no second fit, so its seconds are cold. The targets are left out: several have no
    mean that a sample of this size knows.
    """
    import matplotlib.pyplot as plt

    rows = [row for row in summarise(runs) if row["posterior"] in ALL]
    rows = [row for row in rows if row["mean_error"] is not None]
    figure, ax = plt.subplots(figsize=(8, 5), layout="constrained")
    ax.axhline(_NOISE, color=GREY, linewidth=0.8, linestyle="--", zorder=0)
    ax.annotate(
        "two exact samples of 10,000 draws",
        (1, _NOISE),
        xytext=(-2, 3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color=GREY,
    )
    handles = []
    for method in METHODS:
        own = [row for row in rows if row["method"] == method]
        if own:
            handles.append(_draw(ax, own, method))
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="seconds from the model to the draws",
        ylabel="largest error of a mean (posterior sd)",
    )
    tidy(ax)
    if any(row["warm"] is None for row in rows):
        handles += ax.plot([], [], "o", color=GREY, markerfacecolor="white", label="(first fit)")
    if handles:
        figure.legend(handles=handles, loc="outside right upper", frameon=False)
    return figure


def _draw(ax: Any, rows: list[dict[str, Any]], method: str) -> Any:
    colour, marker = _LOOKS[method]
    for row in rows:
        warm = row["warm"] is not None
        ax.errorbar(
            row["warm"] if warm else row["cold"],
            row["mean_error"],
            yerr=[[0.0], [row["mean_error_worst"] - row["mean_error"]]],
            fmt=marker,
            color=colour,
            markerfacecolor=colour if warm else "white",
            markersize=6,
            linewidth=1,
            alpha=0.85,
        )
    return ax.plot([], [], marker, color=colour, label=method)[0]


def main() -> None:
    """Draw what the last measurement left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=_ROOT / "tests/benchmarks/results")
    parser.add_argument("--figure", type=Path, default=_ROOT / "docs/figures/accuracy.png")
    options = parser.parse_args()
    draw_accuracy(read(options.results)).savefig(options.figure, dpi=130)


if __name__ == "__main__":
    main()
