"""Draws and densities of an approximation, as functions that are compiled once for NumPy."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
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
from pmflow.graphs.evaluate import compile_once, while_compiling
from pmflow.posterior.at_points import ModelAtPoints, VarNames, unconstrained_parts
from pmflow.posterior.density import LogDensity
from pmflow.posterior.export import Samples
from pmflow.posterior.model import shared_data
from pmflow.watch import piece, stage, tick

__all__ = ["DensityFunction", "DrawFunction", "joint_logq", "joint_ordering"]

_log = logging.getLogger("pmflow")

_NUMBERS_AT_ONCE = 50_000
"""Numbers of the latent vectors drawn by one call: memory stays bounded, and a call short."""
_DRAWS_AT_ONCE = 1_000, 10_000
"""The fewest and the most draws of such a call."""

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
        self._ordering = joint_ordering(approx.groups)
        self._has_logq = bool(approx.has_logq)
        self._density: LogDensity | None = approx.joint_density
        self._variables = (
            ModelAtPoints(approx.model, self._ordering)
            if self._density is None
            else self._density.variables
        )
        self._lock = threading.RLock()
        self._at_once = int(np.clip(_NUMBERS_AT_ONCE // approx.ddim, *_DRAWS_AT_ONCE))

    @cached_property
    def _function(self) -> tuple[Callable[..., Any], list[Any]]:
        """Draws of the latent vector as a compiled function, and its random generators."""
        approx, size = self._approx, pt.lscalar("size")
        with stage("Compiling"), piece("compiling the draws for NumPy"):
            with while_compiling():
                logq = [approx.symbolic_logq] if self._has_logq else []
                parts = [g.symbolic_random for g in approx.groups]
                outputs = approx.set_size_and_deterministic([*parts, *logq], size, 0)
            inputs, outputs = _with_inputs(outputs, self._numbers)
            # a draw does not need the inverse of a frame, nor a density its factor
            function = compile_once(
                [size, *inputs],
                outputs,
                rewrites="none",
                random_seed=False,
                on_unused_input="ignore",
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
        z, logq = self._latent(draws, seed, numbers)
        with stage("Drawing", draws):
            logp, constrained = self._values(z, seed + 1, var_names)
        return Samples(
            log_q=logq,
            log_p=logp,
            unconstrained=unconstrained_parts(z, self._ordering),
            constrained=constrained,
        )

    def _values(
        self, z: NDArray[np.float64], seed: int, var_names: VarNames
    ) -> tuple[NDArray[np.float64], dict[str, NDArray[Any]]]:
        """Log p at points, NaN where the data don't allow it, and the constrained variables."""
        density = self._density
        try:
            logp, found = self._variables(z, seed, var_names, with_logp=density is None)
            if density is not None:
                logp = density.value(z)
            assert logp is not None
            return logp, found
        except Exception as error:  # whatever an Op says of shapes that do not fit
            if not shared_data(self._approx.model):
                raise
            found = self._variables(z, seed, var_names)[1]
            _log.warning(
                "log_p is left out: with the data that the model has now the log density can't be "
                "evaluated (%s). After pm.set_data, for predictions, that is nothing to mend.",
                str(error).partition("\n")[0].strip(),
            )
            return np.full(len(z), np.nan), found

    def _latent(
        self, draws: int, seed: int, numbers: Numbers
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Draws of the latent vector, shape (draws, dim), and log q of each, shape (draws,)."""
        parts = []
        with self._lock:
            function, rngs = self._function
            with stage("Drawing", draws), piece("drawing", can_be_cut=True):
                reseed_rngs(rngs, seed)
                for begin in range(0, draws, self._at_once):
                    tick(begin)
                    parts.append(function(min(self._at_once, draws - begin), *numbers))
        columns = [np.concatenate(part) for part in zip(*parts, strict=True)]
        logq = columns.pop() if self._has_logq else None
        return np.concatenate(columns, axis=1), logq


def joint_ordering(groups: Sequence[opvi.Group]) -> dict[str, Any]:
    """Name of each value variable to (name, slice, shape, dtype), the groups one after another."""
    ordering: dict[str, Any] = {}
    begin = 0
    for group in groups:
        for name, place, shape, dtype in group.ordering.values():
            there = slice(begin + place.start, begin + place.stop)
            ordering[name] = (name, there, shape, dtype)
        begin += group.ddim
    return ordering


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
            self._function = compile_once(
                [at, *inputs], outputs, rewrites="none", on_unused_input="ignore"
            )
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
