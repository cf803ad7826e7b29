"""Synthetic data with fixed seeds, the same for every subject."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BATCH",
    "COLUMNS",
    "GROUPS",
    "REGRESSION_ROWS",
    "Radon",
    "Regression",
    "radon",
    "regression",
]

GROUPS = 85
_RADON_ROWS = 919
REGRESSION_ROWS = 1_000_000
COLUMNS = 20
BATCH = 256


class Radon(NamedTuple):
    """Rows in groups of very different sizes, in the order of the groups."""

    group: NDArray[np.int64]
    floor: NDArray[np.float64]
    y: NDArray[np.float64]


class Regression(NamedTuple):
    """A table with many rows."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]


def radon() -> Radon:
    """919 houses in 85 counties, each with at least one."""
    rng = np.random.default_rng(85)
    weights = rng.lognormal(sigma=1.0, size=GROUPS)
    others = rng.choice(GROUPS, size=_RADON_ROWS - GROUPS, p=weights / weights.sum())
    group = np.sort(np.concatenate([np.arange(GROUPS), others]))
    floor = (rng.random(_RADON_ROWS) < 0.17).astype(float)
    intercepts = 1.5 + 0.3 * rng.standard_normal(GROUPS)
    slopes = -0.7 + 0.2 * rng.standard_normal(GROUPS)
    noise = 0.75 * rng.standard_normal(_RADON_ROWS)
    return Radon(group, floor, intercepts[group] + slopes[group] * floor + noise)


def regression() -> Regression:
    """A million rows and twenty columns."""
    rng = np.random.default_rng(20)
    x = rng.standard_normal((REGRESSION_ROWS, COLUMNS))
    y = 0.5 + x @ rng.standard_normal(COLUMNS) + 0.7 * rng.standard_normal(REGRESSION_ROWS)
    return Regression(x, y)
