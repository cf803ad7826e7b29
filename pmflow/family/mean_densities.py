"""The means of densities over the draws of a step, as graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pymc as pm
import pytensor.tensor as pt
from pymc.variational.opvi import node_property
from pytensor.tensor.variable import TensorVariable

from pmflow.family.flow_group import NormalizingFlowGroup
from pmflow.flows.bases import mean_with_choices
from pmflow.graphs.evaluate import GLOBAL_STATE
from pmflow.graphs.labelled import as_plain

__all__ = ["MeanDensities"]


class MeanDensities:
    """What an objective adds up, of an approximation in groups."""

    groups: Sequence[Any]
    model: pm.Model

    def _mean_over_draws(self, values: TensorVariable) -> TensorVariable:
        choices = [g.log_choice for g in self.groups if isinstance(g, NormalizingFlowGroup)]
        return mean_with_choices(values, [choice for choice in choices if choice is not None])

    @property
    def _sized_symbolic_varlogp_and_datalogp(self: Any) -> Any:
        with GLOBAL_STATE:  # PyMC changes PyTensor's flags as it writes a log density
            return self.symbolic_sample_over_posterior(self._prior_and_data())

    @property
    def _single_symbolic_varlogp_and_datalogp(self: Any) -> Any:
        with GLOBAL_STATE:
            return as_plain(self.symbolic_single_sample(self._prior_and_data()))

    def _prior_and_data(self) -> list[TensorVariable]:
        """Log densities of what is free, and of what is observed."""
        model = self.model  # of which `datalogp` fails for potentials with dims
        prior = model.logp(vars=model.free_RVs)
        data = model.logp(vars=[*model.observed_RVs, *model.potentials])
        return [prior, data.astype(prior.dtype)]

    @node_property
    def logq(self: Any) -> TensorVariable:
        """Mean of log q over the draws of a step."""
        return pt.add(*map(self._mean_over_draws, self.collect("symbolic_logq")))

    @node_property
    def path_logq(self: Any) -> TensorVariable:
        """The same as `logq`, with the gradient along the draws only; for flows alone."""
        return pt.add(*map(self._mean_over_draws, self.collect("symbolic_path_logq")))

    @node_property
    def start_logp(self: Any) -> TensorVariable:
        """Mean log density of the draws where the flows began, for groups that are all flows."""
        return pt.add(*(self._mean_over_draws(g.symbolic_start_logp) for g in self.groups))

    @node_property
    def varlogp(self: Any) -> TensorVariable:
        """Mean log prior of a step's draws."""
        return self._mean_over_draws(self.sized_symbolic_varlogp)

    @node_property
    def datalogp(self: Any) -> TensorVariable:
        """Mean log likelihood of a step's draws."""
        return self._mean_over_draws(self.sized_symbolic_datalogp)
