"""The rung for models in which each variable meets few others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import override

import numpy as np

from pmflow.embedded.conditional import Conditional
from pmflow.embedded.gaussian import CURVATURES, fit_gaussian
from pmflow.embedded.globals import Held
from pmflow.family.approximation import Approximation
from pmflow.family.normalizing_flow import NormalizingFlow
from pmflow.family.sparse_gaussian import SparseGaussian
from pmflow.ladder.structured import AbstractStructuredRung, check_affordable
from pmflow.records import FitState, Report
from pmflow.watch import why_stopped

__all__ = ["SparseRung"]


@dataclass(frozen=True)
class SparseRung(AbstractStructuredRung):
    """The Gaussian with the zeros of the model in its precision."""

    name = SparseGaussian.family

    @override
    def fitted(self, flow: NormalizingFlow, held: Held, seed: int) -> Approximation:
        """Climb the ELBO from where the larger variables are at their mode."""
        density, pattern = held.whole.density, held.whole.pattern
        whole = Conditional(density, pattern, np.zeros(density.dim, dtype=bool), CURVATURES)
        check_affordable(whole, CURVATURES)
        gaussian = fit_gaussian(whole, held.of_larger, seed)
        state = FitState(0, 0, why_stopped() or "converged", "by natural gradients")
        return SparseGaussian(flow, gaussian, Report(fit_state=state))
