"""A flow as a function for NumPy, of its parameters and of normal numbers."""

from __future__ import annotations

from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.replace import clone_replace
from pytensor.tensor.variable import TensorVariable

from pmflow.graphs.evaluate import compile_once
from pmflow.training.params import ParamVector
from pmflow.watch import piece

__all__ = ["Flow", "FlowMap", "map_of"]

type Floats = NDArray[np.float64]


class Flow(Protocol):
    """What is fitted: a flow over all variables of a model."""

    ddim: int
    noise_length: int
    params: list[SharedVariable]

    def drawn(self, noise: TensorVariable) -> tuple[TensorVariable, TensorVariable]:
        """Draws, shape (draws, dim), and log q of each, from normal numbers."""


class FlowMap:
    """A flow as a function of its parameters and of normal numbers, compiled for NumPy.

    The model is no part of it: it is as quick to compile for a large model as for a small one.

    Parameters
    ----------
    flow : Flow

    Attributes
    ----------
    is_of_few : ndarray of bool, shape (params,)
        Which parameters are in an array with a few for each coordinate.
    """

    def __init__(self, flow: Flow) -> None:
        self._vector = ParamVector(flow.params)
        # of few parameters a coordinate
        sizes = [p.get_value(borrow=True).size for p in flow.params]
        self.is_of_few = np.repeat([size <= 4 * flow.ddim for size in sizes], sizes)
        with piece("compiling the flow for NumPy"):
            self._compile(flow)

    def _compile(self, flow: Flow) -> None:
        dtype = self._vector.vector.dtype
        values = pt.vector("values", shape=self.values.shape, dtype=dtype)
        noise = pt.matrix("noise", shape=(None, flow.noise_length), dtype=dtype)
        slope = pt.matrix("slope", shape=(None, flow.ddim), dtype=dtype)
        replaced: Any = dict(zip(flow.params, self._vector.parts(values), strict=True))
        z, logq = clone_replace(list(flow.drawn(noise)), replaced, rebuild_strict=False)
        loss = (logq.sum() - (z * slope).sum()) / noise.shape[0]
        gradient = pt.grad(loss, values, disconnected_inputs="ignore")
        self._drawn = compile_once([values, noise], [z, logq], rewrites="none")
        self._gradient = compile_once([values, noise, slope], [gradient], rewrites="values")
        self._dtype = dtype

    @property
    def values(self) -> Floats:
        """The parameters as they are now, shape (params,), unconstrained."""
        return np.asarray(self._vector.vector.get_value(), dtype=float)

    def pull(self) -> None:
        """Take over the parameters that the flow has now."""
        self._vector.pull()

    def set(self, values: Floats) -> None:
        """Give the flow these parameters."""
        self._vector.vector.set_value(values.astype(self._dtype))
        self._vector.push()

    def drawn(self, values: Floats, noise: Floats) -> tuple[Floats, Floats]:
        """Draws and log q of each, shapes (n, dim) and (n,)."""
        with np.errstate(all="ignore"):
            z, logq = self._drawn(values.astype(self._dtype), noise.astype(self._dtype))
        return np.asarray(z, dtype=float), np.asarray(logq, dtype=float)

    def gradient(self, values: Floats, noise: Floats, slope: Floats) -> Floats:
        """Gradient of the average log q - log p; `slope` is that of log p at the draws."""
        given = (x.astype(self._dtype) for x in (values, noise, slope))
        with np.errstate(all="ignore"):
            (found,) = self._gradient(*given)
        return np.asarray(found, dtype=float)


_known: WeakKeyDictionary[Flow, FlowMap] = WeakKeyDictionary()


def map_of(flow: Flow) -> FlowMap:
    """The map of a flow where it is now; it is compiled once."""
    if flow not in _known:
        _known[flow] = FlowMap(flow)
    _known[flow].pull()
    return _known[flow]
