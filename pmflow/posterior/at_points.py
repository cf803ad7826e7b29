"""The variables of a model at points of its latent space, for NumPy."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from pymc.pytensorf import find_rng_nodes, reseed_rngs
from pytensor.graph.replace import clone_replace
from pytensor.tensor.variable import TensorVariable

from pmflow.graphs.checks import checks_as_values
from pmflow.graphs.evaluate import (
    GLOBAL_STATE,
    NotVectorizedError,
    compile_once,
    vectorize_over_draws,
)
from pmflow.graphs.labelled import of_its_kind
from pmflow.graphs.work import rows_at_once
from pmflow.watch import piece, stage, tick

__all__ = [
    "ModelAtPoints",
    "VarNames",
    "coordinate_names",
    "latent_values",
    "one_by_one",
    "unconstrained_parts",
]

type VarNames = tuple[str, ...] | None
type Ordering = Mapping[str, Any]


class ModelAtPoints:
    """Free variables and deterministics in constrained space, and the log density as written.

    Compiled when first asked for, once for the same variables. All approximations of a model that
    have its density in common have this in common too.

    Parameters
    ----------
    model : pymc.Model
    ordering : mapping of str to tuple
        Name of each value variable to (name, slice, shape, dtype): its place in the latent vector.
    """

    def __init__(self, model: pm.Model, ordering: Ordering) -> None:
        self._model, self._ordering = model, dict(ordering)
        self._dim = max(place.stop for _, place, *_ in ordering.values())
        self._lock = threading.RLock()  # random generators belong to a function
        self._compiled: dict[tuple[bool, VarNames], _Function] = {}

    def __call__(
        self, z: NDArray[Any], seed: int, var_names: VarNames, *, with_logp: bool = False
    ) -> tuple[NDArray[np.float64] | None, dict[str, NDArray[Any]]]:
        """Values at points of shape (n, dim), unconstrained.

        Parameters
        ----------
        z : ndarray, shape (n, dim)
        seed : int
            Of what is random at a point: the rows of a minibatch.
        var_names : tuple of str, optional
            The variables, all by default.
        with_logp : bool
            Whether the log density is asked for; that of `pymc.Minibatch` is an estimate.

        Returns
        -------
        logp : ndarray or None, shape (n,)
        values : dict of str to ndarray
            By the names of the variables, the leading axis is that of the points.
        """
        variables = self._variables(var_names)
        names = [v.name for v in variables]
        unconstrained = unconstrained_parts(z, self._ordering)
        # variables without a transform are there already
        computed = [v for v in variables if v.name not in unconstrained]
        if not computed and not with_logp:
            return None, {name: unconstrained[name] for name in names}
        with self._lock:
            function = self._function(computed, with_logp=with_logp)
            reseed_rngs(function.rngs, seed)
            parts = []
            with np.errstate(all="ignore"), piece("evaluating the model", can_be_cut=True):
                for i in range(0, len(z), function.rows):
                    tick()
                    parts.append([np.array(x) for x in function.run(z[i : i + function.rows])])
        columns = [np.concatenate(part) for part in zip(*parts, strict=True)]
        logp = columns.pop(0).astype(float) if with_logp else None
        found = unconstrained | dict(zip((v.name for v in computed), columns, strict=True))
        return logp, {name: found[name] for name in names}

    def _variables(self, var_names: VarNames) -> list[TensorVariable]:
        every = self._model.unobserved_RVs
        return [v for v in every if var_names is None or v.name in var_names]

    def _function(self, variables: Sequence[TensorVariable], *, with_logp: bool) -> _Function:
        key = with_logp, tuple(v.name for v in variables)
        if key not in self._compiled:
            # PyTensor changes its flags as it makes nodes, PyMC as it writes a log density
            with GLOBAL_STATE, stage("Compiling"), piece("compiling the variables for NumPy"):
                self._compiled[key] = self._made(variables, with_logp=with_logp)
        return self._compiled[key]

    def _made(self, variables: Sequence[TensorVariable], *, with_logp: bool) -> _Function:
        graphs = self._model.replace_rvs_by_values(list(variables))
        graphs = [self._model.logp(), *graphs] if with_logp else graphs
        dtype = pytensor.config.floatX
        z = pt.vector("z", shape=(self._dim,), dtype=dtype)
        values = latent_values(self._model, self._ordering, z)
        graphs = clone_replace(graphs, values, rebuild_strict=False)
        graphs = checks_as_values(graphs, check_bounds=self._model.check_bounds)
        rows = rows_at_once(graphs, self._dim)
        points = pt.matrix("points", shape=(None, self._dim), dtype=dtype)
        try:
            batched = vectorize_over_draws(graphs, {z: points})
        except NotVectorizedError as error:
            warnings.warn(
                f"Draws are looped over, not vectorized, because the Op {error} can't be batched. "
                "The result is the same, but many draws will be slow.",
                stacklevel=2,
            )
            run: Callable[..., Any] = partial(one_by_one, _compiled(z, graphs))
            return _Function(run, find_rng_nodes(graphs), rows)
        return _Function(_compiled(points, batched), find_rng_nodes(batched), rows)


def _compiled(z: TensorVariable, graphs: Sequence[TensorVariable]) -> Callable[..., Any]:
    return compile_once([z], graphs, rewrites="values", random_seed=False, on_unused_input="ignore")


class _Function(NamedTuple):
    """A compiled function of points, its random generators, and the points of one call."""

    run: Callable[..., Any]
    rngs: list[Any]
    rows: int


def unconstrained_parts(z: NDArray[Any], ordering: Ordering) -> dict[str, NDArray[Any]]:
    """Points of shape (n, dim), cut into the value variables, each of shape (n, ...)."""
    return {
        name: z[:, place].reshape(len(z), *shape).astype(dtype)
        for name, place, shape, dtype in ordering.values()
    }


def coordinate_names(ordering: Ordering) -> list[str]:
    """A name for each coordinate of the latent vector: ``a[3]``, ``tau_log__``."""
    names = []
    for name, place, shape, _ in sorted(ordering.values(), key=lambda one: one[1].start):
        places = np.ndindex(*shape)
        names += [f"{name}[{', '.join(map(str, at))}]" if at else name for at in places]
        assert len(names) == place.stop
    return names


def latent_values(
    model: pm.Model, ordering: Ordering, z: TensorVariable
) -> dict[TensorVariable, TensorVariable]:
    """The model's value variables as parts of one point `z` of shape (dim,), unconstrained."""
    return {
        value: of_its_kind(z[place].reshape(shape).astype(dtype), value)
        for value in model.value_vars
        for _, place, shape, dtype in [ordering[value.name]]
    }


def one_by_one(fn: Callable[..., Any], z: NDArray[Any]) -> list[NDArray[Any]]:
    """What a function of one point gives at each of some."""
    parts = []
    for point in z:
        tick()
        parts.append(fn(point))
    return [np.stack(part) for part in zip(*parts, strict=True)]
