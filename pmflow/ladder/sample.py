"""NUTS in the space of a fit."""

from __future__ import annotations

import inspect
import logging
import sys
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import pymc as pm
from pymc.util import RandomState
from xarray import DataTree

from pmflow.checks import check_flags, check_names, check_seed, checked_count, checked_names
from pmflow.errors import FitWarning, NonFiniteError, ParameterError, UnsupportedError
from pmflow.family.approximation import Approximation
from pmflow.family.pulled_back import BASE, LATENT, pulled_back
from pmflow.family.transport import Transport
from pmflow.graphs.minibatches import in_minibatches
from pmflow.graphs.private import seed_from
from pmflow.ladder.automatic import fit_automatically
from pmflow.ladder.space import space_for
from pmflow.posterior.at_points import unconstrained_parts
from pmflow.posterior.export import Samples, to_datatree
from pmflow.posterior.model import checked_model
from pmflow.posterior.packages import drawn_names, finished
from pmflow.watch import stage, watching

__all__ = ["sample"]

_TUNE = 300
"""Steps of tuning in a space in which the posterior is nearly N(0, I)."""
_NEAREST = 200
"""Draws of the fit among which the one nearest to its mean is where NUTS begins."""
_CHOSEN = (
    *("model", "initvals", "init", "step", "trace", "callback", "return_inferencedata"),
    "idata_kwargs",
)
"""What `pymc.sample` takes and this does not."""
_OF_NUTS = ("nuts", "target_accept", "max_treedepth")
"""What it takes for NUTS beside its own arguments."""

_log = logging.getLogger("pmflow")


def sample(
    fitted: Approximation | pm.Model | None = None,
    draws: int = 1_000,
    *,
    tune: int | None = None,
    chains: int = 4,
    space: Literal["auto", "fit", "model"] = "auto",
    random_seed: RandomState = None,
    var_names: Sequence[str] | None = None,
    progressbar: bool = True,
    **kwargs: Any,
) -> DataTree:
    r"""Draw from the posterior by NUTS, in the space of a fit.

    The draws are NUTS's own, of the model's own posterior, so they are right whether the fit is or
    not; the fit makes them quick. With T the map of the fit from standard normal numbers to the
    unconstrained space, NUTS goes through :math:`p(T(u)) |\det T'(u)|`, which is near N(0, I)
    however narrow, curved or funnelled the posterior is (Parno & Marzouk, 2018; Hoffman et al.,
    2019). Of an embedded Laplace approximation the map gives local variables the units that they
    have at each value of the global ones.

    Parameters
    ----------
    fitted : Approximation or pymc.Model, optional
        A fit; or a model, which is fitted first, by default that of the context.
    draws, chains : int
        So many draws of each chain.
    tune : int, optional
        Steps before these. By default 300 in the space of a fit, and in the model's own as many as
        `pymc.sample` takes.
    space : {"auto", "fit", "model"}
        ``'model'``: the unconstrained space as the model has it, from where the fit is.
        ``'fit'``: the space of the fit. ``'auto'``: this one where it promises to be quicker.
    random_seed : int, Generator or RandomState, optional
    var_names : sequence of str, optional
        Free variables and deterministics to return, all by default.
    progressbar : bool
    **kwargs
        Of `pymc.sample`: ``cores``, ``target_accept``, ``nuts_sampler``, ``backend``, ``nuts``.

    Returns
    -------
    DataTree
        As of `pymc.sample`. The attribute ``space`` of its ``posterior`` says in which NUTS was.

    Raises
    ------
    ParameterError
        If an argument is wrong, or one of `pymc.sample` that is chosen here.
    UnsupportedError
        If the model draws minibatches; or, with ``space='fit'``, if the fit has no such map.

    Warns
    -----
    FitWarning
        If the fit has several modes, between which NUTS does not move.

    References
    ----------
    Parno & Marzouk (2018), Transport map accelerated Markov chain Monte Carlo,
    https://doi.org/10.1137/17M1134640

    Hoffman et al. (2019), NeuTra-lizing bad geometry in Hamiltonian Monte Carlo using neural
    transport, https://arxiv.org/abs/1903.03704

    Examples
    --------
    >>> import pymc as pm, pmflow as pmf
    >>> with pm.Model() as funnel:
    ...     v = pm.Normal("v", 0, 3)
    ...     x = pm.Normal("x", 0, pm.math.exp(v / 2), shape=9)
    >>> idata = pmf.sample(funnel, 500, random_seed=1, progressbar=False)
    >>> idata.posterior["x"].shape
    (4, 500, 9)
    """
    number, chains = checked_count("draws", draws, 1), checked_count("chains", chains, 1)
    tune = None if tune is None else checked_count("tune", tune, 0)
    check_seed(random_seed)
    check_flags(progressbar=progressbar)
    if space not in ("auto", "fit", "model"):
        raise ParameterError(f"space must be 'auto', 'fit' or 'model', but is {space!r}.")
    _check_options(kwargs)
    model = fitted.model if isinstance(fitted, Approximation) else checked_model(fitted)
    if in_minibatches(model):
        raise UnsupportedError(
            "The model draws minibatches, with which NUTS can't be right. Write the same model "
            "with all of the data, or draw from its fit: pmf.fit(model=model).sample()."
        )
    known = [v.name for v in model.unobserved_RVs]
    names = None if var_names is None else checked_names(var_names, known, "var_names")
    seeds = np.random.default_rng(seed_from(random_seed)).integers(2**30, size=3)
    approx = (
        fitted
        if isinstance(fitted, Approximation)
        else _fitted(model, seeds[0], progressbar=progressbar)
    )
    with watching(progressbar=progressbar):
        transport = None if approx is None else space_for(approx, space, int(seeds[1]))
    _tell_modes(approx)
    options = {**kwargs, "draws": number, "chains": chains, "random_seed": int(seeds[2])}
    options |= _cores(kwargs) | {"progressbar": progressbar}
    if approx is None or transport is None:
        _log.info("NUTS in the space of the model")
        start = {} if approx is None else {"initvals": _start(approx, int(seeds[1]))}
        found = pm.sample(model=model, tune=tune, var_names=names, **start, **options)
        found["posterior"].attrs["space"] = "model"
        return finished(model, found, names)
    _log.info("NUTS in the space of the fit: %s", transport.name)
    options["tune"] = _TUNE if tune is None else tune
    return _sampled(approx, transport, names, options)


def _check_options(given: dict[str, Any]) -> None:
    chosen = [name for name in _CHOSEN if name in given]
    if chosen:
        raise ParameterError(
            f"pmf.sample chooses {', '.join(chosen)} by itself. Leave it out, or call pm.sample, "
            "which takes it."
        )
    taken = [*inspect.signature(sample).parameters, *inspect.signature(pm.sample).parameters]
    known = {*taken, *_OF_NUTS} - {*_CHOSEN, "kwargs", "args"}
    check_names(given, sorted(known), "pmf.sample")


def _is_by_pymc(given: dict[str, Any]) -> bool:
    return given.get("nuts_sampler") == "pymc" or find_spec("nutpie") is None


def _cores(given: dict[str, Any]) -> dict[str, int]:
    """One core where PyMC would fork a process in which JAX has run."""
    forks = _is_by_pymc(given) and "cores" not in given and "jax" in sys.modules
    return {"cores": 1} if forks else {}


def _fitted(model: pm.Model, seed: int, *, progressbar: bool) -> Approximation | None:
    """The fit of a model, None where it has none."""
    try:
        with warnings.catch_warnings():  # whatever it is worth, NUTS is right
            warnings.simplefilter("ignore", FitWarning)
            return fit_automatically(model, random_seed=int(seed), progressbar=progressbar)
    except NonFiniteError as error:
        _log.warning("Nothing could be fitted, so NUTS begins as by itself: %s", error)
        return None


def _tell_modes(approx: Approximation | None) -> None:
    if approx is not None and (approx.is_stack or approx.images > 1):
        warnings.warn(
            "The posterior has several modes. NUTS stays in the one where a chain begins, so its "
            "draws may be of some of them only, in wrong proportions. Those of the fit have all: "
            "pmf.fit(model=model).sample().",
            FitWarning,
            stacklevel=3,
        )


def _start(approx: Approximation, seed: int) -> dict[str, Any]:
    """The draw of the fit that is nearest to its mean, by variable."""
    names = tuple(rv.name for rv in approx.model.free_RVs)
    found = approx.draw(_NEAREST, seed, names)
    away = found.latent - found.latent.mean(0)
    nearest = int(np.argmin((away**2 / (away**2).mean(0).clip(1e-300)).sum(1)))
    return {name: found.constrained[name][nearest] for name in names}


def _sampled(
    approx: Approximation, transport: Transport, names: Any, options: dict[str, Any]
) -> DataTree:
    """What NUTS finds in the space of a fit, as variables of its model."""
    model, density = approx.model, approx.groups[0].log_density
    # the base too: samplers that look at convergence look at what is free
    kept = [LATENT, BASE]
    found = pm.sample(model=pulled_back(transport, density), var_names=kept, **options)
    chains, seed = found["posterior"].sizes["chain"], options["random_seed"]
    z = found["posterior"][LATENT].values.reshape(-1, transport.dim)
    with watching(progressbar=options["progressbar"]), stage("Computing variables"):
        wanted = drawn_names(model, names)
        _, constrained = density.variables(z, seed, wanted)
        samples = Samples(
            None, density.value(z), unconstrained_parts(z, density.ordering), constrained
        )
    tree = to_datatree(model, samples, transport.name, chains)
    stats = found["sample_stats"].to_dataset()
    plain = [name for name, value in stats.items() if value.dims == ("chain", "draw")]
    tree["sample_stats"] = DataTree(stats[plain].assign(log_p=tree["sample_stats"]["log_p"]))
    for group in ("posterior", "sample_stats"):
        tree[group].attrs.update({**found[group].attrs, "space": transport.name})
    return finished(model, tree, names)
