"""A fit that was broken off goes on from its checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import pymc as pm

from pmflow.checkpoint import checkpoint_for, restore_trackers, stored_run
from pmflow.checks import checked_count
from pmflow.draws.chunks import checked_chunk_draws
from pmflow.draws.sobol import check_qmc
from pmflow.errors import ParameterError, PmflowError, StorageError
from pmflow.family.approximation import Approximation
from pmflow.inference import NFVI
from pmflow.objectives.estimators import check_estimator
from pmflow.posterior.model import checked_model
from pmflow.saving.archive import read_archive
from pmflow.training.options import check_fit_arguments

__all__ = ["resume"]

type Callbacks = Sequence[Callable[..., Any]] | Callable[[NFVI], Sequence[Callable[..., Any]]]


def resume(
    path: str | os.PathLike[str],
    model: pm.Model | None = None,
    *,
    callbacks: Callbacks | None = None,
    obj_optimizer: Any = None,
    checkpoint_every: float = 60.0,
    progressbar: bool = True,
) -> Approximation:
    """Go on with a fit from the file that ``fit(n, checkpoint=path)`` wrote.

    On the same machine the losses are, bit for bit, those that the fit would have had. A file of a
    fit that is over gives its approximation.

    Parameters
    ----------
    path : path-like
        The checkpoint. It is written on, as the fit goes on.
    model : pymc.Model, optional
        The model of the fit, made anew, with the same data. Defaults to the model of the context.
    callbacks : list of callable, or callable, optional
        As given to `NFVI.fit`; a file has none of them. A function is called once with the `NFVI`
        that goes on, and returns them: a `Tracker` is made of that, and gets back what it had
        recorded.
    obj_optimizer : callable, optional
        Only where it was none of PyMC's own with numbers as arguments: these are in the file.
    checkpoint_every : float
        Seconds.
    progressbar : bool

    Returns
    -------
    Approximation
        With the whole `hist`.

    Raises
    ------
    StorageError
        As `load`; or if the file holds no checkpoint, or one of another backend.
    ParameterError
        If the trackers are not those of the fit, or the optimiser is missing.

    Examples
    --------
    ::

        inference = pmf.NFVI("scale-loc", model=model, random_seed=1)
        inference.fit(1_000_000, checkpoint="run.nc")
        # ... and after the power came back
        approx = pmf.resume("run.nc", model)
    """
    where = os.fspath(path)
    archive = read_archive(path)
    state, settings = stored_run(archive, where, obj_optimizer)
    approx = Approximation._from_archive(archive, checked_model(model), where)
    try:
        inference = NFVI(approx, beta=archive.content["plan"]["beta"])
        check_settings(settings, approx)
    except (PmflowError, LookupError, TypeError) as error:
        raise StorageError(f"{where!r} does not hold a plan that can be: {error}") from error
    made = callbacks(inference) if callable(callbacks) else callbacks
    callbacks = tuple(made or ())
    restore_trackers(archive, callbacks, where)
    keeper = checkpoint_for(inference, path, checkpoint_every, settings, callbacks)
    return inference._go_on(
        state, keeper, callbacks, progressbar=progressbar, score=state.score, settings=settings
    )


def check_settings(settings: dict[str, Any], approx: Approximation) -> None:
    """Check the settings of a plan as `NFVI.fit` checks its arguments."""
    if not isinstance(settings["compile_kwargs"], dict | None):
        raise ParameterError("compile_kwargs are not a dict")
    draws = checked_count("obj_n_mc", settings["obj_n_mc"], 1)
    settings["chunk_draws"] = checked_chunk_draws(settings["chunk_draws"], draws, approx)
    names = ("total_grad_norm_constraint", "backend", "compile_kwargs")
    check_fit_arguments({name: settings[name] for name in names})
    check_estimator(settings["estimator"], approx)
    check_qmc(settings["qmc"], approx)
