"""Layers as NumPy functions: each graph is built once, and run as it is written.

PyTensor's rewrites take nine tenths of the time of a graph that is evaluated a few times. That they
change nothing is a test of its own (`test_contract.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.compile.mode import Mode
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.rewriting.basic import in2out, node_rewriter
from pytensor.graph.traversal import applys_between
from pytensor.scalar.basic import second
from pytensor.scan.op import Scan
from pytensor.tensor.rewriting.basic import local_second_to_alloc
from pytensor.tensor.variable import TensorVariable

from pmflow.flows import AbstractLayer
from pmflow.graphs.evaluate import changed_flags, without_notes

type Array = NDArray[np.floating[Any]]
type Values = Mapping[str, Array]


@node_rewriter([Scan])
def _fills_of_scans(_: FunctionGraph, node: Apply) -> list[Variable] | None:
    inner = node.op.fgraph.unfreeze()
    if not any(getattr(each.op, "scalar_op", None) == second for each in inner.apply_nodes):
        return None
    in2out(local_second_to_alloc).rewrite(inner)
    return node.op.clone_with_inner_graph(inner)(*node.inputs, return_list=True)


def as_written(inputs: Sequence[Variable], outputs: Sequence[Variable]) -> Callable[..., Any]:
    """Compile for Python without rewrites, but for one of what scans would do number by number."""
    has_scan = any(isinstance(node.op, Scan) for node in applys_between(inputs, outputs))
    with changed_flags(cxx="", traceback__limit=0):
        mode = Mode(linker="vm", optimizer=in2out(_fills_of_scans) if has_scan else None)
        return pytensor.function(
            list(inputs), without_notes(outputs), mode=mode, on_unused_input="ignore"
        )


@dataclass(frozen=True)
class NumericLayer:
    """A layer whose methods take and return arrays; parameters are passed by name."""

    layer: AbstractLayer
    dim: int
    batch_ndim: int
    dtype: str

    @cached_property
    def z(self) -> TensorVariable:
        return pt.tensor("z", dtype=self.dtype, shape=(None,) * self.batch_ndim + (self.dim,))

    @cached_property
    def params(self) -> dict[str, TensorVariable]:
        shapes = self.layer.param_shapes(self.dim)
        return {name: pt.tensor(name, dtype=self.dtype, shape=s) for name, s in shapes.items()}

    @cached_property
    def _forward_graph(self) -> tuple[TensorVariable, TensorVariable]:
        with pytensor.config.change_flags(floatX=self.dtype):
            return self.layer.forward(self.z, self.params)

    @cached_property
    def _forward(self) -> Any:
        return as_written([self.z, *self.params.values()], self._forward_graph)

    @cached_property
    def _inverse(self) -> Any:
        with pytensor.config.change_flags(floatX=self.dtype):
            z = self.layer.inverse(self.z, self.params)
        return as_written([self.z, *self.params.values()], [z])

    @cached_property
    def _score(self) -> Any:
        score = self.z.type("score")
        with pytensor.config.change_flags(floatX=self.dtype):
            outputs = self.layer.forward_with_score(self.z, self.params, score)
        return as_written([score, self.z, *self.params.values()], outputs)

    @cached_property
    def _score_by_inverse(self) -> Any:
        """Of standard normal points: the gradient of their images' log density, by autodiff."""
        z0 = self.layer.inverse(self.z, self.params)
        logq = -0.5 * (z0**2).sum(-1) - self.layer.forward(z0, self.params)[1]
        score = pt.grad(logq.sum(), self.z)
        return as_written([self.z, *self.params.values()], [score, logq])

    @cached_property
    def _jacobian(self) -> Any:
        """Row i of every point's Jacobian, from one gradient: no point depends on another."""
        z_new, _ = self._forward_graph
        rows = [pt.grad(z_new[..., i].sum(), self.z) for i in range(self.dim)]
        return as_written([self.z, *self.params.values()], [pt.stack(rows, axis=-2)])

    @cached_property
    def _gradient(self) -> Any:
        z_new, log_det = self._forward_graph
        weights = self.z.type("weights")
        loss = (weights * z_new).sum() + log_det.sum()
        wrt = [self.z, *self.params.values()]
        grads = pt.grad(loss, wrt, disconnected_inputs="ignore")
        return as_written([weights, *wrt], grads)

    def _call(self, function: Any, z: Array, values: Values) -> list[Array]:
        arrays = [np.asarray(a, self.dtype) for a in (z, *(values[name] for name in self.params))]
        return function(*arrays)

    def forward(self, z: Array, values: Values) -> tuple[Array, Array]:
        z_new, log_det = self._call(self._forward, z, values)
        return z_new, log_det

    def inverse(self, z: Array, values: Values) -> Array:
        return self._call(self._inverse, z, values)[0]

    def jacobian(self, z: Array, values: Values) -> Array:
        """Derivative of z_new[i] by z[j] at every point, shape (*batch, dim, dim), by autodiff."""
        return self._call(self._jacobian, z, values)[0]

    def with_score(self, z: Array, values: Values, score: Array) -> tuple[Array, Array, Array]:
        score = np.asarray(score, self.dtype)
        z_new, log_det, score = self._call(lambda *a: self._score(score, *a), z, values)
        return z_new, log_det, score

    def score_and_logq_by_inverse(self, z: Array, values: Values) -> tuple[Array, Array]:
        """At points on the posterior's side, for a standard normal base (logq up to a constant)."""
        score, logq = self._call(self._score_by_inverse, z, values)
        return score, logq

    def gradient(self, z: Array, values: Values) -> dict[str, Array]:
        """Gradient of ``(weights * z_new).sum() + log_det.sum()``, the weights all different."""
        weights = np.cos(np.arange(1, z.size + 1.0)).reshape(z.shape).astype(self.dtype)
        grads = self._call(lambda *a: self._gradient(weights, *a), z, values)
        return dict(zip(["z", *self.params], grads, strict=True))


@cache
def numeric(
    layer: AbstractLayer, dim: int, batch_ndim: int = 1, dtype: str = "float64"
) -> NumericLayer:
    """Return the layer as NumPy functions, compiled at most once in a test run."""
    return NumericLayer(layer, dim, batch_ndim, dtype)


def start(layer: AbstractLayer, dim: int, jitter: float, seed: int = 0) -> dict[str, Array]:
    """Parameters as a fit would start with them."""
    return dict(layer.init_params(dim, jitter, np.random.default_rng(seed)))


def random_params(
    layer: AbstractLayer, dim: int, scale: float = 1.0, seed: int = 0
) -> dict[str, Array]:
    """Parameters drawn about zero, wherever the layer itself would start."""
    rng = np.random.default_rng(seed)
    shapes = layer.param_shapes(dim)
    return {name: np.asarray(scale * rng.standard_normal(s)) for name, s in shapes.items()}


def points(*shape: int, seed: int = 1) -> NDArray[np.float64]:
    """Points twice as spread as the base, the last axis being theirs."""
    return 2 * np.random.default_rng(seed).standard_normal(shape)
