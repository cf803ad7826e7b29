"""The ELBO at fresh draws, to compare states of a fit with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pymc.pytensorf import find_rng_nodes, reseed_rngs

from pmflow.graphs.evaluate import compile_once
from pmflow.graphs.minibatches import has_minibatches
from pmflow.graphs.work import rows_at_once
from pmflow.watch import piece, tick

__all__ = ["DrawnElbo", "FreshElbo"]

_DRAWS_A_MINIBATCH = 20
"""Draws that share a minibatch: a single one for all would be fitted, not the data."""


class DrawnElbo:
    """Log weights ``log p - log q`` of an approximation at fresh draws of its own.

    The same seed gives the same base draws: two states are compared draw by draw, which leaves
    little noise in their difference.

    Parameters
    ----------
    approx : Approximation
        With a density, of a model whose density is no estimate.
    draws : int
    """

    name = "ELBO"

    def __init__(self, approx: Any, draws: int = 1000) -> None:
        self._approx, self.draws = approx, draws

    def values(self, seed: int) -> NDArray[np.float64]:
        """Log weight of each draw, shape (draws,); -inf where it is not finite."""
        return _finite(self._approx.draw(self.draws, seed).log_weights)


class FreshElbo:
    """The same of a target that is not the posterior, or whose density is an estimate.

    Parameters
    ----------
    approx : Approximation
        With a density.
    draws : int
    beta : float
        Weight of the divergence from the prior, as in the objective.
    from_start : bool
        Compare log p with the density of the start instead of log q.
    """

    name = "ELBO"

    def __init__(
        self, approx: Any, draws: int = 1000, *, beta: float = 1.0, from_start: bool = False
    ) -> None:
        self.draws = draws
        with piece("compiling the ELBO for NumPy"):
            size = pt.lscalar("size")
            other = approx.symbolic_start_logp if from_start else beta * approx.symbolic_logq
            logp = approx.sized_symbolic_datalogp + beta * approx.sized_symbolic_varlogp
            self._outputs = approx.set_size_and_deterministic([other, logp], size, 0)
            self._function: Callable[..., Any] = compile_once(
                [size], self._outputs, random_seed=False
            )
        self._rows = rows_at_once(self._outputs, approx.ddim)
        if has_minibatches(self._outputs):
            self._rows = min(self._rows, _DRAWS_A_MINIBATCH)

    def values(self, seed: int) -> NDArray[np.float64]:
        """Log weight of each draw, shape (draws,); -inf where it is not finite."""
        reseed_rngs(find_rng_nodes(self._outputs), seed)
        sizes = [min(self._rows, self.draws - i) for i in range(0, self.draws, self._rows)]
        parts = []
        with np.errstate(all="ignore"), piece("evaluating the ELBO", can_be_cut=True):
            for size in sizes:
                tick()
                parts.append(self._function(size))
        other, logp = (np.concatenate(part).astype(float) for part in zip(*parts, strict=True))
        return _finite(logp - other)


def _finite(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log weights with -inf in the place of what is not finite."""
    return np.where(np.isfinite(weights), weights, -np.inf)
