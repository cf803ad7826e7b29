"""Where a fit begins: a start in constrained space as a point of the latent vector."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymc.initial_point import make_initial_point_fn
from pymc.pytensorf import get_symbolic_rv_shapes

from pmflow.errors import ParameterError
from pmflow.graphs.evaluate import GLOBAL_STATE, compile_once, while_compiling
from pmflow.posterior.model import check_start

__all__ = ["LatentStart", "checked_start"]

_log = logging.getLogger("pmflow")


def checked_start(start: Mapping[str, Any] | None, model: Any) -> Mapping[str, Any] | None:
    """The start with every value in the shape of its variable."""
    if start is None:
        return None
    check_start(start, model)
    given = [rv for rv in model.free_RVs if rv.name in start]
    if not given:
        return start
    with GLOBAL_STATE:  # PyMC changes flags meanwhile
        symbolic = get_symbolic_rv_shapes(given)
    shapes = compile_once([], symbolic)()
    checked = dict(start)
    for rv, shape in zip(given, map(tuple, shapes), strict=True):
        try:
            checked[rv.name] = np.broadcast_to(start[rv.name], shape)
        except ValueError:
            raise ParameterError(
                f"start must give {rv.name!r} the shape {tuple(map(int, shape))} of the variable, "
                f"or one number for all of it, but its shape is {np.shape(start[rv.name])}."
            ) from None
    return checked


class LatentStart:
    """A start as a latent vector; what it takes is compiled once.

    Parameters
    ----------
    model : pymc.Model
    variables : sequence of TensorVariable
        Free variables in the order that they take in the vector.
    start : mapping of str to array_like or None
        By variable, in constrained space; the model's initial point for those left out.

    Raises
    ------
    ParameterError
        If a value does not have the shape of its variable.
    """

    def __init__(
        self, model: Any, variables: Sequence[Any], start: Mapping[str, Any] | None
    ) -> None:
        self._start = checked_start(start, model)
        self._names = {rv.name: model.rvs_to_values[rv].name for rv in variables}
        with while_compiling():
            self._point = make_initial_point_fn(
                model=model, overrides=self._start, jitter_rvs={}, return_transformed=True
            )

    def __call__(self, seed: int) -> NDArray[np.float64]:
        """The start as one vector, shape (dim,); see `values`."""
        return np.concatenate([value.ravel() for value in self.values(seed).values()])

    def values(self, seed: int) -> dict[str, NDArray[np.float64]]:
        """The start by variable, unconstrained; `seed` is for initial points that are drawn.

        Raises
        ------
        ParameterError
            If one that was given is outside of a variable's support.
        """
        point = self._point(seed)
        names = self._names.items()
        values = {name: np.asarray(point[value], dtype=float) for name, value in names}
        for name, value in values.items():
            if np.isfinite(value).all():
                continue
            if self._start is None or name not in self._start:
                # PyMC's own point is outside of the support, or on its border: equal ordered ones
                values[name] = np.where(np.isfinite(value), value, 0.0)
                _log.debug("The initial point of %r is none; it begins at 0, unconstrained", name)
                continue
            raise ParameterError(
                f"start must put {name!r} inside of its support, but in unconstrained space it is "
                f"{value}. Give start={{{name!r}: ...}} a finite value away from the border."
            )
        return values
