"""An approximation whose draws are weighted and chosen anew."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, override

import numpy as np
import pymc as pm
from numpy.typing import NDArray

from pmflow.errors import ParameterError, UnsupportedError
from pmflow.family.approximation import Approximation
from pmflow.family.no_graph import NoGraph
from pmflow.family.normalizing_flow import NormalizingFlow
from pmflow.family.stack import Stack
from pmflow.family.state import ResampledState
from pmflow.family.symmetrized import Symmetrized
from pmflow.posterior.at_points import VarNames
from pmflow.posterior.export import Samples
from pmflow.records import Report, systematic_choice

__all__ = ["Resampled"]

_CANDIDATES = 2.0
"""Candidates for each draw that is kept, in effective draws."""
_LEAST_CANDIDATES = 1_000


class Resampled(NoGraph, Approximation, state=ResampledState):
    """The posterior by way of a proposal that is near it: importance resampling.

    Made by `pmflow.fit` where the weights of a fit are good. `sample` draws candidates from the
    proposal, weights each by p / q, cuts weights above the square root of the number of candidates
    (Ionides, 2008, https://doi.org/10.1198/106186008X320456), and chooses among them. What comes
    back is not weighted: use it as any other draws. A few may be there twice. `log_prob`, and
    ``log_q`` in ``sample_stats``, are those of the posterior over the unconstrained space, log p
    minus `log_evidence`.

    Parameters
    ----------
    proposal : NormalizingFlow, Stack or Symmetrized
        What was fitted.
    log_evidence : float
        Log of the mean weight, as estimated.
    ess : float
        Effective sample size of the weights as a fraction of the draws, above 0, at most 1.
    report : Report
        What the fits have found out.

    Attributes
    ----------
    proposal : NormalizingFlow, Stack or Symmetrized
    log_evidence, ess : float

    Raises
    ------
    ParameterError
        If `log_evidence` is not finite or `ess` not within its limits.
    """

    is_resampled = True
    no_graph = (
        "Resampled draws are chosen among candidates, which is no graph: they can't be trained "
        "on, and nodes can't be evaluated at them. Use `sample`, `log_prob` and `state`, or "
        "`approx.proposal`, which is what was fitted."
    )

    def __init__(
        self,
        proposal: NormalizingFlow | Stack | Symmetrized,
        log_evidence: float,
        ess: float,
        report: Report,
    ) -> None:
        super().__init__(proposal.groups, model=proposal.model)
        if not math.isfinite(log_evidence):
            raise ParameterError(f"log_evidence must be a finite number, but is {log_evidence}.")
        if not 0 < ess <= 1:
            raise ParameterError(f"ess must be above 0 and at most 1, but is {ess}.")
        self._proposal, self.log_evidence, self.ess = proposal, float(log_evidence), float(ess)
        self.receive(report)

    @override
    def to_state(self) -> ResampledState:
        """Everything that makes it, but for its model; see `from_state`."""
        return ResampledState(self._proposal.to_state(), self.log_evidence, self.ess, self.report)

    @classmethod
    @override
    def _of(cls, state: Any, model: pm.Model) -> Resampled:
        proposal = Approximation.from_state(state.proposal, model)
        return cls(proposal, state.log_evidence, state.ess, state.report)

    @property
    @override
    def proposal(self) -> Approximation:
        """What candidates are drawn from."""
        return self._proposal

    @property
    def is_stack(self) -> bool:  # type: ignore[override]
        """Whether the proposal is a mixture of fits."""
        return self._proposal.is_stack

    @property
    @override
    def images(self) -> int:
        """How many mirror images the proposal has."""
        return self._proposal.images

    @property
    def formula(self) -> Any:
        """The formula of the proposal."""
        return self._proposal.formula

    @property
    def ordering(self) -> Any:
        """Place of each variable in the latent vector."""
        return self._proposal.ordering

    @override
    def _log_density(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """That of the posterior, by the evidence as estimated."""
        logp, _ = self._proposal.groups[0].log_density.value_and_gradient(points)
        return np.asarray(logp - self.log_evidence)

    @override
    def _drawn(self, draws: int, seed: int, var_names: VarNames) -> Samples:
        rng = np.random.default_rng(seed)
        number = max(_LEAST_CANDIDATES, math.ceil(_CANDIDATES * draws / self.ess))
        found = self._proposal.draw_by_all_rows(number, int(rng.integers(2**30)), var_names)
        assert found.log_q is not None
        if np.isnan(found.log_p).all():
            raise UnsupportedError(
                "These draws are weighted by the log density, which can't be evaluated with the "
                "data that the model has now. Draw before pm.set_data, also for predictions, or "
                "set the data back. approx.proposal draws without weights."
            )
        relative = found.log_p - found.log_q - self.log_evidence
        # a candidate without a density has no weight
        relative = np.where(np.isfinite(relative), relative, -np.inf)
        weights = np.exp(np.minimum(relative, 0.5 * math.log(number)))
        chosen = rng.permutation(systematic_choice(weights, draws, 1 - rng.random()))
        kept = found.at(chosen)
        return replace(kept, log_q=kept.log_p - self.log_evidence)
