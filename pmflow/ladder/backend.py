"""What trains a flow soonest at the end: chosen by what is installed and by the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

from pmflow.graphs.machine import has_jax, without_jax
from pmflow.posterior.density import LogDensity, shared_densities
from pmflow.training.options import FitOptions
from pmflow.watch import Watch

__all__ = ["as_asked", "with_backend"]

_QUICK_WORK = 50_000
"""Numbers that a gradient at one point goes through, up to which NumPy is quick enough: no machine
code is worth its compilation then."""


def with_backend(options: FitOptions, density: LogDensity) -> FitOptions:
    """The options with a backend, where the user has left it open.

    JAX compiles in seconds what takes numba minutes. Without JAX, no compiler where a step is a
    matter of few numbers: most models need few steps.

    Parameters
    ----------
    options : FitOptions
    density : LogDensity
        The density of the model.
    """
    if options.backend or options.compile_kwargs:
        return options
    if has_jax():
        return replace(options, backend="jax")
    if density.work <= _QUICK_WORK:
        return replace(options, compile_kwargs={"mode": "FAST_COMPILE"})
    return options


@contextmanager
def as_asked(options: FitOptions) -> Iterator[Watch]:
    """What a whole fit is made in: its watch, one density for a model, and no JAX for others.

    Within another one it joins that.
    """
    is_kept_out = options.backend not in (None, "jax")
    out = without_jax() if is_kept_out else nullcontext()
    with options.watching() as watch, shared_densities(), out:
        yield watch
