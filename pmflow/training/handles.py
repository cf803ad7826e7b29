"""What a schedule takes hold of between steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pmflow.training.loops.loop import Loop

__all__ = ["LoopHandles", "Losses"]


class Losses:
    """Losses so far, in one block of memory that doubles when it is full.

    Parameters
    ----------
    known : ndarray, shape (steps,)
        Those of the fits before, as `before` keeps them.
    """

    def __init__(self, known: NDArray[np.float64]) -> None:
        self.before = known
        self._losses = known
        self._size = len(known)

    def extend(self, losses: NDArray[np.floating]) -> None:
        """Add the losses of further steps."""
        size = self._size + len(losses)
        if size > len(self._losses):
            grown = np.empty(max(size, 2 * self._size))
            grown[: self._size] = self.so_far
            self._losses = grown
        self._losses[self._size : size] = losses
        self._size = size

    @property
    def so_far(self) -> NDArray[np.float64]:
        """All losses, without a copy."""
        return self._losses[: self._size]


class LoopHandles:
    """State of a compiled loop, as a course takes hold of it (see `course.Handles`).

    Parameters
    ----------
    loop : Loop
    losses : Losses
    seed : int
        For `restart`.
    """

    def __init__(self, loop: Loop, losses: Losses, seed: int) -> None:
        self._loop, self._losses, self._seed = loop, losses, seed
        self._shared = loop.step.handles

    @property
    def params(self) -> NDArray[np.floating]:
        """The trained parameters, shape (size,)."""
        return np.asarray(self._loop.step.params.vector.get_value())

    @params.setter
    def params(self, values: NDArray[np.floating]) -> None:
        self._loop.step.params.vector.set_value(values)
        self._loop.step.params.push()

    @property
    def learning_rate(self) -> float:
        """Step size of the optimiser."""
        return float(self._get("learning_rate").get_value())

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        self._set("learning_rate", rate)

    @property
    def accumulate(self) -> int:
        """Steps whose mean gradient makes one step of the parameters."""
        return int(self._get("accumulate").get_value())

    @accumulate.setter
    def accumulate(self, steps: int) -> None:
        self._set("accumulate", steps)

    @property
    def annealed(self) -> float:
        """How far the target is on its way from the start (0) to the posterior (1)."""
        return float(self._get("annealed").get_value())

    @annealed.setter
    def annealed(self, share: float) -> None:
        self._set("annealed", share)

    @property
    def average(self) -> NDArray[np.floating]:
        """Mean of the iterates since `begin_average`."""
        return np.asarray(self._get("average").get_value())

    def begin_average(self) -> None:
        """Forget the iterates so far."""
        self._set("averaged", 0)

    def restart(self) -> None:
        """Give the optimiser its first state, and the draws their first seed."""
        self._loop.restart(self._seed)

    @property
    def losses(self) -> NDArray[np.float64]:
        """Losses of all steps so far."""
        return self._losses.so_far

    def _get(self, name: str) -> Any:
        return self._shared[name]

    def _set(self, name: str, value: Any) -> None:
        shared = self._get(name)
        shared.set_value(np.asarray(value, dtype=shared.type.dtype))
