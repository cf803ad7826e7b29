"""What a schedule takes hold of between steps."""

from __future__ import annotations

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

    def put(self, params: NDArray[np.floating]) -> None:
        """Go on from other parameters, shape (size,)."""
        self._loop.step.params.vector.set_value(params)
        self._loop.step.params.push()

    @property
    def accumulate(self) -> int:
        """Steps whose mean gradient makes one step of the parameters."""
        return int(self._shared["accumulate"].get_value())

    def set(self, **handles: float) -> None:
        """Set the step size ``learning_rate``, ``accumulate``, or ``annealed``.

        The last is how far the target is on its way from the start (0) to the posterior (1).
        """
        for name, value in handles.items():
            shared = self._shared[name]
            shared.set_value(np.asarray(value, dtype=shared.type.dtype))

    @property
    def average(self) -> NDArray[np.floating]:
        """Mean of the iterates since `begin_average`."""
        return np.asarray(self._shared["average"].get_value())

    def begin_average(self) -> None:
        """Forget the iterates so far."""
        self.set(averaged=0)

    def restart(self) -> None:
        """Give the optimiser its first state, and the draws their first seed."""
        self._loop.restart(self._seed)

    @property
    def losses(self) -> NDArray[np.float64]:
        """Losses of all steps so far."""
        return self._losses.so_far
