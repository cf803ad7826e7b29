"""The growth of a step's time as a figure: ``python -m tests.benchmarks.speed.figure``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from .growth import fit_growth
from .rows import GROWTH, growth_row

__all__ = ["draw_growth"]

_ROOT = Path(__file__).resolve().parents[3]
_COLOURS = {"numba": "#0072b2", "jax": "#d55e00"}


def draw_growth(results: dict[str, dict[str, Any]]) -> plt.Figure:
    """One panel for what grows: seconds a step, measured and fitted."""
    figure, axes = plt.subplots(1, len(GROWTH), figsize=(11, 3.6), layout="constrained")
    for ax, (what, values) in zip(axes, GROWTH.items(), strict=True):
        for backend, colour in _COLOURS.items():
            found = {
                value: 1 / results[key]["steps_per_s"]
                for value in values
                if "steps_per_s"
                in results.get(key := f"row {growth_row(what, value).name} / pmflow {backend}", {})
            }
            _draw(ax, np.array(list(found)), np.array(list(found.values())), backend, colour)
        ax.set(xscale="log", yscale="log", xlabel=what, ylabel="seconds a step")
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False)
    return figure


def _draw(ax: Any, x: np.ndarray, seconds: np.ndarray, backend: str, colour: str) -> None:
    label = backend
    fit = fit_growth(list(x), list(seconds))
    if fit is not None:
        a, b, c = fit
        grid = np.geomspace(x[0], x[-1], 100)
        ax.plot(grid, a + b * grid**c, color=colour, linewidth=1)
        label = f"{backend}: exponent {c:.2f}"
    ax.plot(x, seconds, "o", color=colour, markersize=4, label=label)


def main() -> None:
    """Draw what the last measurement left."""
    stored = json.loads((_ROOT / "tests/benchmarks/results/speed.json").read_text())
    figure = draw_growth(stored["results"])
    figure.savefig(_ROOT / "docs/figures/growth.png", dpi=130)


if __name__ == "__main__":
    main()
