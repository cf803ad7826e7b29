"""How the time of a step grows: ``a + b * x**c``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["fit_growth"]

_FEWEST = 4


def fit_growth(x: Sequence[float], seconds: Sequence[float]) -> tuple[float, float, float] | None:
    """The fixed cost ``a``, ``b`` and the exponent ``c`` by least squares of log seconds.

    None where there are fewer than four points.
    """
    from scipy.optimize import least_squares

    if len(x) < _FEWEST:
        return None
    at, log_t = np.asarray(x, float), np.log(seconds)

    def residuals(theta: np.ndarray) -> np.ndarray:
        log_a, log_b, c = theta
        return np.logaddexp(log_a, log_b + c * np.log(at)) - log_t

    fits = [
        least_squares(residuals, [log_t[0], log_t[-1] - c * np.log(at[-1]), c])
        for c in (0.5, 1.0, 1.5, 2.0)
    ]
    log_a, log_b, c = min(fits, key=lambda fit: fit.cost).x
    return float(np.exp(log_a)), float(np.exp(log_b)), float(c)
