"""Checkpoints: a running fit in a file, from which it can go on."""

from __future__ import annotations

import inspect
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pymc as pm
import pytensor
from pytensor.compile.mode import predefined_modes

from pmflow.errors import FitWarning, ParameterError, PmflowError, StorageError
from pmflow.family.storage import pack
from pmflow.records import FitState
from pmflow.saving.archive import Archive, write_archive
from pmflow.training.run_state import RunState
from pmflow.training.tracker import Tracker

__all__ = ["OPTIMIZERS", "Checkpoint", "checkpoint_for", "restore_trackers", "stored_run"]

OPTIMIZERS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        *(pm.adadelta, pm.adagrad, pm.adagrad_window, pm.adam, pm.adamax),
        *(pm.momentum, pm.nesterov_momentum, pm.rmsprop, pm.sgd),
    )
}
"""Optimisers that a file can name."""

_SETTINGS = (
    *("obj_n_mc", "chunk_draws"),
    *("total_grad_norm_constraint", "estimator", "qmc", "backend", "compile_kwargs"),
)


class Checkpoint:
    """Writes a fit to a file: at its first chunk, every so many seconds, and at its end.

    Parameters
    ----------
    inference : NFVI
    path : path-like
    every : float
        Seconds.
    plan : dict
        What the fit was asked for, as JSON can say it.
    trackers : sequence of Tracker
    """

    def __init__(
        self,
        inference: Any,
        path: str | os.PathLike[str],
        every: float,
        plan: dict[str, Any],
        trackers: Sequence[Tracker],
    ) -> None:
        self._inference, self._path, self._every = inference, path, every
        self._plan, self._trackers = plan, trackers
        self._written: float | None = None
        self._warned: set[str] = set()

    def offer(self, take: Callable[[], RunState], ended: str | None) -> None:
        """Write the state if it is time, or if the fit has `ended`.

        Raises
        ------
        StorageError
            If the first one can't be written. Later ones only warn: a full disk does not end a fit.
        """
        now = time.monotonic()
        if ended is None and self._written is not None and now - self._written < self._every:
            return
        try:
            write_archive(self._path, self._archive(take(), ended))
        except StorageError as error:
            if self._written is None:
                raise
            self._warn(f"The checkpoint could not be written, the fit goes on. {error}")
        self._written = time.monotonic()

    def _archive(self, run: RunState, ended: str | None) -> Archive:
        archive = pack(self._inference.approx)
        content, arrays = archive.content, archive.arrays
        arrays |= {"hist": np.array(run.losses)} | {f"run_{n}": a for n, a in run.arrays.items()}
        content["kind"] = "checkpoint"
        if ended is None:
            content["fit_state"] = None
        else:
            state = FitState(run.done, run.skipped, ended)  # type: ignore[arg-type]
            content["fit_state"] = vars(state).copy()
        content["plan"] = self._plan
        content["run"] = {
            "seed": run.seed,
            "begin": run.begin,
            "done": run.done,
            "end": run.end,
            "skipped": run.skipped,
            "score": run.score,
        }
        content["trackers"] = [
            self._add_tracker(i, t, arrays) for i, t in enumerate(self._trackers)
        ]
        return Archive(content, arrays)

    def _add_tracker(self, place: int, tracker: Tracker, arrays: dict[str, Any]) -> dict[str, Any]:
        packed = tracker.packed()
        left_out = sorted(set(tracker.whatchdict) - set(packed))
        if left_out:
            self._warn(
                f"The statistics {', '.join(left_out)} of a Tracker are not in the checkpoint: "
                "they are no arrays of numbers of one shape."
            )
        names = list(packed)
        for i, name in enumerate(names):
            arrays[f"tracker{place}_{i}"] = packed[name]
        return {"watched": list(tracker.watched_names), "every": tracker.every, "names": names}

    def _warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, FitWarning, stacklevel=2)


def checkpoint_for(
    inference: Any,
    path: str | os.PathLike[str] | None,
    every: float,
    settings: Mapping[str, Any],
    callbacks: Sequence[Any],
    *,
    automatic: bool = False,
) -> Checkpoint | None:
    """What keeps a fit, None without a path.

    Raises
    ------
    ParameterError
        If the fit is one that can't go on from a file.
    """
    if path is None:
        return None
    if isinstance(every, bool) or not isinstance(every, int | float) or not every >= 0:
        raise ParameterError(f"checkpoint_every must be a number of seconds, but is {every!r}.")
    if not isinstance(path, str | os.PathLike):
        raise ParameterError(f"checkpoint must be a path, but is of type {type(path).__name__}.")
    if automatic:
        raise ParameterError(
            "checkpoint= is for fits of a given number of steps from one start: a fit that chooses "
            "its own steps, restarts= and anneal= can't go on from a file. Give n= alone, such as "
            "fit(10_000, checkpoint=...)."
        )
    others = sorted(name for name in set(settings) - {*_SETTINGS, "obj_optimizer"})
    if any(settings[name] for name in others):
        raise ParameterError(
            f"checkpoint= can't keep {', '.join(others)}: graphs of your own are in no file. Leave "
            "checkpoint= out, and save at the end: approx.save(path)."
        )
    how = {} if settings["compile_kwargs"] is None else settings["compile_kwargs"]
    if not isinstance(how, dict) or set(how) - {"mode"} or not _is_mode(how.get("mode", "NUMBA")):
        raise ParameterError(
            "checkpoint= can keep of compile_kwargs only the name of a mode, such as "
            f"{{'mode': 'FAST_COMPILE'}}, but they are {settings['compile_kwargs']!r}."
        )
    plan = {name: settings[name] for name in _SETTINGS}
    plan |= {
        "optimizer": _optimizer_name(settings["obj_optimizer"]),
        "beta": float(inference.objective.op.beta),
        "mode": str(pytensor.config.mode),
    }
    trackers = [c for c in callbacks if isinstance(c, Tracker)]
    return Checkpoint(inference, path, float(every), plan, trackers)


def _is_mode(mode: Any) -> bool:
    return isinstance(mode, str) and mode in predefined_modes


def _optimizer_name(optimizer: Any) -> dict[str, Any] | None:
    """One of PyMC's optimisers as JSON can say it, None for any other."""
    given = getattr(optimizer, "keywords", None)
    name = getattr(getattr(optimizer, "func", optimizer), "__name__", "")
    if OPTIMIZERS.get(name) is not getattr(optimizer, "func", optimizer):
        return None
    if getattr(optimizer, "args", ()) or not all(
        value is None or isinstance(value, bool | int | float | np.number)
        for value in (given or {}).values()
    ):
        return None
    numbers = {k: v.item() if isinstance(v, np.number) else v for k, v in (given or {}).items()}
    return {"name": name, "options": numbers}


def _named_optimizer(named: Mapping[str, Any]) -> Any:
    """What `_optimizer_name` named: one of the list, with numbers as arguments."""
    function, options = OPTIMIZERS[named["name"]], named["options"]
    known = {*inspect.signature(function).parameters} - {"loss_or_grads", "params"}
    if not set(options) <= known or not all(
        value is None or isinstance(value, int | float) for value in options.values()
    ):
        raise TypeError("the options of the optimiser are not its own")
    return partial(function, **options)


def stored_run(archive: Archive, where: str, obj_optimizer: Any) -> tuple[RunState, dict[str, Any]]:
    """The state of a fit, and the settings of its plan with the optimiser among them.

    Raises
    ------
    StorageError
        If the file holds no checkpoint.
    ParameterError
        If the optimiser is not in the file and not given.
    """
    content = archive.content
    if content.get("kind") != "checkpoint":
        raise StorageError(
            f"{where!r} holds a saved approximation, no checkpoint. Load it with pmflow.load."
        )
    try:
        plan, run = content["plan"], content["run"]
        named = plan["optimizer"]
        if plan["mode"] != str(pytensor.config.mode):
            raise StorageError(
                f"{where!r} was made with pytensor.config.mode={plan['mode']!r}, but now it is "
                f"{str(pytensor.config.mode)!r}. Set it to what it was."
            )
        if obj_optimizer is None and named is None:
            raise ParameterError(
                f"The optimiser of {where!r} is none of PyMC's own. Give it again: "
                "resume(..., obj_optimizer=...)."
            )
        if obj_optimizer is None:
            obj_optimizer = _named_optimizer(named)
        arrays = {n[4:]: a for n, a in archive.arrays.items() if n.startswith("run_")}
        counts = {name: run[name] for name in ("seed", "begin", "done", "end", "skipped")}
        are_counts = all(type(n) is int and n >= 0 for n in counts.values())
        if not are_counts or not counts["begin"] <= counts["done"] <= counts["end"]:
            raise StorageError(f"{where!r} does not hold the state of a fit.")
        losses, score = archive.arrays["hist"], run["score"] is True
        state = RunState(**counts, score=score, losses=losses, arrays=arrays)
        settings = {name: plan[name] for name in _SETTINGS} | {"obj_optimizer": obj_optimizer}
    except PmflowError:
        raise
    except (AttributeError, LookupError, TypeError) as error:
        raise StorageError(
            f"{where!r} does not hold the state of a fit ({type(error).__name__}: {error})."
        ) from error
    return state, settings


def restore_trackers(archive: Archive, callbacks: Sequence[Any], where: str) -> None:
    """Give trackers what those of the fit have recorded.

    Raises
    ------
    ParameterError
        If they are not as many, or do not record the same.
    """
    trackers = [c for c in callbacks if isinstance(c, Tracker)]
    try:
        kept = archive.content["trackers"]
        same = [
            (list(t.watched_names), t.every) == (k["watched"], k["every"])
            and set(k["names"]) <= {*t.watched_names, *t.whatchdict, "steps"}
            for t, k in zip(trackers, kept, strict=False)
        ]
        if len(trackers) != len(kept) or not all(same):
            raise ParameterError(
                f"{where!r} holds what {len(kept)} Tracker(s) recorded, and the callbacks must "
                f"have as many that record the same, but have {len(trackers)}. Give a function: "
                "callbacks=lambda inference: [pmflow.Tracker(inference)]."
            )
        for place, (tracker, one) in enumerate(zip(trackers, kept, strict=True)):
            tracker.restore(
                {n: archive.arrays[f"tracker{place}_{i}"] for i, n in enumerate(one["names"])}
            )
    except ParameterError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise StorageError(
            f"{where!r} does not hold what a Tracker recorded ({type(error).__name__}: {error})."
        ) from error
