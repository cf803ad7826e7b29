"""Newton steps that end where they lead, since the density is a parabola along them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pmflow.embedded.factor import Factor

__all__ = ["without_exact"]

_EXACT = 1e-5
"""Share of Newton's decrement that is left where the density is a parabola."""

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]


def without_exact(
    climbing: Integers,
    slope: Floats,
    factors: Sequence[Factor | None],
    damping: Floats,
    decrement: Floats,
    steps: Floats,
    found: float,
) -> Integers:
    """Those whose last step has not led to the mode: one that has was down a parabola.

    Then no entry of the slope is left, so there is no third derivative along the step, and the
    curvature is what it was. What is left to the mode is written down as the next step.

    Parameters
    ----------
    climbing : ndarray of int
        Which of n climbs go on.
    slope, steps : ndarray, shape (n, locals)
        After the last step, and that step.
    factors : sequence of Factor or None, length n
    damping, decrement : ndarray, shape (n,)
    found : float
        Newton's decrement of a mode.
    """
    goes_on = np.ones(len(climbing), dtype=bool)
    for k, i in enumerate(climbing):
        factor = factors[i]
        if factor is None:  # none was found at all
            continue
        step = factor.solve(slope[i : i + 1])[0]
        left = np.sqrt(max(slope[i] @ step, 0.0))
        if not damping[i] and left < min(found, _EXACT * decrement[i]):
            steps[i], decrement[i], goes_on[k] = step, left, False
    return climbing[goes_on]
