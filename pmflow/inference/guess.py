"""A frame by what the user knows: where the posterior is, and how wide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pymc as pm
from numpy.typing import NDArray

from pmflow.checks import as_numbers, check_names
from pmflow.errors import ParameterError
from pmflow.frames import Frame
from pmflow.posterior.start import LatentStart

__all__ = ["guessed_frame"]


def guessed_frame(
    model: pm.Model, start: Mapping[str, Any] | None, sigma: Mapping[str, Any]
) -> Frame:
    """The diagonal frame at a start, with given standard deviations.

    Parameters
    ----------
    model : pymc.Model
    start : dict of str to array_like or None
        By variable, in constrained space; the model's initial point for those left out.
    sigma : dict of str to array_like
        Standard deviations in unconstrained space by variable: numbers, or arrays of its shape
        there. 1 for those left out.

    Raises
    ------
    ParameterError
        If a variable is unknown, or a number is not positive or not of its shape.
    """
    _check_positive(sigma, [rv.name for rv in model.free_RVs])
    places = LatentStart(model, model.free_RVs, start).values(0)
    sds = [_shaped(name, sigma.get(name, 1.0), place.shape) for name, place in places.items()]
    loc = np.concatenate([place.ravel() for place in places.values()])
    return Frame(loc, np.concatenate(sds))


def _check_positive(sigma: Mapping[str, Any], names: list[str]) -> None:
    check_names(sigma, names, "start_sigma")
    for name, given in sigma.items():
        if not (as_numbers("start_sigma", given, f"that of {name}") > 0).all():
            raise ParameterError(
                f"start_sigma must give {name!r} standard deviations above 0, but is {given!r:.60}."
            )


def _shaped(name: str, given: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    try:
        return np.broadcast_to(np.asarray(given, dtype=float), shape).ravel()
    except ValueError:
        raise ParameterError(
            f"start_sigma must give {name!r} the shape {shape} that it has in unconstrained space, "
            f"or one number for all of it, but its shape is {np.shape(given)}."
        ) from None
