"""The rung for models in which each variable meets few others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import override

from pmflow.embedded.gaussian import gaussian_of
from pmflow.embedded.globals import Held
from pmflow.family.approximation import Approximation
from pmflow.family.normalizing_flow import NormalizingFlow
from pmflow.family.sparse_gaussian import SparseGaussian
from pmflow.ladder.structured import AbstractStructuredRung
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
        gaussian = gaussian_of(held, seed)
        state = FitState(0, 0, why_stopped() or "converged", "by natural gradients")
        return SparseGaussian(flow, gaussian, Report(fit_state=state))
