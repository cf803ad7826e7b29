"""How JAX compiles for pmflow: soon, and once for all processes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytensor
from pytensor.graph.fg import FunctionGraph

__all__ = ["as_jax", "compiled_by_xla"]

_LEVEL = 1
"""Of XLA's optimisation of machine code for CPUs. Its default, 3, takes 1.5 to 2 times as long to
compile, and what it compiles is no faster: ``python -m tests.benchmarks.xla``."""

_WORTH_KEEPING = 0.1
"""Seconds of compilation from which machine code is kept on disk."""

_MOST_KEPT = 2**30
"""Bytes that are kept; what was used least recently goes first."""


def as_jax(graph: FunctionGraph) -> Callable[..., Any]:
    """A graph as a function of JAX, and no word on checks, which what is traced can not have.

    What they check is part of the values by then, see `checks_as_values`, or of shapes.
    """
    from pytensor.link.jax.dispatch import jax_funcify  # also makes JAX count in 64 bits

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Skipping .* Op \(assertion:")
        found: Callable[..., Any] = jax_funcify(graph)
    return found


def compiled_by_xla(function: Callable[..., Any], **how: Any) -> Callable[..., Any]:
    """A function of JAX, compiled when first called and kept on disk for the next process.

    The folder is JAX's own compilation cache, where the user has one
    (``jax_compilation_cache_dir``), or ``jax`` in PyTensor's ``compiledir``. JAX has one cache a
    process: what the user compiles by JAX from then on is kept there too.
    ``JAX_ENABLE_COMPILATION_CACHE=false`` turns all of it off.

    Parameters
    ----------
    function : callable
    **how
        For `jax.jit`.
    """
    import jax

    _keep_on_disk()
    options = {"xla_backend_optimization_level": _LEVEL}
    is_cpu = jax.default_backend() == "cpu"
    return jax.jit(function, compiler_options=options if is_cpu else None, **how)


def _keep_on_disk() -> None:
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    if jax.config.jax_compilation_cache_dir is not None:
        return
    settings = {
        # with a limit of size JAX locks the folder, so that two processes may write to it
        "jax_compilation_cache_max_size": _MOST_KEPT,
        "jax_persistent_cache_min_compile_time_secs": _WORTH_KEEPING,
        "jax_compilation_cache_dir": str(Path(pytensor.config.compiledir) / "jax"),
    }
    for name, value in settings.items():
        jax.config.update(name, value)  # type: ignore[no-untyped-call]
    # JAX asks once whether there is a folder, when it first compiles; importing PyTensor's
    # dispatch to JAX 0.5 compiles
    compilation_cache.reset_cache()
