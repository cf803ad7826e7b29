"""The twelve posteriors with what is known of them, and the targets of pmflow in the same form.

The log evidence follows the conventions of PyMC: `Flat` and `HalfFlat` contribute nothing, and the
Jacobian of the way to the unconstrained space counts. `check` finds it again from draws of NUTS.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm
from numpy.typing import NDArray

import pmflow as pmf

from . import models

__all__ = ["ALL", "TARGETS", "Posterior", "columns", "load_data"]

_FOLDER = Path(__file__).parent / "posteriordb"
_EXACT_DRAWS = 1_000_000
"""Of a target whose moments have no closed form: their error is 0.001 sd."""

type Array = NDArray[np.float64]


@dataclass(frozen=True)
class Posterior:
    """A posterior that is known.

    Attributes
    ----------
    name : str
    dim : int
        Numbers in the unconstrained space.
    log_evidence : float
        The ELBO of a perfect fit, with PyMC's conventions.
    build : callable
        Returns a new `pymc.Model`.
    reference_mean, reference_sd : array of shape (columns,)
        In the constrained space.
    names : tuple of str
        Of the columns, counted from 1: ``"beta[1]"``, ``"sigma"``.
    draws : array of shape (draws, columns), or None
        Some of the reference draws; None where there is only a formula.
    """

    name: str
    dim: int
    log_evidence: float
    build: Callable[[], pm.Model]
    reference_mean: Array = field(repr=False)
    reference_sd: Array = field(repr=False)
    names: tuple[str, ...] = field(repr=False)
    draws: Array | None = field(default=None, repr=False)


def columns(posterior: Any, names: Sequence[str]) -> Array:
    """The draws of a fit as columns with these names.

    Parameters
    ----------
    posterior : DataTree or Dataset
        Variables with the leading dimensions chain and draw, deterministics among them.
    names : sequence of str
        ``"sigma"`` is a scalar, ``"beta[2]"`` the second entry of a vector, ``"L[2,1]"`` an entry
        of a matrix.

    Returns
    -------
    array of shape (chains * draws, names)
    """
    found = []
    for name in names:
        variable, _, inside = name.partition("[")
        values = np.asarray(posterior[variable])
        index: tuple[Any, ...] = tuple(int(i) - 1 for i in re.findall(r"\d+", inside))
        if values.ndim - 2 != len(index):
            raise ValueError(
                f"{name} has {len(index)} indices, but the draws of {variable} have shape "
                f"{values.shape}, where the first two are chains and draws."
            )
        found.append(values[(..., *index)].ravel())
    return np.stack(found, axis=-1)


def load_data(name: str) -> tuple[dict[str, Any], dict[str, Any], Array]:
    """What is stored of a posterior: the text, the data, the draws."""
    stored = json.loads((_FOLDER / f"{name}.json").read_text())
    with np.load(_FOLDER / f"{name}.npz") as arrays:
        large = {k.removeprefix("data."): arrays[k] for k in arrays.files if k.startswith("data.")}
        return stored, {**stored["data"], **large}, arrays["draws"]


def _posterior(name: str, dim: int, log_evidence: float, build: Any) -> Posterior:
    stored, data, draws = load_data(name)
    return Posterior(
        name,
        dim,
        log_evidence,
        partial(build, data),
        np.asarray(stored["reference_mean"]),
        np.asarray(stored["reference_sd"]),
        tuple(stored["names"]),
        draws,
    )


ALL: dict[str, Posterior] = {
    row[0]: _posterior(*row)
    for row in (
        ("eight_schools-eight_schools_noncentered", 10, -31.31135, models.eight_schools),
        ("kilpisjarvi_mod-kilpisjarvi", 3, -103.22617, models.kilpisjarvi),
        ("earnings-logearn_interaction", 5, -1553.35884, models.log_earnings),
        ("kidiq-kidscore_interaction", 5, -1872.81587, models.kid_score),
        ("mesquite-mesquite", 8, -277.81639, models.mesquite),
        ("sblri-blr", 6, -184.77317, models.linear_regression),
        ("nes2000-nes", 10, -957.12799, models.party_identification),
        ("diamonds-diamonds", 26, 3190.597, models.diamonds),
        ("arma-arma11", 4, 57.251, models.arma),
        ("garch-garch11", 4, -450.998, models.garch),
        ("gp_pois_regr-gp_pois_regr", 13, -47.636, models.gaussian_process),
        ("low_dim_gauss_mix-low_dim_gauss_mix", 5, -2115.686, models.gaussian_mixture),
    )
}
"""By name."""


def _moments(target: pmf.targets.Target) -> tuple[Array, Array]:
    """Mean and standard deviation: exact, of a million exact draws, or by quadrature."""
    if target.mean is not None and target.sd is not None:
        return np.asarray(target.mean), np.asarray(target.sd)
    if target.sampler is not None:
        draws = target.sampler(_EXACT_DRAWS, np.random.default_rng(0))
        return draws.mean(0), draws.std(0)
    if target.dim != 2:
        raise ValueError(f"{target.name} has no moments, no sampler, and {target.dim} dimensions.")
    axes = [np.linspace(2 * low, 2 * high, 1001) for low, high in target.bounds]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    weights = np.exp(target.log_density(points) - target.log_evidence)
    weights /= weights.sum()
    mean = weights @ points
    return mean, np.sqrt(weights @ (points - mean) ** 2)


def _target(target: pmf.targets.Target) -> Posterior:
    mean, sd = _moments(target)
    names = tuple(f"z[{i + 1}]" for i in range(target.dim))
    draws = target.sampler(2000, np.random.default_rng(1)) if target.sampler else None
    return Posterior(
        target.name, target.dim, target.log_evidence, target.model, mean, sd, names, draws
    )


TARGETS: dict[str, Posterior] = {name: _target(t) for name, t in pmf.targets.ALL.items()}
"""The targets of `pmflow.targets` by name."""
