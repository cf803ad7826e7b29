"""What an approximation is judged by: its draws, and the density of the model by all data."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pymc as pm
import xarray as xr
from pymc.util import RandomState
from xarray import DataTree

from pmflow.family.functions import joint_ordering
from pmflow.family.shown import Shown
from pmflow.graphs.minibatches import in_minibatches
from pmflow.posterior.at_points import VarNames
from pmflow.posterior.density import LogDensity, density_over
from pmflow.posterior.export import Samples, to_datatree
from pmflow.posterior.model import short_variables
from pmflow.posterior.packages import finished
from pmflow.watch import stage, watching

__all__ = ["Judged"]


class Judged(Shown):
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
        return finished(self.model, to_datatree(self.model, samples, family=self.family))

    def with_log_likelihood(self: Any, tree: DataTree, samples: Samples) -> DataTree:
        """Draws with the log likelihood of each observation; of minibatches, of all rows.

        Observed variables that share their rows are one, by both names: the sum is what LOO needs.
        """
        in_rows, found = in_minibatches(self.model), xr.Dataset()
        others = [rv.name for rv in self.model.observed_RVs if rv.name not in in_rows]
        if others:
            tree = pm.compute_log_likelihood(
                tree, var_names=others, model=self.model, progressbar=False
            )
            found = tree["log_likelihood"].to_dataset()
        chains, draws = (tree["posterior"].sizes[dim] for dim in ("chain", "draw"))
        with stage("Going through all rows"):
            for rows in self.whole_density.sums if in_rows else ():
                name = " and ".join(rows.table.names)
                terms = np.concatenate(list(rows.terms(samples.latent)), axis=1)
                dims = ("chain", "draw", f"{name}_dim_0")
                found[name] = dims, terms.reshape(chains, draws, -1)
        tree["log_likelihood"] = DataTree(found)
        return tree

    def judged(self: Any, draws: int, random_seed: RandomState) -> DataTree:
        """Draws that it is judged by, with their densities, as of `sample`; by all rows of data."""
        return self.sample_by_all_rows(draws, random_seed, self.judged_names)
