"""Simulation-based calibration of a model's own fits."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pymc as pm
import xarray as xr
from pymc.util import RandomState

from pmflow.checks import check_seed, checked_count, checked_names
from pmflow.errors import FitWarning, NonFiniteError, ParameterError, UnsupportedError
from pmflow.family.approximation import Approximation
from pmflow.graphs.minibatches import in_minibatches
from pmflow.graphs.private import seed_from
from pmflow.judging.calibration import Calibration
from pmflow.ladder.again import Asked, Refitted
from pmflow.ladder.automatic import fit_automatically
from pmflow.ladder.refit import Job, made_again
from pmflow.ladder.refits import verdicts_of
from pmflow.posterior.model import checked_model
from pmflow.posterior.own_data import OwnData, Values, as_the_model_has_it, held_in
from pmflow.posterior.prior import simulated
from pmflow.starts.executors import Executor, check_executor
from pmflow.watch import stage, watching

__all__ = ["sbc"]

_LEAST_DRAWS = 20


def sbc(
    model: pm.Model | None = None,
    draws: int = 200,
    *,
    posterior_draws: int = 1_000,
    var_names: Sequence[str] | None = None,
    random_seed: RandomState = None,
    executor: Executor | None = None,
    progressbar: bool = True,
) -> Calibration:
    """Simulate data from a model, fit it to them, and see where the true values are.

    Values of all variables are drawn from the prior, data from these, and the model is fitted to
    the data as by `pmflow.refit`. If fits are right, the share of their draws that is below the
    true value is uniform.

    Parameters
    ----------
    model : pymc.Model, optional
        Defaults to the model of the context. What its observed variables hold is not used.
    draws : int
        Sets of data, 20 at least.
    posterior_draws : int
        Draws of each fit by which it is told where true values are.
    var_names : sequence of str, optional
        Free variables and deterministics to look at; by default all that are free.
    random_seed : int, Generator or RandomState, optional
        The same seed gives the same result.
    executor : Executor, optional
        As of `refit`.
    progressbar : bool

    Returns
    -------
    Calibration
        After Ctrl-C, of those that were done.

    Raises
    ------
    ParameterError
        If an argument is wrong, or the model observes nothing.
    UnsupportedError
        If its data can't be simulated: potentials, minibatches, what is observed as a graph of
        data, or a transform that hardly any draw of the prior obeys.

    References
    ----------
    Talts et al. (2018), Validating Bayesian inference algorithms with simulation-based calibration,
    https://arxiv.org/abs/1804.06788

    Examples
    --------
    >>> import numpy as np, pymc as pm, pmflow as pmf
    >>> with pm.Model() as model:
    ...     mu = pm.Normal("mu", 0, 1)
    ...     y = pm.Normal("y", mu, 1, observed=np.zeros(5))
    >>> found = pmf.sbc(model, 20, random_seed=1, progressbar=False)
    >>> bool(found.p_values().min() > 0.01)
    True
    """
    model = checked_model(model)
    number = checked_count("draws", draws, _LEAST_DRAWS)
    each = checked_count("posterior_draws", posterior_draws, 1)
    check_seed(random_seed)
    check_executor(executor)
    known = [v.name for v in model.unobserved_RVs]
    free = [rv.name for rv in model.free_RVs]
    names = free if var_names is None else checked_names(var_names, known, "var_names")
    places = _observed(model)
    rng = np.random.default_rng(seed_from(random_seed))
    with watching(progressbar=progressbar):
        with stage("Simulating data"):
            pairs = simulated(model, number, names, rng)
        seeds = rng.integers(2**30, size=number)
        asked: list[Asked] = []
        left_out: dict[int, str] = {}
        for k, (truth, data) in enumerate(pairs):
            try:
                checked = {n: as_the_model_has_it(x, places[n], n) for n, x in data.items()}
            except ParameterError as error:
                left_out[k] = f"The model can't hold what it simulates. {error}"
            else:
                asked.append(Asked(checked, int(seeds[k]), truth, each))
        first = _first(model, asked, [*places], int(rng.integers(2**30)))
        job = Job.of(first, [*places])
        found, retried = made_again(job, asked, executor, progressbar=progressbar)
    return _calibration(number, found, left_out, pairs[0][0], model, retried)


def _observed(model: pm.Model) -> dict[str, Any]:
    """What holds the data of each observed variable.

    Raises
    ------
    ParameterError, UnsupportedError
        If there are none, or they can't be simulated.
    """
    if not model.observed_RVs:
        raise ParameterError(
            "The model must observe something, but has no observed variable: there are no data to "
            "simulate. Write the likelihood with observed=, of values in the shape that data have."
        )
    if model.potentials:
        raise UnsupportedError(
            f"The model has a potential, {model.potentials[0].name!r}, which no draws of the prior "
            "and no simulated data obey. Write it as a prior or as an observed variable."
        )
    if in_minibatches(model):
        raise UnsupportedError(
            "The model observes minibatches, of which no data can be simulated. Write it with all "
            "of the data, a few hundred rows of them."
        )
    places = {}
    for rv in model.observed_RVs:
        place = held_in(model.rvs_to_values[rv])
        if place is None:
            raise UnsupportedError(
                f"What {rv.name!r} observes is computed from data, so that simulated values can't "
                "be put in their place. Give observed= an array or a pm.Data."
            )
        places[rv.name] = place
    return places


def _first(
    model: pm.Model, asked: Sequence[Asked], names: Sequence[str], seed: int
) -> Approximation:
    """A fit to the first of the data that can be fitted: others begin there."""
    data = OwnData(model, names)
    for one in asked:
        data.set(one.data)
        try:
            with warnings.catch_warnings():  # its verdict is one of all that are told
                warnings.simplefilter("ignore", FitWarning)
                return fit_automatically(data.model, random_seed=seed, progressbar=False)
        except NonFiniteError:
            continue
    raise UnsupportedError(
        "No data that this model simulates can be fitted. Draw from its prior, "
        "pm.sample_prior_predictive, and see whether such data can be."
    )


def _calibration(
    number: int,
    found: Sequence[Refitted],
    left_out: dict[int, str],
    like: Values,
    model: pm.Model,
    retried: int,
) -> Calibration:
    """What is told of all, those that were stopped before left out."""
    fits = iter(found)
    every: list[Refitted] = []
    for k in range(number):
        one = Refitted(None, left_out[k]) if k in left_out else next(fits, None)
        if one is None:
            break
        every.append(one)
    nothing = {name: np.full(np.shape(value), np.nan) for name, value in like.items()}
    below = [one.below or nothing for one in every]
    dims = model.named_vars_to_dims
    arrays = {}
    for name, value in like.items():
        said = dims.get(name) or (None,) * np.ndim(value)
        known = [dim or f"{name}_dim_{axis}" for axis, dim in enumerate(said)]
        arrays[name] = (("draw", *known), np.stack([one[name] for one in below]))
    used = {dim for shown, _ in arrays.values() for dim in shown}
    coords = {dim: list(x) for dim, x in model.coords.items() if dim in used and x is not None}
    dataset = xr.Dataset(arrays, coords={"draw": np.arange(len(every)), **coords})
    failures = {k: one.why_not for k, one in enumerate(every) if one.state is None}
    return Calibration(dataset, verdicts_of(every), failures, retried)
