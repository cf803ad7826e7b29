"""What a user gives to a fit, checked by itself, before anything is made or compiled."""

from __future__ import annotations

import importlib.util
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor
from pytensor.compile.mode import Mode, get_mode
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable

from pmflow.checks import check_names, checked_count
from pmflow.errors import BackendError, ParameterError
from pmflow.training.optimizers import optimizer_rate
from pmflow.training.schedule_state import ScheduleSettings

__all__ = [
    "BACKENDS",
    "check_checkpoint",
    "check_compilation",
    "check_more",
    "check_norm",
    "check_optimizer",
    "check_schedule",
    "checked_callbacks",
    "checked_devices",
]

BACKENDS = ("numba", "c", "jax")


def checked_callbacks(callbacks: Any) -> tuple[Callable[..., Any], ...]:
    """Callbacks as a tuple of callables."""
    if callbacks is None:
        return ()
    if not isinstance(callbacks, Sequence) or isinstance(callbacks, str):
        raise ParameterError(
            f"callbacks must be a list of callables, but is {callbacks!r}. Write [callback]."
        )
    for callback in callbacks:
        if not callable(callback):
            raise ParameterError(f"callbacks must be callable, but one is {callback!r}.")
    return tuple(callbacks)


def check_norm(norm: Any) -> None:
    """Check a limit of the gradient's length, None for none."""
    if norm is None:
        return
    is_number = isinstance(norm, int | float | np.number) and not isinstance(norm, bool)
    if not is_number or not norm > 0:
        raise ParameterError(
            f"total_grad_norm_constraint must be a positive number, but is {norm!r}."
        )


def check_optimizer(optimizer: Any) -> None:
    """Check an optimiser, None for the default."""
    if optimizer is None:
        return
    if not callable(optimizer):
        raise ParameterError(
            f"obj_optimizer must be callable, but is {optimizer!r}. Give one of PyMC's, such as "
            "pm.adam(learning_rate=0.01)."
        )
    rate = optimizer_rate(optimizer)
    if rate is not None and not (np.isfinite(rate) and rate >= 0):
        raise ParameterError(
            f"The learning_rate of obj_optimizer must be finite and >= 0, but is {rate!r}."
        )


def check_schedule(schedule: Any, n: int | None) -> None:
    """Check a schedule, None for the default, beside a number of steps."""
    if schedule is None:
        return
    if not isinstance(schedule, ScheduleSettings):
        raise ParameterError(f"schedule must be a pmflow.ScheduleSettings, but is {schedule!r}.")
    if n is not None:
        raise ParameterError(
            "schedule= is for fits that choose their own steps, but n= says how many. "
            "Leave one out."
        )


def check_compilation(backend: Any, compile_kwargs: Any) -> None:
    """Check how steps are to be compiled, as far as can be seen without compiling."""
    if compile_kwargs is not None:
        if not isinstance(compile_kwargs, Mapping):
            raise ParameterError(
                "compile_kwargs must be a dict of arguments for pymc.compile, "
                f'but is {compile_kwargs!r}. Write {{"mode": ...}}.'
            )
        accepted = {**inspect.signature(pm.compile).parameters}
        accepted |= inspect.signature(pytensor.function).parameters
        taken = {"inputs", "outputs", "updates", "random_seed", "kwargs", "compile_kwargs"}
        check_names(compile_kwargs, [n for n in accepted if n not in taken], "compile_kwargs")
        _check_mode(compile_kwargs.get("mode"))
    if backend is None:
        return
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise BackendError(f"backend must be one of {', '.join(BACKENDS)}, but is {backend!r}.")
    if compile_kwargs and "mode" in compile_kwargs:
        raise ParameterError("backend and compile_kwargs['mode'] say the same: give only one.")
    if backend == "jax" and importlib.util.find_spec("jax") is None:
        raise BackendError(
            "backend='jax' needs JAX, which is not installed: pip install 'pmflow[jax]'."
        )


def checked_devices(devices: Any, *, uses_jax: bool) -> tuple[Any, ...]:
    """The devices of JAX that are asked for, by their number or one by one."""
    if not uses_jax:
        raise ParameterError(
            "devices= is for JAX: leave backend= out, or give backend='jax', and no mode."
        )
    if importlib.util.find_spec("jax") is None:
        raise BackendError("devices= needs JAX, which is not installed: pip install 'pmflow[jax]'.")
    import jax

    found = jax.devices()
    if isinstance(devices, Sequence) and all(isinstance(d, jax.Device) for d in devices):
        chosen = tuple(devices)
        if not chosen or len({d.platform for d in chosen}) > 1 or len(set(chosen)) < len(chosen):
            raise ParameterError(
                f"devices must be different devices of one kind, but are {list(devices)!r}."
            )
        return chosen
    number = checked_count("devices", devices, 1)
    if number > len(found):
        kind = found[0].platform
        remedy = f"Give {len(found)} at most."
        if kind == "cpu":
            remedy = (
                "A CPU counts as several in a process that starts with "
                f"XLA_FLAGS=--xla_force_host_platform_device_count={number}."
            )
        raise ParameterError(f"devices={number}, but JAX has {len(found)} ({kind}). {remedy}")
    return tuple(found[:number])


def check_checkpoint(checkpoint: Any, every: Any) -> None:
    """Check where and how often a fit is written to a file."""
    if isinstance(every, bool) or not isinstance(every, int | float) or not every >= 0:
        raise ParameterError(f"checkpoint_every must be a number of seconds, but is {every!r}.")
    if checkpoint is not None and not isinstance(checkpoint, str | os.PathLike):
        raise ParameterError(
            f"checkpoint must be a path, but is of type {type(checkpoint).__name__}."
        )


def _check_mode(mode: Any) -> None:
    try:
        is_mode = isinstance(get_mode(mode), Mode)
    except ValueError:
        is_mode = False
    if not is_mode:
        raise ParameterError(
            "compile_kwargs['mode'] must be a PyTensor mode or the name of one, such as "
            f"'FAST_COMPILE', 'FAST_RUN', 'NUMBA' or 'JAX', but is {mode!r}."
        )


def check_more(given: Mapping[str, Any]) -> None:
    """Check graphs of the user's own: variables to train, updates and replacements."""
    for name in ("more_updates", "more_replacements"):
        if given.get(name) is not None and not isinstance(given[name], Mapping):
            raise ParameterError(
                f"{name} must be a dict of variables to variables, but is {given[name]!r}."
            )
    for variable in given.get("more_updates") or ():
        if not isinstance(variable, SharedVariable):
            raise ParameterError(
                f"The keys of more_updates must be shared variables, but one is {variable!r}. "
                "Make it with pytensor.shared."
            )
    for variable in given.get("more_replacements") or ():
        if not isinstance(variable, Variable):
            raise ParameterError(
                "The keys of more_replacements must be variables of the model's graph, "
                f"but one is {variable!r}."
            )
    params = given.get("more_obj_params")
    if params is None:
        return
    if not isinstance(params, list | tuple) or any(
        not isinstance(p, SharedVariable) for p in params
    ):
        raise ParameterError(
            f"more_obj_params must be a list of shared variables, but is {params!r}."
        )
