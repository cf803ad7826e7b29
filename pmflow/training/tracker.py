"""What watches a fit."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pymc.variational.callbacks import Callback

from pmflow.checks import check_flags, checked_count
from pmflow.errors import ParameterError
from pmflow.records import State

__all__ = ["Tracker", "TrackerState", "check_trackers"]


class Tracker(Callback):
    """Record parameters, their gradients, and anything else, while a fit runs.

    Parameters
    ----------
    inference : NFVI, optional
        Record every trained parameter of its approximation as ``u_0``, ``w_0`` ... (the number is
        the place of the layer in the flow) as it is after a step, and as ``grad_u_0`` ... the
        gradient which that step used, both unconstrained.
    every : int
        Record every `every`-th step.
    gradients : bool
        Whether to record gradients.
    **stats : callable
        Own statistics by name, as for PyMC's Tracker: called without arguments, or, where the
        signature asks for three, with the approximation, the losses so far and the step. What it
        raises reaches you unchanged.

    Raises
    ------
    ParameterError
        If `every` is not a positive integer, a statistic is not callable, or its name belongs to a
        parameter.

    Examples
    --------
    >>> import pymc as pm, pmflow as pmf
    >>> with pm.Model():
    ...     x = pm.Normal("x", shape=2)
    ...     inference = pmf.NFVI("scale-loc", random_seed=1)
    ...     tracker = pmf.Tracker(inference, loss=lambda approx, losses, i: losses[-1])
    >>> approx = inference.fit(
    ...     5, callbacks=[tracker], progressbar=False, compile_kwargs={"mode": "FAST_COMPILE"}
    ... )
    >>> tracker["grad_rho_0"].shape, len(tracker["loss"])
    ((5, 2), 5)
    """

    def __init__(
        self,
        inference: Any = None,
        *,
        every: int = 1,
        gradients: bool = True,
        **stats: Callable[..., Any],
    ) -> None:
        every = checked_count("every", every, 1)
        check_flags(gradients=gradients)
        if inference is not None and not hasattr(inference, "watched_names"):
            raise ParameterError(
                f"inference must be an NFVI, but is of type {type(inference).__name__}. "
                "For PyMC's own methods track with callables: Tracker(mu=approx.params[0].eval)."
            )
        watched = [] if inference is None else inference.watched_names
        self.watched_names = tuple(
            name for name in watched if gradients or not name.startswith("grad_")
        )
        for name, stat in stats.items():
            if not callable(stat):
                raise ParameterError(
                    f"The statistic {name!r} must be callable, but is {stat!r}. "
                    f"Write {name}=lambda: ..."
                )
            if name in self.watched_names:
                raise ParameterError(
                    f"The statistic {name!r} has the name of a parameter of the flow. "
                    "Choose another."
                )
        self.inference = inference
        self.every = every
        self.whatchdict = stats
        self._takes_step = {name: _takes_three(stat) for name, stat in stats.items()}
        self.clear()

    def clear(self) -> None:
        """Forget what was recorded."""
        self._series = {name: _Series() for name in self.watched_names}
        self._stats: dict[str, list[Any]] = {name: [] for name in self.whatchdict}
        self.steps: list[int] = []

    @property
    def is_recorded(self) -> bool:
        """Whether the fit records everything by itself, so that it need not stop for a call."""
        return bool(self.watched_names) and not self.whatchdict

    def record(self, approx: Any, hist: NDArray[np.float64] | None, i: int) -> None:
        """Record the statistics at step `i` (counted from 1), if it is one to be recorded."""
        if i % self.every:
            return
        for name, stat in self.whatchdict.items():
            value = stat(approx, hist, i) if self._takes_step[name] else stat()
            self._stats[name].append(value)
        if not self.watched_names:
            self.steps.append(i)

    __call__ = record

    def extend(self, first: int, values: Mapping[str, NDArray[Any]]) -> None:
        """Take over the parameters and gradients of consecutive steps, the first of number `first`.

        Parameters
        ----------
        first : int
        values : mapping of str to ndarray
            By watched name, one row per step.
        """
        kept = slice(-first % self.every, None, self.every)
        for name, series in self._series.items():
            rows = values[name]
            series.extend(rows[kept])
        self.steps.extend(range(first, first + len(rows))[kept])

    @property
    def hist(self) -> dict[str, Any]:
        """Everything recorded, by name."""
        return {name: self[name] for name in (*self.watched_names, *self.whatchdict)}

    def __getitem__(self, name: str) -> Any:
        """What was recorded: an array (steps, ...) for a parameter, a list for a statistic."""
        if name in self._series:
            return self._series[name].values
        if name in self._stats:
            return self._stats[name]
        known = ", ".join((*self.watched_names, *self.whatchdict))
        raise KeyError(f"{name!r} is not tracked; tracked are: {known or 'nothing'}")

    def to_state(self) -> TrackerState:
        """Everything recorded that is numbers, for `go_to`."""
        arrays = {name: series.values for name, series in self._series.items()}
        for name, values in self._stats.items():
            array = _numbers(values)
            if array is not None:
                arrays[name] = array
        steps = np.asarray(self.steps, dtype=np.int64)
        return TrackerState(tuple(self.watched_names), self.every, steps, arrays)

    def records_same_as(self, state: TrackerState) -> bool:
        """Whether a state is that of a tracker like this one."""
        like = (tuple(self.watched_names), self.every) == (state.watched, state.every)
        return like and set(state.arrays) <= {*self.watched_names, *self.whatchdict}

    def go_to(self, state: TrackerState) -> None:
        """Take over what was recorded; what was recorded before is forgotten."""
        self.clear()
        arrays = state.arrays
        self.steps = [int(step) for step in state.steps]
        for name, series in self._series.items():
            series.extend(arrays[name])
        for name, values in self._stats.items():
            values.extend(arrays.get(name, ()))

    def to_dataset(self) -> xr.Dataset:
        """Parameters and gradients as labelled arrays with the dimension ``step``.

        Returns
        -------
        xarray.Dataset
            One variable for each parameter, for each gradient, and for each statistic that makes
            an array of numbers.
        """
        arrays = {}
        for name, values in self.hist.items():
            array = np.asarray(values)
            if array.dtype == object or array.shape[:1] != (len(self.steps),):
                continue
            dims = ["step", *(f"{name}_dim_{axis}" for axis in range(array.ndim - 1))]
            arrays[name] = xr.DataArray(array, dims=dims)
        return xr.Dataset(arrays, coords={"step": np.asarray(self.steps, dtype=int)})


@dataclass(frozen=True, eq=False)
class TrackerState(State):
    """What a tracker has recorded, as far as it is numbers.

    Attributes
    ----------
    watched : tuple of str
    every : int
    steps : ndarray of int
    arrays : dict of str to ndarray
        By name of a parameter, gradient or statistic.
    """

    watched: tuple[str, ...]
    every: int
    steps: NDArray[np.int64]
    arrays: dict[str, NDArray[Any]]


class _Series:
    """Arrays of one shape, appended: amortised doubling, one block of memory."""

    def __init__(self) -> None:
        self._size = 0
        self._buffer: NDArray[Any] = np.empty((0,))

    def extend(self, rows: NDArray[Any]) -> None:
        if len(rows) == 0:
            return
        size = self._size + len(rows)
        if size > len(self._buffer):
            grown = np.empty((max(size, 2 * self._size), *rows.shape[1:]), dtype=rows.dtype)
            grown[: self._size] = self._buffer[: self._size].reshape(-1, *rows.shape[1:])
            self._buffer = grown
        self._buffer[self._size : size] = rows
        self._size = size

    @property
    def values(self) -> NDArray[Any]:
        return self._buffer[: self._size]


def _numbers(values: list[Any]) -> NDArray[Any] | None:
    """What a statistic gave as one array, None if it is none of numbers."""
    try:
        array = np.asarray(values)
    except ValueError:  # arrays of unequal shapes
        return None
    return array if array.dtype.kind in "biuf" else None


def _takes_three(stat: Callable[..., Any]) -> bool:
    """Whether a statistic wants (approx, losses, step); decided before it is called."""
    try:
        signature = inspect.signature(stat)
    except ValueError:
        return False  # a builtin such as time.time, without a signature to read
    try:
        signature.bind()
    except TypeError:
        return True
    return False


def check_trackers(callbacks: Sequence[Callable[..., Any]], inference: Any) -> None:
    """Check that trackers among callbacks belong to an inference, or to none.

    Raises
    ------
    ParameterError
    """
    for callback in callbacks:
        if isinstance(callback, Tracker) and callback.inference not in (None, inference):
            raise ParameterError(
                "A Tracker among the callbacks belongs to another inference. "
                "Make one with pmflow.Tracker(inference) for this one."
            )
