"""Draws of the prior that a model's density has, with data from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pymc as pm
from numpy.typing import NDArray
from pytensor.graph.replace import graph_replace

from pmflow.errors import UnsupportedError
from pmflow.graphs.evaluate import GLOBAL_STATE, compile_once
from pmflow.graphs.private import default_transform
from pmflow.posterior.own_data import Values

__all__ = ["simulated"]

_ROUNDS = 50
"""Times as many draws as are wanted that are made at most."""


def simulated(
    model: pm.Model, number: int, names: Sequence[str], rng: np.random.Generator
) -> list[tuple[Values, Values]]:
    """Values of variables from the prior, and data from these.

    A transform that a user has chosen, such as ``ordered``, makes the prior smaller, which PyMC's
    draws do not know: those beyond it are left out.

    Parameters
    ----------
    model : pymc.Model
    number : int
    names : sequence of str
        Free variables and deterministics that are wanted.
    rng : Generator

    Raises
    ------
    UnsupportedError
        If nearly all draws are left out.
    """
    narrowed = _narrowed(model)
    free = [rv.name for rv in model.free_RVs] if narrowed else []
    observed = [rv.name for rv in model.observed_RVs]
    found: list[tuple[Values, Values]] = []
    for _ in range(_ROUNDS):
        with GLOBAL_STATE:  # PyMC changes PyTensor's flags as it compiles
            tree = pm.sample_prior_predictive(
                number,
                model=model,
                var_names=[*dict.fromkeys([*names, *free]), *observed],
                random_seed=int(rng.integers(2**30)),
                compile_kwargs={"mode": "FAST_COMPILE"},
            )
        drawn = {name: tree["prior"][name].values[0] for name in {*names, *free}}
        data = {name: tree["prior_predictive"][name].values[0] for name in observed}
        for k in np.flatnonzero(_are_inside(model, narrowed, drawn, number)):
            found.append(
                ({n: drawn[n][k] for n in names}, {n: data[n][k] for n in observed}),
            )
        if len(found) >= number:
            return found[:number]
    raise UnsupportedError(
        f"Of {_ROUNDS * number} draws of the prior {len(found)} obey the transforms of "
        f"{', '.join(rv.name for rv in narrowed)}, so that no data can be simulated. Write a prior "
        "that is nearer to what the transform allows, such as cumulative sums of positive steps."
    )


def _narrowed(model: pm.Model) -> list[Any]:
    """Free variables with a transform that is not the one of their distribution."""

    def is_own(rv: Any) -> bool:
        chosen, own = model.rvs_to_transforms[rv], default_transform(rv)
        return chosen is None or type(chosen) is type(own)

    return [rv for rv in model.free_RVs if not is_own(rv)]


def _are_inside(
    model: pm.Model, narrowed: Sequence[Any], drawn: Values, number: int
) -> NDArray[np.bool_]:
    """Which draws their transforms can lead to."""
    inside = np.ones(number, dtype=bool)
    if not narrowed:
        return inside
    inputs = {rv: rv.type(f"{rv.name}_drawn") for rv in model.free_RVs}
    there = []
    for rv in narrowed:
        transform, given = model.rvs_to_transforms[rv], rv.owner.inputs
        there.append(transform.backward(transform.forward(rv, *given), *given))
    run = compile_once(
        list(inputs.values()),
        graph_replace(there, inputs, strict=False),
        on_unused_input="ignore",
        random_seed=0,
    )
    for k in range(number):
        with np.errstate(all="ignore"):
            back = run(*(drawn[rv.name][k] for rv in model.free_RVs))
        pairs = zip(narrowed, back, strict=True)
        inside[k] = all(np.allclose(found, drawn[rv.name][k]) for rv, found in pairs)
    return inside
