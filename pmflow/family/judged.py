"""What an approximation is judged by: its draws, and the density of the model by all data."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

from pymc.util import RandomState
from xarray import DataTree

from pmflow.family.functions import joint_ordering
from pmflow.family.reported import Reported
from pmflow.graphs.minibatches import in_minibatches
from pmflow.posterior.at_points import VarNames
from pmflow.posterior.density import LogDensity, density_over
from pmflow.posterior.export import Samples, to_datatree
from pmflow.posterior.model import short_variables
from pmflow.watch import stage, watching

__all__ = ["Judged"]


class Judged(Reported):
    """An approximation with draws whose densities are those by all data."""

    @cached_property
    def judged_names(self: Any) -> tuple[str, ...]:
        """The variables that a diagnosis looks at: all but very long deterministics."""
        return short_variables(self.model)

    def draws_within(self: Any, work: float, *, most: int, least: int) -> int:
        """How many draws a judgement may take, see `LogDensity.draws_within`."""
        density = self.whole_density if in_minibatches(self.model) else self.joint_density
        return most if density is None else density.draws_within(work, most=most, least=least)

    @cached_property
    def whole_density(self: Any) -> LogDensity:
        """The density of the model by all of its data, also where it sees minibatches of them."""
        return self.joint_density or density_over(self.model, joint_ordering(self.groups))

    def draw_by_all_rows(
        self: Any, draws: int, random_seed: RandomState = None, var_names: VarNames = ()
    ) -> Samples:
        """As `draw`; where the model observes minibatches, log p is that of all rows."""
        samples = self.draw(draws, random_seed, var_names)
        if not in_minibatches(self.model):
            return samples
        with watching(), stage("Going through all rows"):
            return replace(samples, log_p=self.whole_density.value(samples.latent))

    def sample_by_all_rows(
        self: Any, draws: int, random_seed: RandomState = None, var_names: VarNames = None
    ) -> DataTree:
        """As `sample`, with log p by all rows where the model observes minibatches."""
        samples = self.draw_by_all_rows(draws, random_seed, var_names)
        return to_datatree(self.model, samples, family=self.family)

    def judged(self: Any, draws: int, random_seed: RandomState) -> DataTree:
        """Draws that it is judged by, with their densities, as of `sample`; by all rows of data."""
        return self.sample_by_all_rows(draws, random_seed, self.judged_names)
