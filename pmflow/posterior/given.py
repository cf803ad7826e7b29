"""Draws that others have made, as points of the latent vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
import xarray as xr
from numpy.typing import NDArray
from pymc.pytensorf import get_symbolic_rv_shapes
from pytensor.graph.replace import clone_replace

from pmflow.errors import ParameterError
from pmflow.graphs.evaluate import (
    GLOBAL_STATE,
    NotVectorizedError,
    compile_once,
    vectorize_over_draws,
)

__all__ = ["given_draws"]

_FEWEST = 10


def given_draws(
    model: Any, names: Sequence[str], draws: xr.DataTree | xr.Dataset
) -> NDArray[np.float64]:
    """Draws in constrained space as points of the latent vector, shape (draws, dim).

    Parameters
    ----------
    model : pymc.Model
    names : sequence of str
        The value variables in the order that they take in the vector.
    draws : DataTree or Dataset
        With dimensions ``chain`` and ``draw``; or a DataTree with a group ``posterior``.

    Raises
    ------
    ParameterError
        If a free variable is missing, or of another shape, or if a draw is outside of its support.
    """
    posterior = _posterior(draws)
    free = {model.rvs_to_values[rv].name: rv for rv in model.free_RVs}
    with GLOBAL_STATE:  # PyMC changes PyTensor's flags meanwhile
        symbolic = get_symbolic_rv_shapes(list(free.values()))
    shapes = dict(zip(free, compile_once([], symbolic)(), strict=True))
    arrays = [_array(posterior, free[name].name, tuple(shapes[name])) for name in free]
    inputs = {rv: rv.type(rv.name) for rv in free.values()}
    graphs = [_unconstrained(model, free[name], inputs) for name in names]
    graphs = clone_replace(graphs, inputs, rebuild_strict=False)
    parts = _at_all(list(inputs.values()), graphs, arrays)
    latent = np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1).astype(float)
    bad = ~np.isfinite(latent).all(1)
    if bad.any():
        raise ParameterError(
            f"draws must be inside of the support of the model's variables, but {bad.sum()} of "
            f"{len(bad)} are at its border or outside. Leave these out, or give draws of this "
            "model."
        )
    return latent


def _at_all(
    inputs: list[Any], graphs: list[Any], arrays: list[NDArray[Any]]
) -> list[NDArray[np.float64]]:
    """What the graphs of one draw are at all of them."""
    arrays = [array.astype(x.dtype) for array, x in zip(arrays, inputs, strict=True)]
    many = [pt.tensor(dtype=x.dtype, shape=(None, *x.type.shape)) for x in inputs]
    try:
        graphs = vectorize_over_draws(graphs, dict(zip(inputs, many, strict=True)))
    except NotVectorizedError:
        function = compile_once(inputs, graphs, on_unused_input="ignore")
        with np.errstate(all="ignore"):
            rows = [function(*draw) for draw in zip(*arrays, strict=True)]
        return [np.stack(column) for column in zip(*rows, strict=True)]
    function = compile_once(many, graphs, on_unused_input="ignore")
    with np.errstate(all="ignore"):
        return list(function(*arrays))


def _unconstrained(model: Any, rv: Any, inputs: dict[Any, Any]) -> Any:
    transform = model.rvs_to_transforms[rv]
    return inputs[rv] if transform is None else transform.forward(inputs[rv], *rv.owner.inputs)


def _posterior(draws: Any) -> xr.Dataset:
    if isinstance(draws, xr.DataTree):
        node = draws["posterior"] if "posterior" in draws.children else draws
        draws = node.to_dataset()
    if not isinstance(draws, xr.Dataset) or not {"chain", "draw"} <= set(draws.dims):
        raise ParameterError(
            "draws must be a DataTree with a group 'posterior', as pm.sample returns it, or a "
            f"Dataset with dimensions 'chain' and 'draw', but is {type(draws).__name__}."
        )
    if draws.sizes["chain"] * draws.sizes["draw"] < _FEWEST:
        raise ParameterError(
            f"draws must be {_FEWEST} at least, but are "
            f"{draws.sizes['chain'] * draws.sizes['draw']}."
        )
    return draws


def _array(posterior: xr.Dataset, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Draws of a variable, shape (draws, ...)."""
    if name not in posterior:
        raise ParameterError(
            f"draws must have all free variables of the model, but {name!r} is missing. They have "
            f"{', '.join(map(str, posterior.data_vars))}."
        )
    values = posterior[name].transpose("chain", "draw", ...).values
    if values.shape[2:] != shape:
        raise ParameterError(
            f"draws must have {name!r} in the shape {tuple(map(int, shape))} of the model's "
            f"variable, but in the draws its shape is {values.shape[2:]}. Give draws of this model."
        )
    return np.asarray(values.reshape(-1, *shape))
