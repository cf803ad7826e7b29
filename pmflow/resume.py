"""A fit that was broken off goes on from its checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pymc as pm
import pytensor

from pmflow.errors import ParameterError, StorageError
from pmflow.family.approximation import Approximation
from pmflow.inference import NFVI
from pmflow.inference.checkpoint import FitCheckpoint, restore_trackers
from pmflow.ladder.automatic import climb_on, tell_verdict
from pmflow.ladder.climb import Climb
from pmflow.ladder.states import ClimbCheckpoint
from pmflow.posterior.model import checked_model
from pmflow.posterior.outline import check_description
from pmflow.records import State
from pmflow.saving.archive import read_archive
from pmflow.saving.states import no_trust_in, unpack
from pmflow.training.option_states import options_of
from pmflow.training.options import FitOptions

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
    devices: Any = None,
) -> Approximation:
    """Go on with a fit from the file that ``fit(checkpoint=path)`` wrote.

    On the same machine the result is, bit for bit, the one that the fit would have had. A file of a
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
        recorded. Of `pmflow.fit`, which makes several of these, a list.
    obj_optimizer : callable, optional
        Only where it was none of PyMC's own with numbers as arguments: these are in the file.
    checkpoint_every : float
        Seconds.
    progressbar : bool
    devices : int or list of jax.Device, optional
        As of `NFVI.fit`: one by default, however many the fit was begun on. Sums over another
        number of them are rounded otherwise.

    Returns
    -------
    Approximation
        With the whole `hist`; of `pmflow.fit`, with its `diagnosis` and `ladder`.

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
        inference.fit(1_000_000, checkpoint="run.safetensors")
        # ... and after the power came back
        approx = pmf.resume("run.safetensors", model)
    """
    where, model = os.fspath(path), checked_model(model)
    given = {
        "checkpoint": path,
        "checkpoint_every": checkpoint_every,
        "progressbar": progressbar,
        "devices": devices,
    }
    FitOptions(**given)
    state = _read(path, where, model)
    if isinstance(state, ClimbCheckpoint):
        return _go_on_climbing(state, model, where, given, callbacks, obj_optimizer)
    return _go_on(state, model, where, given, callbacks, obj_optimizer)


def _read(
    path: str | os.PathLike[str], where: str, model: pm.Model
) -> FitCheckpoint | ClimbCheckpoint:
    archive = read_archive(path)
    if archive.content.get("kind") != "checkpoint":
        raise StorageError(
            f"{where!r} holds a saved approximation, no checkpoint. Load it with pmflow.load."
        )
    with no_trust_in(where):
        check_description(archive.content, model, where)
        state = unpack(archive, State, where)
        if not isinstance(state, FitCheckpoint | ClimbCheckpoint):
            raise TypeError(f"it holds a {type(state).__name__}")
    if state.options.config_mode != str(pytensor.config.mode):
        raise StorageError(
            f"{where!r} was made with pytensor.config.mode={state.options.config_mode!r}, but now "
            f"it is {str(pytensor.config.mode)!r}. Set it to what it was."
        )
    return state


def _go_on(
    state: FitCheckpoint,
    model: pm.Model,
    where: str,
    given: dict[str, Any],
    callbacks: Callbacks | None,
    obj_optimizer: Any,
) -> Approximation:
    if obj_optimizer is None and state.options.optimizer is None:
        raise ParameterError(
            f"The optimiser of {where!r} is none of PyMC's own. Give it again: "
            "resume(..., obj_optimizer=...)."
        )
    if obj_optimizer is not None:
        given = {**given, "obj_optimizer": obj_optimizer}
    with no_trust_in(where):
        inference = NFVI(Approximation.from_state(state.approx, model), beta=state.beta)
        options = options_of(state.options, **given).filled(inference.approx, state.beta)
    made = callbacks(inference) if callable(callbacks) else callbacks
    options = replace(options, callbacks=tuple(made or ()))
    restore_trackers(state.trackers, options.callbacks or (), where)
    if state.is_over:
        return inference.approx
    return inference.carry_out(options, begun=state)


def _go_on_climbing(
    state: ClimbCheckpoint,
    model: pm.Model,
    where: str,
    given: dict[str, Any],
    callbacks: Callbacks | None,
    obj_optimizer: Any,
) -> Approximation:
    if obj_optimizer is not None or callable(callbacks):
        raise ParameterError(
            f"{where!r} holds a fit that chooses its family by itself: it has no optimiser of "
            "yours, and several inferences. Leave obj_optimizer out, and give callbacks as a list."
        )
    with no_trust_in(where):
        options = options_of(state.options, **given, callbacks=callbacks)
        climb = Climb.from_state(state.climb, model, options)
    if state.fit is not None:
        restore_trackers(state.fit.trackers, options.callbacks or (), where)
    result = climb_on(climb, state)
    tell_verdict(result, stacklevel=4)
    return result
