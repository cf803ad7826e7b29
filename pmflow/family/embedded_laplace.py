"""An approximation of few global variables by their marginal, and of many local ones given them."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any, override

import numpy as np
import pymc as pm
from numpy.typing import NDArray
from scipy.sparse import csr_array

from pmflow.embedded.by_scores import fit_by_scores
from pmflow.embedded.check import NestedCheck, check_nested
from pmflow.embedded.check_scores import check_by_scores
from pmflow.embedded.conditional import Conditional
from pmflow.embedded.dense import conditional_of
from pmflow.embedded.fit import CURVATURES, fit_nested
from pmflow.embedded.interpolated import interpolated
from pmflow.embedded.nested import Nested, NestedState
from pmflow.embedded.structure import around, verify_pattern
from pmflow.family.approximation import Approximation
from pmflow.family.by_numpy import ByNumpy
from pmflow.family.normalizing_flow import NormalizingFlow
from pmflow.family.state import EmbeddedLaplaceState
from pmflow.family.transport import FollowingTransport, Transport
from pmflow.records import Facts, FitState, Report
from pmflow.watch import why_stopped

__all__ = ["EmbeddedLaplace"]

type Floats = NDArray[np.float64]


class EmbeddedLaplace(ByNumpy, Approximation, state=EmbeddedLaplaceState):
    r"""Few global variables by their marginal, many local ones by Gaussians that follow them.

    Made by `pmflow.fit` for models whose variables meet few others: hierarchies, random walks,
    crossed effects. The global variables :math:`\theta`, scales as a rule, have the marginal
    :math:`\hat p(\theta) \propto p(\theta, u) / q(u \mid \theta)` at the mode of the local
    variables u (Tierney & Kadane, 1986; Rue, Martino & Chopin, 2009), corrected by importance
    weights; given them the local ones are Gaussian with the precision of the model there, which is
    sparse, around the mode, shifted to the mean. The mode is found anew for each value of the
    global variables. Where the local variables are independent given the global ones, each is
    integrated over by itself instead, by quadrature: then nothing is Gaussian, and nothing is
    left to correct. Where they fall into small blocks that are independent of each other, each
    block has weights of its own, and where these are uneven its draws are chosen by them. Of many
    global variables of such blocks the marginal is that whose gradients are nearest to those of the
    model, averaged over draws of the blocks (Fisher's identity); weighted by its values, where the
    local variables are independent or exactly Gaussian.

    Parameters
    ----------
    flow : NormalizingFlow
        Over the same variables; only their order in the latent vector is taken from it.
    pattern : csr_array, shape (dim, dim)
        Which coordinates meet.
    is_global : ndarray of bool, shape (dim,)
    nested : NestedState
        What was found.
    report : Report
    conditional : Conditional, optional
        Of the local variables, where it is known already.

    Attributes
    ----------
    pattern, nested
        As given.

    References
    ----------
    Rue, Martino & Chopin (2009), Approximate Bayesian inference for latent Gaussian models by using
    integrated nested Laplace approximations, https://doi.org/10.1111/j.1467-9868.2008.00700.x
    """

    family = "embedded Laplace"
    no_graph = (
        "An embedded Laplace approximation searches for a mode at each draw, which is no "
        "graph: it can't be trained, and nodes can't be evaluated at its draws. Use its "
        "`sample`, `log_prob` and `state`."
    )

    def __init__(
        self,
        flow: NormalizingFlow,
        pattern: csr_array,
        is_global: NDArray[np.bool_],
        nested: NestedState,
        report: Report,
        conditional: Conditional | None = None,
    ) -> None:
        super().__init__(flow.groups, model=flow.model)
        self._flow, self.pattern, self._is_global = flow, pattern, is_global
        self.nested, self._known = nested, conditional
        self.receive(report)

    @override
    def to_state(self) -> EmbeddedLaplaceState:
        """Everything that makes it, but for its model; see `from_state`."""
        return EmbeddedLaplaceState(
            self._flow.to_state(),
            np.asarray(self.pattern.indptr, dtype=np.int64),
            np.asarray(self.pattern.indices, dtype=np.int64),
            self._is_global,
            self.nested,
            self.report,
        )

    @classmethod
    @override
    def _of(cls, state: Any, model: pm.Model) -> EmbeddedLaplace:
        flow = NormalizingFlow.from_state(state.flow, model)
        entries, dim = np.ones(len(state.indices), dtype=bool), len(state.is_global)
        pattern = csr_array((entries, state.indices, state.pointers), shape=(dim, dim))
        return cls(flow, pattern, state.is_global, state.nested, state.report)

    @property
    @override
    def facts(self) -> Facts:
        """What was fitted: what advice goes by."""
        return replace(
            super().facts, families=(self.family,), correlated=True, bent=True, trained=False
        )

    @property
    def global_names(self) -> list[str]:
        """The value variables that are global."""
        return [n for n, place, *_ in self.ordering.values() if self._is_global[place].all()]

    @property
    def global_variables(self) -> tuple[str, ...]:
        """The free variables that are global."""
        values, names = self.model.rvs_to_values, self.global_names
        return tuple(rv.name for rv in self.model.free_RVs if values[rv].name in names)

    @cached_property
    def _nested(self) -> Nested:
        parts = self.joint_density, self.pattern, self._is_global
        return Nested(self._known or conditional_of(*parts, CURVATURES), self.nested)

    def again(self, seed: int) -> EmbeddedLaplace:
        """The same family fitted to the data that the model has now, from where it is.

        What is global stays so, and hardly anything is compiled again. This one is no longer to be
        used then.

        Raises
        ------
        NoStructureError
            If other variables meet.
        NoCentreError, NoGaussianError
            If it can't be fitted.
        """
        conditional, start = self._nested.conditional.anew(), self.nested.centre.z
        verify_pattern(conditional, around(start, seed), seed)
        way = fit_nested if self.nested.marginal is None else fit_by_scores
        nested = way(conditional, start, seed)
        report = Report(
            fit_state=FitState(0, 0, why_stopped() or "converged", "by Newton's method")
        )
        flow, is_global = self._flow, self._is_global
        return EmbeddedLaplace(flow, self.pattern, is_global, nested.state, report, conditional)

    def check(self, seed: int) -> NestedCheck:
        """What fresh draws say about the fit; `pmflow.diagnose` puts it in words."""
        if self.nested.is_explicit:
            return check_by_scores(self._nested, seed)
        return check_nested(self._nested, seed, self._as_seen)

    def _as_seen(self, theta: Floats) -> dict[str, Floats]:
        """Global variables in constrained space, each of shape (n, entries)."""
        z = np.tile(self.nested.centre.z, (len(theta), 1))
        z[:, self._is_global] = theta
        found = self.joint_density.variables(z, 0, self.global_variables)[1]
        return {name: x.reshape(len(theta), -1) for name, x in found.items()}

    @override
    def transport(self, seed: int) -> Transport:
        """Global variables by their moments, and local ones in the units that follow from them."""
        return FollowingTransport(interpolated(self._nested, seed), self.family)

    @override
    def drawn_points(self, draws: int, seed: int) -> tuple[Floats, Floats]:
        """Draws over the latent space, shape (draws, dim), and their log densities."""
        return self._nested.draws(draws, seed)

    @override
    def _log_density(self, points: Floats) -> Floats:
        return self._nested.log_density(points)
