"""Draws and densities of an approximation, as functions that are compiled once for NumPy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pymc.pytensorf import find_rng_nodes, reseed_rngs
from pymc.variational import opvi
from pymc.variational.approximations import FullRankGroup, MeanFieldGroup
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.replace import clone_replace
from pytensor.tensor.variable import TensorVariable

from pmflow.errors import UnsupportedError
from pmflow.family.flow_group import NormalizingFlowGroup
from pmflow.flows.bases import standard_normal_logp
from pmflow.graphs.evaluate import compile_once
from pmflow.posterior.export import Samples, as_latent
from pmflow.watch import piece, stage, tick

__all__ = ["DensityFunction", "DrawFunction", "VarNames", "joint_logq"]

_DRAWS_AT_ONCE = 1_000
"""Draws made by one call: memory stays bounded, and a call short. The numbers are the same."""

type VarNames = tuple[str, ...] | None
type Numbers = Sequence[NDArray[np.floating[Any]]]


class DrawFunction:
    """Draws of an approximation, and log q and log p of each.

    One thread at a time draws: the random generators belong to the function.

    Parameters
    ----------
    approx : Approximation
    numbers : sequence of shared variable
        Those that are inputs of the function: it draws where they are as given in each call, not
        where the approximation is.
    """

    def __init__(self, approx: Any, numbers: Sequence[SharedVariable] = ()) -> None:
        self._approx, self._numbers = approx, numbers
        self._names = [name for g in approx.groups for name in g.ordering]
        self._has_logq = bool(approx.has_logq)
        self._density = approx.joint_density
        self._lock = threading.RLock()
        self._compiled: dict[tuple[str, ...] | None, tuple[Callable[..., Any], list[Any]]] = {}

    def _function(self, var_names: VarNames) -> tuple[Callable[..., Any], list[Any]]:
        """The compiled function, made once for the same variables, and its random generators."""
        if len(_variables(self._approx, var_names)) == len(_variables(self._approx, None)):
            var_names = None
        with self._lock:
            if var_names not in self._compiled:
                with stage("Compiling"), piece("compiling the draws for NumPy"):
                    self._compiled[var_names] = self._compile(_variables(self._approx, var_names))
            return self._compiled[var_names]

    def _compile(self, variables: Sequence[Any]) -> tuple[Callable[..., Any], list[Any]]:
        approx, size = self._approx, pt.lscalar("size")
        logs = [approx.symbolic_logq] if self._has_logq else []
        logs += [approx.sized_symbolic_logp] if self._density is None else []
        constrained = approx.symbolic_sample_over_posterior(
            approx.model.replace_rvs_by_values(variables)
        )
        latents = [approx.rslice(name) for name in self._names]
        outputs = approx.set_size_and_deterministic([*logs, *latents, *constrained], size, 0)
        inputs, outputs = _with_inputs(outputs, self._numbers)
        # a draw does not need the inverse of a frame, nor a density its factor
        function = compile_once(
            [size, *inputs], outputs, random_seed=False, on_unused_input="ignore"
        )
        return function, find_rng_nodes(outputs)

    def __call__(
        self,
        draws: int,
        seed: int,
        numbers: Numbers = (),
        var_names: VarNames = None,
    ) -> Samples:
        """Fresh draws; the same seed gives the same ones.

        Parameters
        ----------
        draws : int
        seed : int
        numbers : sequence of ndarray
            What the `numbers` of the function are.
        var_names : tuple of str, optional
            The constrained variables that come along, all by default.
        """
        function, rngs = self._function(var_names)
        sizes = [min(_DRAWS_AT_ONCE, draws - i) for i in range(0, draws, _DRAWS_AT_ONCE)]
        parts = []
        with self._lock, stage("Drawing", draws), piece("drawing", can_be_cut=True):
            reseed_rngs(rngs, seed)
            for number, size in enumerate(sizes):
                tick(number * _DRAWS_AT_ONCE)
                parts.append(function(size, *numbers))
        columns = [np.concatenate(part) for part in zip(*parts, strict=True)]
        logq = columns.pop(0) if self._has_logq else None
        logp = columns.pop(0) if self._density is None else None
        latents, constrained = columns[: len(self._names)], columns[len(self._names) :]
        if logp is None:
            logp = self._density.value(as_latent(latents))
        names = [v.name for v in _variables(self._approx, var_names)]
        return Samples(
            log_q=logq,
            log_p=logp,
            unconstrained=dict(zip(self._names, latents, strict=True)),
            constrained=dict(zip(names, constrained, strict=True)),
        )


def _variables(approx: Any, var_names: VarNames) -> list[Any]:
    variables = approx.model.unobserved_RVs
    return [v for v in variables if var_names is None or v.name in var_names]


class DensityFunction:
    """Log density of an approximation at any points.

    Parameters
    ----------
    groups : sequence of Group
    numbers : sequence of shared variable
        As for `DrawFunction`.
    """

    def __init__(
        self, groups: Sequence[opvi.Group], numbers: Sequence[SharedVariable] = ()
    ) -> None:
        at = pt.matrix("z", dtype=groups[0].symbolic_initial.dtype)
        inputs, outputs = _with_inputs([joint_logq(groups, at)], numbers)
        self._dtype = at.dtype
        with piece("compiling the density for NumPy"):
            self._function = compile_once([at, *inputs], outputs, on_unused_input="ignore")
        self._lock = threading.Lock()

    def __call__(self, points: NDArray[np.float64], numbers: Numbers = ()) -> NDArray[np.float64]:
        """Points of shape (n, dim), unconstrained: log densities of shape (n,)."""
        with self._lock:
            (logq,) = self._function(points.astype(self._dtype), *numbers)
        return np.asarray(logq)


def _with_inputs(
    outputs: list[TensorVariable], numbers: Sequence[SharedVariable]
) -> tuple[list[TensorVariable], list[TensorVariable]]:
    """Inputs in the place of shared variables, and the outputs as functions of them."""
    inputs = [v.type() for v in numbers]
    if not inputs:
        return inputs, outputs
    return inputs, clone_replace(outputs, dict(zip(numbers, inputs, strict=True)))


def joint_logq(groups: Sequence[opvi.Group], at: TensorVariable) -> TensorVariable:
    """Log density of all groups together at points of shape (n, dim): shape (n,)."""
    logq, begin = pt.zeros_like(at[:, 0]), 0
    for group in groups:
        logq = logq + _logq_at(group, at[:, begin : begin + group.ddim])
        begin += group.ddim
    return logq


def _logq_at(group: opvi.Group, z: TensorVariable) -> TensorVariable:
    """Log density of one group at points of shape (n, dim): shape (n,)."""
    if isinstance(group, NormalizingFlowGroup):
        return group.logq_at(z)
    if isinstance(group, MeanFieldGroup):
        return standard_normal_logp((z - group.mean) / group.std) - pt.log(group.std).sum()
    if isinstance(group, FullRankGroup):
        z0 = pt.linalg.solve_triangular(group.L, (z - group.mean).T, lower=True).T
        return standard_normal_logp(z0) - pt.log(pt.diag(group.L)).sum()
    raise UnsupportedError(f"{type(group).__name__} has no density, so log_prob is not defined.")
