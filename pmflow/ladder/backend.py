"""What trains a flow soonest at the end: chosen by what is installed and by the model."""

from __future__ import annotations

from dataclasses import replace

from pmflow.graphs.machine import has_jax
from pmflow.posterior.density import LogDensity
from pmflow.training.options import FitOptions

__all__ = ["with_backend"]

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
