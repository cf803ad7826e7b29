"""The options of a fit as a file keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor
from pytensor.compile.mode import predefined_modes

from pmflow.checks import check_names
from pmflow.errors import ParameterError
from pmflow.objectives.estimators import ReverseKL
from pmflow.records import State
from pmflow.training.optimizers import OptimizerState, named_optimizer, optimizer_name
from pmflow.training.options import MORE, FitOptions
from pmflow.training.schedule_state import ScheduleSettings

__all__ = ["OptionsState", "options_of", "options_state"]

_OTHERWISE = {
    *("callbacks", "progressbar", "progressbar_theme", "checkpoint", "checkpoint_every"),
    *("schedule", "obj_optimizer", "compile_kwargs", "seconds", "objective", "devices", "executor"),
    *MORE,
}
"""Options that are given again, or kept in a field of their own."""


@dataclass(frozen=True, eq=False)
class OptionsState(State):
    """The options of a fit as a file keeps them.

    Attributes
    ----------
    plain : dict of str to number or text
    schedule : ScheduleSettings or None
    optimizer : OptimizerState or None
        None for one that a file can't name.
    mode : str or None
        Name of the mode in `compile_kwargs`.
    config_mode : str
        PyTensor's own mode.
    """

    plain: dict[str, float | int | bool | str | None]
    schedule: ScheduleSettings | None
    optimizer: OptimizerState | None
    mode: str | None
    config_mode: str


def options_state(options: FitOptions) -> OptionsState:
    """What of the options a file can keep: all but callbacks, themes and graphs.

    Raises
    ------
    ParameterError
        If an option that decides about the fit is in no file.
    """
    others = [name for name in MORE if getattr(options, name)]
    if others:
        raise ParameterError(
            f"checkpoint= can't keep {', '.join(others)}: graphs of your own are in no file. "
            "Leave checkpoint= out, and save at the end: approx.save(path)."
        )
    if options.objective not in (None, ReverseKL()):
        raise ParameterError(
            "checkpoint= can't keep the draws of an objective. Leave checkpoint= out, and save at "
            "the end: approx.save(path)."
        )
    how = options.compile_kwargs
    if how is not None and (set(how) - {"mode"} or not _is_mode(how.get("mode", "NUMBA"))):
        raise ParameterError(
            "checkpoint= can keep of compile_kwargs only the name of a mode, such as "
            f"{{'mode': 'FAST_COMPILE'}}, but they are {how!r}."
        )
    plain = {name: getattr(options, name) for name in options.names() if name not in _OTHERWISE}
    return OptionsState(
        {name: v.item() if isinstance(v, np.generic) else v for name, v in plain.items()},
        options.schedule,
        None if options.obj_optimizer is None else optimizer_name(options.obj_optimizer),
        None if how is None else how.get("mode"),
        str(pytensor.config.mode),
    )


def _is_mode(mode: Any) -> bool:
    return isinstance(mode, str) and mode in predefined_modes


def options_of(state: OptionsState, **given: Any) -> FitOptions:
    """The options that were kept, with what no file keeps `given` again.

    Raises
    ------
    ParameterError, BackendError
        If they are no options.
    KeyError, TypeError
        If they name no optimiser.
    """
    known = [name for name in FitOptions.names() if name not in _OTHERWISE]
    check_names(state.plain, known, "The state of the options")
    kept: dict[str, Any] = {**state.plain, "schedule": state.schedule}
    if state.mode is not None:
        kept["compile_kwargs"] = {"mode": state.mode}
    if state.optimizer is not None:
        kept["obj_optimizer"] = named_optimizer(state.optimizer)
    return FitOptions(**{**kept, **given})
