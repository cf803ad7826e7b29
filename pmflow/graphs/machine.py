"""A density and its gradient at many points, compiled to machine code by JAX.

Where JAX is installed this takes about a second, and a density with scans, matrices or many rows is
then some ten to a thousand times as fast as its graph run by NumPy.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.compile.builders import OpFromGraph
from pytensor.compile.mode import get_mode, optdb
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.replace import clone_replace
from pytensor.graph.rewriting.basic import in2out, node_rewriter
from pytensor.graph.rewriting.db import RewriteDatabaseQuery
from pytensor.graph.traversal import graph_inputs
from pytensor.tensor.basic import integer_dtypes
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.rewriting.blockwise import local_useless_unbatched_blockwise

from pmflow.graphs.devices import Layout, chosen_layout
from pmflow.graphs.evaluate import opened, ready_to_compile, static_input, while_compiling
from pmflow.graphs.work import has_loops, numbers_in
from pmflow.graphs.workarounds.structure import SEARCHES, without_search_for_structure
from pmflow.graphs.workarounds.vectorized import for_xla
from pmflow.graphs.xla import as_jax, compiled_by_xla

__all__ = [
    "HeldOnDevice",
    "NotCompiledError",
    "compiled_at_points",
    "compiled_by_numba",
    "has_jax",
    "without_jax",
]

type Floats = NDArray[np.floating[Any]]
type Gradient = Literal["jax", "pytensor", "none"]


class NotCompiledError(Exception):
    """JAX or numba can't compile the graph; the message says why."""


_is_wanted = ContextVar("is_wanted", default=True)


@contextmanager
def without_jax() -> Iterator[None]:
    """Keep JAX out of this thread for a while: a process in which it has run must not be forked."""
    token = _is_wanted.set(False)
    try:
        yield
    finally:
        _is_wanted.reset(token)


def has_jax() -> bool:
    """Whether JAX is installed and wanted."""
    return _is_wanted.get() and importlib.util.find_spec("jax") is not None


def compiled_at_points(
    point: Variable, value: Variable, batch: int, *, gradient: Gradient = "jax"
) -> Callable[[Floats], tuple[Floats, ...]]:
    """Compile a scalar graph of a vector, and its gradient, for points of shape (batch, dim).

    Data in shared variables are read at each call. The compilation is done here, by a first call.

    Parameters
    ----------
    point : Variable, shape (dim,)
    value : Variable, shape ()
    batch : int
        How many points a call takes.
    gradient : {"jax", "pytensor", "none"}
        Who differentiates. PyTensor takes longer; JAX's gradient is NaN where the side of a switch
        that is not taken is infinite.

    Returns
    -------
    callable
        ``points -> (values, gradients)``, of shapes (batch,) and (batch, dim); or ``(values,)``.

    Raises
    ------
    NotCompiledError
        If an Op has no translation, or the graph is not one that JAX can run.
    """
    try:
        return _Compiled(point, value, batch, gradient)
    except NotCompiledError:
        raise
    except Exception as error:
        # whatever an Op's translation raises: there is no narrower class to catch
        raise NotCompiledError(f"{type(error).__name__}: {error}") from error


def compiled_by_numba(point: Variable, value: Variable) -> Callable[..., list[Any]]:
    """Compile a scalar graph of a vector, and its gradient, for one point by numba.

    For functions of single numbers that are loops: a series that does not converge goes through a
    million terms, which takes NumPy minutes. The compilation, ten seconds and more with an empty
    cache, is done here.

    Parameters
    ----------
    point : Variable, shape (dim,)
    value : Variable, shape ()

    Returns
    -------
    callable
        ``point -> [value, gradient]``

    Raises
    ------
    NotCompiledError
        If numba can't.
    """
    gradient = pt.grad(value, point, disconnected_inputs="ignore")
    mode = without_search_for_structure(get_mode("NUMBA"))
    try:
        with while_compiling():
            graphs = ready_to_compile([value, gradient])
            function = pm.compile([point], graphs, mode=mode, random_seed=False)
        function(np.zeros(point.type.shape, dtype=point.type.dtype))
    except Exception as error:
        raise NotCompiledError(f"{type(error).__name__}: {error}") from error
    return function


class _Compiled:
    """A scalar graph of a vector; compiled anew where data change their shape, or a length."""

    def __init__(self, point: Variable, value: Variable, batch: int, gradient: Gradient) -> None:
        if has_loops([value]):
            raise NotCompiledError("a special function is a loop, which JAX runs slowly on a CPU")
        outputs = [value]
        if gradient == "pytensor":
            outputs.append(pt.grad(value, point, disconnected_inputs="ignore"))
        self._point, self._outputs, self._gradient = point, ready_to_compile(outputs), gradient
        shared = [v for v in graph_inputs(self._outputs) if isinstance(v, SharedVariable)]
        # lengths of dims: JAX must know the shapes of arrays before it runs
        self._lengths = [v for v in shared if v.ndim == 0 and v.dtype in integer_dtypes]
        self._shared = [v for v in shared if v not in self._lengths]
        self._batch = batch
        self._run, self._shapes = self._compile(), self._shapes_now()
        self(np.zeros((batch, point.type.shape[0]), dtype=point.type.dtype))

    def __call__(self, points: Floats) -> tuple[Floats, ...]:
        """Values at points of shape (batch, dim), and gradients."""
        shapes = self._shapes_now()
        if shapes != self._shapes:
            self._run, self._shapes = self._compile(), shapes
        return tuple(map(np.asarray, self._run(points, *self._held.values())))

    def _shapes_now(self) -> list[tuple[int, ...] | int]:
        shapes = [np.shape(v.get_value(borrow=True)) for v in self._shared]
        return [*shapes, *(int(v.get_value(borrow=True)) for v in self._lengths)]

    def _compile(self) -> Callable[..., Any]:
        import jax

        # of static shape, so that lengths are numbers to JAX and not traced
        inputs = {v: static_input(v) for v in self._shared}
        known = {v: pt.constant(v.get_value(), dtype=v.dtype) for v in self._lengths}
        outputs = clone_replace(self._outputs, {**inputs, **known}, rebuild_strict=False)
        graph = FunctionGraph([self._point, *inputs.values()], outputs, clone=True)
        with while_compiling(cxx=""):
            _rewrite(graph)
            if self._gradient == "pytensor":
                without_search_for_structure(get_mode("JAX")).optimizer.rewrite(graph)
            for_xla(graph)
            translated = as_jax(graph)

        shapes = [v.type.shape for v in inputs.values()]
        layout = chosen_layout(
            self._batch,
            self._batch * self._point.type.shape[0],
            shapes,
            lambda: 3 * self._batch * numbers_in(self._outputs[:1]),
        )
        self._held = HeldOnDevice(self._shared, layout)

        def scalar(z: Any, *data: Any) -> Any:
            return translated(z, *data)[0]

        run = jax.value_and_grad(scalar) if self._gradient == "jax" else translated
        at_points = jax.vmap(run, in_axes=(0, *(None for _ in inputs)))

        def laid(points: Any, *data: Any) -> Any:
            return at_points(layout.spread(points, 0), *layout.whole(data, shapes))

        return compiled_by_xla(laid, **layout.of_results)


class HeldOnDevice:
    """Values of shared variables on JAX's device, carried there once for as long as they last.

    The value of the shared variable counts: what anybody else puts there is carried over.
    """

    def __init__(self, shared: Sequence[SharedVariable], layout: Layout) -> None:
        self._shared, self._layout = shared, layout
        self._known: dict[SharedVariable, tuple[Any, Any]] = {}
        self._left: set[SharedVariable] = set()

    def values(self) -> list[Any]:
        """Those of now."""
        for variable in self._shared:
            value = variable.get_value(borrow=True)
            if self._known.get(variable, (None, None))[0] is not value:
                self._known[variable] = (value, self._layout.held(value))
                self._left.discard(variable)
        return [self._known[variable][1] for variable in self._shared]

    def take(self, values: Sequence[Any], *, leave: Set[SharedVariable]) -> None:
        """New values that are on the device: the shared variables get them, but for some."""
        for variable, value in zip(self._shared, values, strict=True):
            self._known[variable] = (variable.get_value(borrow=True), value)
            self._left.add(variable)
        self.fetch(self._left - leave)

    def fetch(self, variables: Set[SharedVariable] | None = None) -> None:
        """Give shared variables what was left on the device, all of them by default."""
        for variable in self._left if variables is None else variables:
            host, value = self._known[variable]
            if variable.get_value(borrow=True) is host:
                host = np.array(value)
                variable.set_value(host, borrow=True)
                self._known[variable] = (host, value)
        self._left -= self._left if variables is None else variables


def _rewrite(graph: FunctionGraph) -> None:
    """Write the graph so that it is stable: no more, since XLA does the rest."""
    in2out(_open_graphs, name="open_graphs").rewrite(graph)
    stable = RewriteDatabaseQuery(
        include=["ShapeOpt", "canonicalize", "stabilize"],
        exclude=["cxx_only", "inplace", "fusion", *SEARCHES],
    )
    optdb.query(stable).rewrite(graph)
    in2out(_open_graphs, name="open_graphs").rewrite(graph)
    # JAX's translation of a batch that is none fails at numbers that are known, such as lengths
    in2out(local_useless_unbatched_blockwise, name="no_batch").rewrite(graph)


@node_rewriter([OpFromGraph, Blockwise])
def _open_graphs(_: FunctionGraph, node: Apply) -> list[Variable] | None:
    """An Op that is a graph of its own, such as LogAddExp, as that graph, batched or not."""
    return opened(node)
