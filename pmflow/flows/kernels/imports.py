"""Kernels of pmflow's Ops for numba and JAX, loaded when a backend is about to need them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from pytensor.compile import optdb
from pytensor.graph.op import HasInnerGraph, Op
from pytensor.graph.rewriting.basic import GraphRewriter

__all__ = ["register_kernels", "with_kernels"]

_modules: dict[type[Op], str] = {}


def with_kernels[T: type[Op]](name: str) -> Callable[[T], T]:
    """Say that the modules ``<name>_numba`` and ``<name>_jax`` have kernels for a class of Ops.

    Importing numba or JAX takes a second and more, so these modules are imported when a graph with
    such an Op is compiled. Each has a function ``register`` that tells PyTensor.
    """

    def decorate(cls: T) -> T:
        _modules[cls] = name
        return cls

    return decorate


def register_kernels(graph: Any, backend: str) -> None:
    """Load the kernels for a backend, "numba" or "jax", of the Ops that a graph has.

    Those of inner graphs count: rewrites take what is constant out of a scan.
    """
    for node in graph.apply_nodes:
        if type(node.op) in _modules:
            import_module(f"pmflow.flows.kernels.{_modules[type(node.op)]}_{backend}").register()
        elif isinstance(node.op, HasInnerGraph):
            register_kernels(node.op.fgraph, backend)


class _Register(GraphRewriter):
    """Changes no graph: PyTensor calls it when it compiles one for a backend."""

    def __init__(self, backend: str) -> None:
        self._backend = backend

    def apply(self, fgraph: Any) -> None:
        register_kernels(fgraph, self._backend)


optdb.register("pmflow_numba_kernels", _Register("numba"), "numba", position=0)
optdb.register("pmflow_jax_kernels", _Register("jax"), "jax", position=0)
