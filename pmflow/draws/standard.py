"""Normal draws that are the same at every step: evenly spread, with exact moments."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["standard_draws"]

type Floats = NDArray[np.float64]


def standard_draws(size: int, dim: int, seed: int, *, whiten: bool) -> Floats:
    """A scrambled Sobol set of N(0, I), mirrored: mean exactly 0, covariance exactly I if asked."""
    from scipy.special import ndtri
    from scipy.stats import qmc  # slow to import

    half = 1 << max(1, (size // 2 - 1).bit_length())
    rng = np.random.default_rng(seed)
    if dim <= qmc.Sobol.MAXDIM:
        normal = ndtri(np.clip(qmc.Sobol(dim, seed=rng).random(half), 1e-12, 1 - 1e-12))
    else:
        normal = rng.standard_normal((half, dim))
    y = np.concatenate([normal, -normal])
    if not whiten:
        return y / y.std(0)
    factor = np.linalg.cholesky(y.T @ y / len(y))
    return np.linalg.solve(factor, y.T).T
