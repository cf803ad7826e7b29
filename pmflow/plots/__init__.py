"""Figures of a fit. Each function takes data, not models, and returns a matplotlib Figure.

Every function takes ``figsize``, width and height in inches, for a new figure, or ``axes`` to draw
in, one per panel, from left to right and from top to bottom; it returns the figure of those axes.
matplotlib is imported when a figure is made, not before; no global style is changed.
"""

from pmflow.plots.comparison import plot_comparison
from pmflow.plots.density import plot_density
from pmflow.plots.layers import plot_layers
from pmflow.plots.loss import plot_loss
from pmflow.plots.marginals import plot_marginals
from pmflow.plots.structure import plot_structure
from pmflow.plots.tracker import plot_tracker

__all__ = [
    "plot_comparison",
    "plot_density",
    "plot_layers",
    "plot_loss",
    "plot_marginals",
    "plot_structure",
    "plot_tracker",
]
