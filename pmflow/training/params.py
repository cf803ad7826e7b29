"""The trained parameters as one vector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.tensor.variable import TensorVariable

__all__ = ["ParamVector"]


class ParamVector:
    """Named parameters laid end to end in one shared vector, which the training changes.

    Two dozen small parameters with Adam are 74 states of a loop, one vector has three: it compiles
    faster and runs faster. The named shared variables stay what users see; `pull` and `push` carry
    values between them and the vector.

    Parameters
    ----------
    params : sequence of shared variable
        Parameters of any shapes, unconstrained.

    Attributes
    ----------
    vector : shared variable, shape (size,)
    """

    def __init__(self, params: Sequence[SharedVariable]) -> None:
        self.params = tuple(params)
        self._shapes = [p.get_value(borrow=True).shape for p in self.params]
        ends = np.cumsum([int(np.prod(shape)) for shape in self._shapes])
        self._slices = [slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
        values = self._gather()
        self.vector = pytensor.shared(values, "params", shape=values.shape)
        self._pushed = values

    def replacements(self) -> dict[SharedVariable, TensorVariable]:
        """Each parameter as a slice of the vector."""
        return dict(zip(self.params, self.parts(self.vector), strict=True))

    def parts(self, vector: TensorVariable) -> list[TensorVariable]:
        """The graph of such a vector, by parameter."""
        return [
            vector[place].reshape(shape).astype(p.dtype)
            for p, place, shape in zip(self.params, self._slices, self._shapes, strict=True)
        ]

    @staticmethod
    def join(values: Sequence[TensorVariable]) -> TensorVariable:
        """Graphs in the shapes of the parameters, as one vector."""
        return pt.concatenate([value.ravel() for value in values])

    def split(self, rows: NDArray[np.floating]) -> list[NDArray[np.floating]]:
        """Rows of the vector, shape (n, size), by parameter: each of shape (n, *shape)."""
        return [
            rows[:, place].reshape(-1, *shape)
            for place, shape in zip(self._slices, self._shapes, strict=True)
        ]

    def pull(self) -> None:
        """Take over values that a callback or the user gave to named parameters."""
        values = self._gather()
        if not np.array_equal(values, self._pushed):
            self.vector.set_value(values)
            self._pushed = values

    def push(self) -> None:
        """Show the values of the vector in the named parameters."""
        self._pushed = self.vector.get_value()
        for param, value in zip(self.params, self.split(self._pushed[None]), strict=True):
            param.set_value(value[0].astype(param.dtype))

    def _gather(self) -> NDArray[np.floating]:
        return np.concatenate([p.get_value(borrow=True).ravel() for p in self.params])
