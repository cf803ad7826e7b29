"""The methods that are compared: each fits a model and gives draws, with what it knows of itself.

The clock runs from the model to the draws, compilation included. What is computed only to judge a
fit, such as its ELBO, is not on the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pymc as pm
from numpy.typing import NDArray

import pmflow as pmf

from .density import importance_khat, log_density
from .posteriors import Posterior, columns

__all__ = ["METHODS", "Fit", "run"]

_DRAWS = 10_000

type Array = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """What a method found.

    Attributes
    ----------
    draws : array of shape (draws, columns), or None
        In the order of the reference; None if it failed.
    seconds : float
        From the model to the draws.
    elbo, elbo_error : float or None
        The mean of ``log p - log q`` and its standard error, where there is a density ``q``.
    khat : float or None
        The Pareto k of the weights ``p / q``.
    error : str
        Why it failed; empty if it didn't.
    """

    draws: Array | None
    seconds: float
    elbo: float | None = None
    elbo_error: float | None = None
    khat: float | None = None
    error: str = ""


type Method = Callable[[Posterior, int], Fit]


def run(method: Method, posterior: Posterior, seed: int) -> Fit:
    """A fit; one that fails says so in its `error`, since a failure is a result."""
    began = time.perf_counter()
    try:
        fit = method(posterior, seed)
    except Exception as failure:
        reason = f"{type(failure).__name__}: {failure}".partition("\n")[0][:200]
        return Fit(None, time.perf_counter() - began, error=reason)
    if fit.draws is not None and not np.isfinite(fit.draws).all():
        return Fit(None, fit.seconds, error="draws are not finite")
    return fit


def _judged(posterior: Any, names: tuple[str, ...], seconds: float, p: Array, q: Array) -> Fit:
    """A fit with a density: `p` and `q` are log densities of its draws, shape (draws,)."""
    terms = p - q
    error = float(terms.std() / np.sqrt(len(terms)))
    draws = columns(posterior, names)
    return Fit(draws, seconds, float(terms.mean()), error, importance_khat(p, q))


def _pmflow(posterior: Posterior, seed: int, **options: Any) -> Fit:
    model = posterior.build()
    began = time.perf_counter()
    approx = pmf.fit(model=model, random_seed=seed, progressbar=False, **options)
    found = approx.sample(_DRAWS, random_seed=seed)
    seconds = time.perf_counter() - began
    p, q = (np.asarray(found["sample_stats"][name]).ravel() for name in ("log_p", "log_q"))
    return _judged(found["posterior"], posterior.names, seconds, p, q)


def _advi(posterior: Posterior, seed: int, *, method: str, **options: Any) -> Fit:
    model = posterior.build()
    began = time.perf_counter()
    with model:
        approx = pm.fit(method=method, random_seed=seed, progressbar=False, **options)
    found = approx.sample(_DRAWS, random_seed=seed)
    seconds = time.perf_counter() - began
    p, q = _densities(model, approx, seed)
    return _judged(found["posterior"], posterior.names, seconds, p, q)


def _densities(model: pm.Model, approx: Any, seed: int) -> tuple[Array, Array]:
    """Log p and log q of fresh draws of PyMC's mean-field or full-rank normal distribution.

    PyMC has no densities of its draws, and its loss is of one draw a step.
    """
    (group,) = approx.groups
    if list(group.ordering) != [value.name for value in model.value_vars]:
        raise ValueError(f"The order of {list(group.ordering)} is not that of {model.value_vars}.")
    params = {name: value.get_value() for name, value in approx.params_dict.items()}
    mean, dim = params["mu"], len(params["mu"])
    if "rho" in params:
        root = np.diag(np.logaddexp(0, params["rho"]))
    else:
        root = np.zeros((dim, dim))
        root[np.tril_indices(dim)] = params["L_tril"]
        np.fill_diagonal(root, np.logaddexp(0, np.diag(root)))
    eps = np.random.default_rng(seed).standard_normal((_DRAWS, dim))
    log_q = -0.5 * (eps**2).sum(-1) - 0.5 * dim * np.log(2 * np.pi)
    log_q = log_q - np.log(np.diag(root)).sum()
    return log_density(model)(mean + eps @ root.T), log_q


def _pathfinder(posterior: Posterior, seed: int) -> Fit:
    import pymc_extras

    model = posterior.build()
    began = time.perf_counter()
    found = pymc_extras.fit_pathfinder(model=model, random_seed=seed, progressbar=False)
    seconds = time.perf_counter() - began
    khat = found["pathfinder"].get("pareto_k")
    return Fit(
        columns(found["posterior"], posterior.names),
        seconds,
        khat=None if khat is None else float(khat),
    )


def _nutpie(posterior: Posterior, seed: int) -> Fit:
    import nutpie

    model = posterior.build()
    began = time.perf_counter()
    compiled = nutpie.compile_pymc_model(model, backend="numba")
    found = nutpie.sample(compiled, draws=1000, chains=4, seed=seed, progress_bar=False)
    return Fit(columns(found["posterior"], posterior.names), time.perf_counter() - began)


def _long() -> dict[str, Any]:
    return {"n": 100_000, "obj_optimizer": pm.adam(learning_rate=0.01)}


METHODS: dict[str, Method] = {
    "nutpie": _nutpie,
    "auto": _pmflow,
    "scale-loc": partial(_pmflow, method="nfvi=scale-loc"),
    "tril-loc": partial(_pmflow, method="nfvi=tril-loc"),
    "advi": partial(_advi, method="advi"),
    "advi-long": lambda p, seed: _advi(p, seed, method="advi", **_long()),
    "fullrank_advi": partial(_advi, method="fullrank_advi"),
    "fullrank_advi-long": lambda p, seed: _advi(p, seed, method="fullrank_advi", **_long()),
    "pathfinder": _pathfinder,
}
"""By name, in the order of the tables.

``nutpie`` is NUTS with its defaults, 4 chains of 1,000 draws. ``auto`` is `pmflow.fit` as it is;
``scale-loc`` and ``tril-loc`` are those flows with its defaults. ``advi`` and ``fullrank_advi`` are
`pymc.fit` with its defaults, 10,000 steps; ``-long`` is 100,000 steps of ``adam(0.01)``.
``pathfinder`` is that of pymc-extras with its defaults: 4 paths, 1,000 draws.
"""
