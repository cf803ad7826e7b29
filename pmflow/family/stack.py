"""A mixture of fits of one flow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, override

import numpy as np
import pymc as pm
from numpy.typing import ArrayLike, NDArray

from pmflow.errors import ParameterError
from pmflow.family.approximation import Approximation
from pmflow.family.functions import DensityFunction, DrawFunction
from pmflow.family.no_graph import NoGraph
from pmflow.family.normalizing_flow import NormalizingFlow
from pmflow.family.state import FlowPoint, StackState
from pmflow.posterior.at_points import VarNames
from pmflow.posterior.density import LogDensity
from pmflow.posterior.export import Samples
from pmflow.records import Report, systematic_choice

__all__ = ["Stack"]


class Stack(NoGraph, Approximation, state=StackState):
    """A mixture of fits from several starts, one for each mode, by their evidence.

    Made by ``fit(restarts=4, combine="stack")``. It draws and has a density as any approximation;
    it is not trained further. Where each fit is belongs to the stack: whatever becomes of the flow,
    its draws stay the same.

    Parameters
    ----------
    flow : NormalizingFlow
        What was fitted; it is not moved.
    points : sequence of FlowPoint
        Where it is in each component.
    weights : array_like, shape (modes,)
        Share of each component, up to a factor.
    report : Report
        What the fits have found out.

    Attributes
    ----------
    weights : ndarray, shape (modes,)
        Share of each mode.

    References
    ----------
    Yao, Vehtari & Gelman (2022), Stacking for non-mixing Bayesian computations,
    https://jmlr.org/papers/v23/20-1426.html
    """

    is_stack = True
    no_graph = (
        "A Stack is several fits of one flow, not one graph: it can't be trained, and nodes "
        "can't be evaluated at its draws. Use its `sample`, `log_prob` and `state`, or "
        "combine='best'."
    )

    def __init__(
        self,
        flow: NormalizingFlow,
        points: Sequence[FlowPoint],
        weights: ArrayLike,
        report: Report,
    ) -> None:
        super().__init__(flow.groups, model=flow.model)
        shares = np.asarray(weights, dtype=float)
        if shares.shape != (len(points),) or not (shares > 0).all():
            raise ParameterError(
                f"A Stack needs a positive weight for each of its {len(points)} components, but "
                f"has {shares}."
            )
        self._flow, self._points = flow, tuple(points)
        self.weights: NDArray[np.float64] = shares / shares.sum()
        self.receive(report)

    @override
    def to_state(self) -> StackState:
        """Everything that makes the mixture, but for its model; see `from_state`."""
        return StackState(self._flow.to_state(), self._points, self.weights, self.report)

    @classmethod
    @override
    def _of(cls, state: Any, model: pm.Model) -> Stack:
        flow = NormalizingFlow.from_state(state.flow, model)
        assert isinstance(flow, NormalizingFlow)
        made = cls(flow, state.points, state.weights, state.report)
        for point in state.points:  # fails where it is one of another flow
            made._density_function(np.zeros((1, flow.ddim)), flow.groups[0].numbers_at(point))
        return made

    @property
    def flow(self) -> NormalizingFlow:
        """What was fitted, wherever it is now."""
        return self._flow

    @property
    @override
    def joint_density(self) -> LogDensity | None:
        """That of the flow."""
        return self._flow.joint_density

    @property
    def formula(self) -> Any:
        """The formula of each component."""
        return self._flow.formula

    @property
    def ordering(self) -> Any:
        """Place of each variable in the latent vector."""
        return self._flow.ordering

    @cached_property
    @override
    def _draw_function(self) -> DrawFunction:
        return DrawFunction(self._flow, self._flow.groups[0].numbers)

    @cached_property
    @override
    def _density_function(self) -> DensityFunction:
        return DensityFunction(self._flow.groups, self._flow.groups[0].numbers)

    @property
    def _numbers(self) -> list[list[NDArray[np.floating]]]:
        """What the functions take for the parameters and the frame of each component."""
        return [self._flow.groups[0].numbers_at(point) for point in self._points]

    @override
    def _log_density(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        parts = [self._density_function(points, numbers) for numbers in self._numbers]
        return np.asarray(np.logaddexp.reduce(np.stack(parts) + np.log(self.weights)[:, None]))

    def drawn_of_each(self, draws: int, seed: int) -> list[Samples]:
        """So many draws of each component."""
        number = len(self._points)
        return self._drawn_of_each([draws] * number, range(seed, seed + number), ())

    def _drawn_of_each(
        self, counts: Sequence[int], seeds: Sequence[int], var_names: VarNames
    ) -> list[Samples]:
        return [
            self._draw_function(count, seed, numbers, var_names)
            for count, seed, numbers in zip(counts, seeds, self._numbers, strict=True)
            if count
        ]

    @override
    def _drawn(self, draws: int, seed: int, var_names: VarNames) -> Samples:
        rng = np.random.default_rng(seed)
        # as many of each as its share says, up to one: less noise than independent choices
        chosen = systematic_choice(self.weights, draws, 1 - rng.random())
        counts = np.bincount(chosen, minlength=len(self.weights))
        seeds = rng.integers(2**30, size=len(counts))
        parts = self._drawn_of_each(counts.tolist(), seeds.tolist(), var_names)

        def joined(of: Callable[[Samples], dict[str, Any]]) -> dict[str, Any]:
            return {n: np.concatenate([of(part)[n] for part in parts]) for n in of(parts[0])}

        mixed = Samples(
            log_q=None,
            log_p=np.concatenate([part.log_p for part in parts]),
            unconstrained=joined(lambda part: part.unconstrained),
            constrained=joined(lambda part: part.constrained),
        ).at(rng.permutation(draws))
        return replace(mixed, log_q=self._log_density(mixed.latent))
