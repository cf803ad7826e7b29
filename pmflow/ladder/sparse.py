"""The rung for models in which each variable meets few others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import override

import numpy as np

from pmflow.embedded.conditional import Conditional
from pmflow.embedded.gaussian import CURVATURES, fit_gaussian
from pmflow.embedded.globals import held_start
from pmflow.family.approximation import Approximation
from pmflow.family.sparse_gaussian import SparseGaussian
from pmflow.ladder.structured import AbstractStructuredRung, Read, affordable
from pmflow.records import FitState, Report
from pmflow.watch import why_stopped

__all__ = ["SparseRung"]


@dataclass(frozen=True)
class SparseRung(AbstractStructuredRung):
    """The Gaussian with the zeros of the model in its precision."""

    name = SparseGaussian.family

    @override
    def fitted(self, read: Read) -> Approximation:
        """Climb the ELBO from where the variables are at their mode that no scale governs."""
        density, pattern = read.whole.density, read.whole.pattern
        whole = Conditional(density, pattern, np.zeros(density.dim, dtype=bool), CURVATURES)
        affordable(whole, CURVATURES)
        gaussian = fit_gaussian(whole, held_start(whole, read.places, read.start), read.seed)
        state = FitState(0, 0, why_stopped() or "converged", "by natural gradients")
        return SparseGaussian(read.flow, pattern, gaussian, Report(fit_state=state))
