"""A fit of one mode with all of its mirror images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, override

import numpy as np
import pymc as pm
from numpy.typing import NDArray
from pymc.util import RandomState
from xarray import DataTree

from pmflow.errors import ParameterError
from pmflow.family.approximation import Approximation
from pmflow.family.no_graph import NoGraph
from pmflow.family.normalizing_flow import NormalizingFlow
from pmflow.family.stack import Stack
from pmflow.family.state import SymmetrizedState
from pmflow.posterior.at_points import VarNames, unconstrained_parts
from pmflow.posterior.density import LogDensity
from pmflow.posterior.export import Samples, to_datatree
from pmflow.posterior.symmetry import Symmetry
from pmflow.records import Facts, Report

__all__ = ["Symmetrized"]

type Floats = NDArray[np.float64]


class Symmetrized(NoGraph, Approximation, state=SymmetrizedState):
    r"""A fit and its images under the symmetries of the posterior, all of the same weight.

    Made by `pmflow.fit` where the posterior is the same if entries are exchanged or signs turned:
    the labels of a mixture's parts, the signs of factors. One image is fitted; with q its density
    and T the n maps of the latent vector that leave the posterior as it is, the density is
    :math:`\frac{1}{n} \sum_T q(T z)`, which is exact whether the images overlap or not. Draws fall
    into all images evenly, as those of a sampler that has no trouble with modes would
    (Frühwirth-Schnatter, 2001). Summaries by entry are then the same for all of them: `fitted` is
    the fit of one image, with draws that keep their labels.

    Parameters
    ----------
    fitted : NormalizingFlow or Stack
        Of one image of each mode.
    symmetry : Symmetry
        All maps.
    report : Report

    Attributes
    ----------
    fitted, symmetry
        As given.

    Raises
    ------
    ParameterError
        If not all maps are known, or they are of vectors of another length.

    References
    ----------
    Frühwirth-Schnatter (2001), Markov chain Monte Carlo estimation of classical and dynamic
    switching and mixture models, https://doi.org/10.1198/016214501750333063
    """

    no_graph = (
        "A symmetrized fit is a mixture of images of one fit, not one graph: it can't be trained, "
        "and nodes can't be evaluated at its draws. Use its `sample`, `log_prob` and `state`, or "
        "`approx.fitted`, which is the fit of one image."
    )

    def __init__(self, fitted: NormalizingFlow | Stack, symmetry: Symmetry, report: Report) -> None:
        super().__init__(fitted.groups, model=fitted.model)
        if not symmetry.is_whole or len(symmetry.row) != fitted.ddim:
            raise ParameterError(
                f"symmetry must have all maps of vectors of length {fitted.ddim}, but has "
                f"{symmetry.number} of vectors of length {len(symmetry.row)}"
                f"{'' if symmetry.is_whole else ', which are not all'}."
            )
        self.fitted, self.symmetry = fitted, symmetry
        self.receive(report)

    @override
    def to_state(self) -> SymmetrizedState:
        """Everything that makes it, but for its model; see `from_state`."""
        return SymmetrizedState(self.fitted.to_state(), self.symmetry, self.report)

    @classmethod
    @override
    def _of(cls, state: Any, model: pm.Model) -> Symmetrized:
        return cls(Approximation.from_state(state.fitted, model), state.symmetry, state.report)

    @property
    @override
    def images(self) -> int:
        """How many images there are, with the one that was fitted."""
        return self.symmetry.number

    @property
    @override
    def family(self) -> str:
        """What was fitted, in words, and how many images of it there are."""
        return f"{self.images} images of {self.fitted.family}"

    @property
    @override
    def joint_density(self) -> LogDensity | None:
        """That of what was fitted."""
        return self.fitted.joint_density

    @property
    def formula(self) -> Any:
        """The formula of what was fitted."""
        return self.fitted.formula

    @property
    def ordering(self) -> Any:
        """Place of each variable in the latent vector."""
        return self.fitted.ordering

    @property
    def is_stack(self) -> bool:  # type: ignore[override]
        """Whether what was fitted is a mixture of fits."""
        return self.fitted.is_stack

    @property
    @override
    def facts(self) -> Facts:
        """What was fitted: what advice goes by."""
        return replace(self.fitted.facts, ended=self.fit_state, trained=False)

    @override
    def judged(self, draws: int, random_seed: RandomState) -> DataTree:
        """Draws of the image that was fitted, and their densities as a part of the whole.

        Moments over all images would hide what is wrong with each.
        """
        seed = self._seed(random_seed)
        samples = self.fitted.draw_by_all_rows(draws, seed, self.judged_names)
        samples = replace(samples, log_q=self._log_density(samples.latent))
        return to_datatree(self.model, samples, family=self.family)

    @override
    def _drawn(self, draws: int, seed: int, var_names: VarNames) -> Samples:
        rng = np.random.default_rng(seed)
        found = self.fitted.draw(draws, int(rng.integers(2**30)))
        # as many of each image, up to one: less noise than independent choices
        numbers = (rng.permutation(draws) + rng.integers(self.images)) % self.images
        z = self.symmetry.images_of_each(found.latent, numbers)
        density = self.groups[0].log_density
        _, constrained = density.variables(z, seed, var_names)
        parts = unconstrained_parts(z, self.ordering)
        return Samples(self._log_density(z), found.log_p, parts, constrained)  # p is the same there

    @override
    def _log_density(self, points: Floats) -> Floats:
        found = np.full(len(points), -np.inf)
        for image in self.symmetry.images(points):
            found = np.logaddexp(found, self.fitted.log_prob(image))
        return found - np.log(self.images)
