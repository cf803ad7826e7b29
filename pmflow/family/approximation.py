"""The approximating family: base draw -> chain of layers -> latent vector of a model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pymc as pm
from numpy.typing import ArrayLike, NDArray
from pymc.util import RandomState
from pymc.variational import opvi
from pytensor.tensor.variable import TensorVariable
from xarray import DataTree

from pmflow.checks import as_numbers, check_flags, check_seed, checked_count, checked_names
from pmflow.errors import ParameterError
from pmflow.family.flow_group import NormalizingFlowGroup
from pmflow.family.functions import DensityFunction, DrawFunction, joint_logq
from pmflow.family.group_states import groups_of
from pmflow.family.kept import Kept
from pmflow.family.mean_densities import MeanDensities
from pmflow.family.state import ApproximationState
from pmflow.family.transport import Transport
from pmflow.graphs.checks import checks_as_values
from pmflow.graphs.evaluate import GLOBAL_STATE, NotVectorizedError, vectorize_over_draws
from pmflow.graphs.private import seed_from
from pmflow.posterior import export
from pmflow.posterior.at_points import VarNames
from pmflow.posterior.density import LogDensity
from pmflow.posterior.model import checked_groups
from pmflow.posterior.packages import drawn_names, finished
from pmflow.records import Report
from pmflow.watch import watching

__all__ = ["Approximation"]


class Approximation(Kept, MeanDensities, opvi.Approximation, state=ApproximationState):
    """An approximate posterior made of independent groups of variables.

    Parameters
    ----------
    groups : list of Group
        Together they hold every free variable of the model; at most one of them has None for its
        variables, and takes those that are left.
    model : pymc.Model, optional
        Defaults to the model of the context.

    Raises
    ------
    ParameterError
        If a variable is in two groups or in none, or groups are of several models.
    """

    is_stack: ClassVar[bool] = False
    is_resampled: ClassVar[bool] = False
    is_nested: ClassVar[bool] = False

    def __init__(self, groups: Sequence[opvi.Group], model: pm.Model | None = None) -> None:
        groups, model = checked_groups(groups, model)
        with GLOBAL_STATE:  # PyMC changes PyTensor's flags as it compiles, without a lock
            super().__init__(groups, model=model)
        self.receive(Report())

    @classmethod
    def _of(cls, state: Any, model: pm.Model) -> Approximation:
        made = cls(groups_of(state.groups, model), model=model)
        made.receive(state.report)
        return made

    @property
    def family(self) -> str:
        """What its groups are, in words."""
        return " & ".join(map(str, self.groups))

    @property
    def rng(self) -> np.random.RandomState:
        """Where the seeds of training and drawing come from: that of the first group."""
        return self.groups[0].rng

    @property
    def proposal(self) -> Approximation:
        """What was fitted: itself, where draws are not weighted and chosen anew."""
        return self

    @property
    def joint_density(self) -> LogDensity | None:
        """The density of the model as a function that has been compiled, if there is one."""
        return None

    def transport(self, seed: int) -> Transport | None:
        """A map from standard normal numbers to near the posterior, if there is one.

        Parameters
        ----------
        seed : int
            Of the places where it is looked at what the map must be.

        Raises
        ------
        UnsupportedError
            If these do not say.
        """
        return None

    @property
    def model(self) -> pm.Model:
        """The model, also outside of its context."""
        return self.groups[0].model

    @property
    def param_names(self) -> list[str]:
        """A name for every entry of `params`: ``u_0`` is the `u` of the flow's first layer.

        ``df_base`` is one of the base. Of several groups the name says which: ``group1_u_0``.
        """
        names = []
        for index, group in enumerate(self.groups):
            prefix = f"group{index}_" if len(self.groups) > 1 else ""
            if isinstance(group, NormalizingFlowGroup):
                names += [f"{prefix}{name}" for name in group.named_params]
            else:
                names += [f"{prefix}{p.name}" for p in group.params]
        return names

    def make_size_and_deterministic_replacements(self, *args: Any, **kwargs: Any) -> Any:
        """The same as PyMC's, but one thread at a time."""
        with GLOBAL_STATE:  # as in __init__
            return super().make_size_and_deterministic_replacements(*args, **kwargs)

    def symbolic_sample_over_posterior(
        self, node: Any, more_replacements: dict[Any, Any] | None = None
    ) -> Any:
        """Graphs of one point of the posterior, evaluated at every draw without a loop.

        Falls back to PyMC's scan over draws, with a warning that names the Op, where the graph
        can't be batched.
        """
        single = not isinstance(node, list | tuple)
        flat = self.to_flat_input(node, more_replacements=more_replacements)
        nodes = [flat] if single else list(flat)
        nodes = checks_as_values(nodes, check_bounds=self.model.check_bounds)
        draws = dict(zip(self.inputs, self.symbolic_randoms, strict=True))
        try:
            batched = vectorize_over_draws(nodes, draws)
        except NotVectorizedError as error:
            warnings.warn(
                f"Draws are looped over, not vectorized, because the Op {error} can't be batched. "
                "The result is the same, but more than one draw a step will be slow.",
                stacklevel=2,
            )
            return super().symbolic_sample_over_posterior(nodes[0] if single else nodes)
        return batched[0] if single else batched

    def sample(
        self,
        draws: int = 500,
        *,
        chains: int = 1,
        random_seed: RandomState = None,
        return_inferencedata: bool = True,
        include_transformed: bool = False,
        log_likelihood: bool = False,
        var_names: Sequence[str] | None = None,
        progressbar: bool = True,
    ) -> DataTree | pm.backends.base.MultiTrace:
        """Draw from the approximate posterior.

        Parameters
        ----------
        draws, chains : int
            So many draws of each chain. All are independent; of four chains ArviZ has an R-hat to
            show, which is 1 but for chance.
        random_seed : int, Generator or RandomState, optional
            The same seed gives the same draws. By default it continues the approximation's.
        return_inferencedata : bool
            False returns PyMC's MultiTrace instead.
        include_transformed : bool
            Add the variables in unconstrained space as group ``unconstrained_posterior``.
        log_likelihood : bool
            Add that of each observation, of all rows of minibatches too, for LOO.
        var_names : sequence of str, optional
            Free variables and deterministics to return and to compute, all by default.
        progressbar : bool
            Whether to show what takes longer than a second.

        Returns
        -------
        DataTree
            ``posterior``: free variables and deterministics in constrained space, with the model's
            dims and coords. ``sample_stats``: ``log_q`` and ``log_p`` of each draw, over
            the unconstrained space (``log_p`` not normalised; for minibatches an estimate; none
            after `pymc.set_data` with other lengths). ``observed_data``, ``constant_data``.

        Raises
        ------
        ParameterError
            If `draws` or `chains` is not a positive integer, or the model has no such variable.
        """
        draws, chains = checked_count("draws", draws, 1), checked_count("chains", chains, 1)
        check_flags(return_inferencedata=return_inferencedata, progressbar=progressbar)
        check_flags(log_likelihood=log_likelihood, include_transformed=include_transformed)
        check_seed(random_seed)
        known = [v.name for v in self.model.unobserved_RVs]
        names = None if var_names is None else checked_names(var_names, known, "var_names")
        with watching(progressbar=progressbar):
            samples = self.draw(chains * draws, random_seed, drawn_names(self.model, names))
            if not return_inferencedata:
                return export.to_multitrace(self.model, samples, chains)
            tree = export.to_datatree(
                self.model, samples, self.family, chains, include_transformed=include_transformed
            )
            tree = self.with_log_likelihood(tree, samples) if log_likelihood else tree
            return finished(self.model, tree, names)

    def draw(
        self, draws: int, random_seed: RandomState = None, var_names: VarNames = ()
    ) -> export.Samples:
        """Fresh draws as plain arrays; of constrained variables those named, all for None."""
        return self._drawn(draws, self._seed(random_seed), var_names)

    def _drawn(self, draws: int, seed: int, var_names: VarNames) -> export.Samples:
        return self._draw_function(draws, seed, var_names=var_names)

    def logq_at(self, z: TensorVariable) -> TensorVariable:
        """Graph of log q at points of shape (n, dim), unconstrained: shape (n,)."""
        return joint_logq(self.groups, z)

    @cached_property
    def _draw_function(self) -> DrawFunction:
        return DrawFunction(self)

    @cached_property
    def _density_function(self) -> DensityFunction:
        return DensityFunction(self.groups)

    def next_seed(self) -> int:
        """A seed that continues from that of the approximation."""
        return int(self.rng.randint(2**30, dtype=np.int64))

    def _seed(self, random_seed: RandomState) -> int:
        return self.next_seed() if random_seed is None else int(seed_from(random_seed))

    def log_prob(self, z: ArrayLike) -> NDArray[np.float64]:
        """Log density of the approximation at any points.

        Parameters
        ----------
        z : array_like, shape (n, dim) or (dim,)
            Points in unconstrained space, the variables in the order of the groups.

        Returns
        -------
        ndarray, shape (n,) or ()

        Raises
        ------
        ParameterError
            If the last axis of `z` does not have the length of the latent vector.
        UnsupportedError
            If a group has no density, such as PyMC's Empirical.
        """
        points = as_numbers("z", z, f"(n, {self.ddim})")
        if points.ndim not in (1, 2) or points.shape[-1] != self.ddim:
            raise ParameterError(
                f"z must have shape (n, {self.ddim}), one unconstrained point a row, "
                f"but has shape {points.shape}."
            )
        logq = self._log_density(np.atleast_2d(points))
        return np.asarray(logq if points.ndim == 2 else logq[0])

    def _log_density(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log density at points of shape (n, dim), shape (n,)."""
        return self._density_function(points)
