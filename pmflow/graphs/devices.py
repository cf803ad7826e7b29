"""Work that is laid over several devices of JAX: each holds and computes a part of it.

What is large is cut along one axis, the draws of a step or the rows of data, and XLA divides what
is made of it (Xu et al., 2021, GSPMD, https://arxiv.org/abs/2105.04663). The program stays that of
one device, with its random numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

__all__ = ["Layout", "chosen_layout", "over_devices"]

_log = logging.getLogger("pmflow")

_LEAST_ROWS = 1_000
"""Rows of data for each device: fewer are held by all of them."""

_WORTH = {"cpu": 5_000_000}
"""Numbers that each device goes through in one call, below which one alone is sooner done."""
_WORTH_ELSEWHERE = 10_000_000

type Devices = tuple[Any, ...]
type Shape = tuple[int, ...]

_wanted: ContextVar[Devices] = ContextVar("devices", default=())


@contextmanager
def over_devices(devices: Devices) -> Iterator[None]:
    """Lay what is compiled within over some devices, where that is sooner done."""
    token = _wanted.set(devices)
    try:
        yield
    finally:
        _wanted.reset(token)


@dataclass(frozen=True)
class Layout:
    """What is cut, and over which devices.

    Attributes
    ----------
    devices : tuple of jax.Device
        Several, or none: then everything stays where JAX has it.
    rows : frozenset of tuple of int
        Shapes of the data that are cut along their first axis; if there are none, draws are.
    """

    devices: Devices = ()
    rows: frozenset[Shape] = frozenset()

    def held(self, value: Any) -> Any:
        """Data on the devices: filled up to a multiple of their number, and cut, or whole."""
        import jax

        if np.shape(value) not in self.rows:
            return self.everywhere(jax.numpy.asarray(value))
        more = -len(value) % len(self.devices)
        filled = np.concatenate([value, np.zeros_like(value[:more])])
        return jax.device_put(filled, self._sharding("part"))

    def whole(self, arrays: Sequence[Any], shapes: Sequence[Shape]) -> list[Any]:
        """What is held as it was, for what is traced: XLA leaves each part where it is."""
        return [a[: s[0]] if s in self.rows else a for a, s in zip(arrays, shapes, strict=True)]

    def spread(self, array: Any, axis: int) -> Any:
        """Cut an array of what is traced along its axis of draws, if these are what is cut."""
        import jax

        if self.rows or not self.devices:
            return array
        cut = self._sharding(*[None] * axis, "part")
        return jax.lax.with_sharding_constraint(array, cut)  # type: ignore[no-untyped-call]

    def everywhere(self, arrays: Any) -> Any:
        """Arrays that each device holds whole."""
        import jax

        return jax.device_put(arrays, self._sharding()) if self.devices else arrays

    @property
    def of_results(self) -> dict[str, Any]:
        """For `jax.jit`: each device holds the results whole."""
        return {"out_shardings": self._sharding()} if self.devices else {}

    def _sharding(self, *axes: str | None) -> Any:
        from jax.sharding import Mesh, NamedSharding, PartitionSpec

        mesh = Mesh(np.array(self.devices), ("part",))
        return NamedSharding(mesh, PartitionSpec(*axes))  # type: ignore[no-untyped-call]


def chosen_layout(
    draws: int, numbers: int, data: Sequence[Shape], work: Callable[[], float]
) -> Layout:
    """How to lay a computation over the devices that are wanted.

    Parameters
    ----------
    draws : int
        Draws, or points, of one call that are independent of each other; 1 where they can't be cut.
    numbers : int
        How many numbers these are.
    data : sequence of tuple of int
        Shapes of the arrays that may be cut along their first axis.
    work : callable
        How many numbers a call goes through.
    """
    devices = _wanted.get()
    if len(devices) < 2:
        return Layout()
    rows = frozenset(s for s in data if s and s[0] >= _LEAST_ROWS * len(devices))
    by_rows = bool(rows) and (draws < 2 or sum(prod(s) for s in data if s in rows) > numbers)
    if not by_rows:
        devices, rows = devices[:draws], frozenset()
    worth = _WORTH.get(devices[0].platform, _WORTH_ELSEWHERE)
    if len(devices) < 2:
        reason = f"one draw at a time, and no data with {_LEAST_ROWS:,} rows a device"
    elif (found := work()) < worth * len(devices):
        reason = f"one call goes through {found:,.0f} numbers, too few to be divided"
    else:
        _log.info(
            "%s cut over %d devices.", "Rows of data are" if rows else "Draws are", len(devices)
        )
        return Layout(devices, rows)
    _log.info("One device is used, not %d: %s.", len(_wanted.get()), reason)
    return Layout()
