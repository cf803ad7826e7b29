"""Compiling a loop on the backend asked for, or on the next one that can."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytensor
from pytensor.compile.mode import Mode, get_mode
from pytensor.link.basic import Linker
from pytensor.link.jax.linker import JAXLinker
from pytensor.link.numba.linker import NumbaLinker
from pytensor.link.vm import VMLinker

from pmflow.graphs.evaluate import for_numpy, while_compiling
from pmflow.training.loops.jax import JaxLoop
from pmflow.training.loops.loop import Loop, ScanLoop, StepLoop, Trace
from pmflow.training.step import Step
from pmflow.watch import piece

__all__ = ["compile_loop"]

type Attempt = tuple[type[Loop], dict[str, Any]]


def compile_loop(
    step: Step, *, record: bool, compile_kwargs: dict[str, Any], seed: int
) -> tuple[Loop, Trace]:
    """Compile a loop of steps, and do the first step.

    Numba and JAX compile when first called, so that only a first step tells whether they can.
    Where they can't, the next attempt is made; the last one calls the compiled step from a loop in
    Python. A warning says which attempt it was and why.

    Parameters
    ----------
    step : Step
    record : bool
        Whether to record parameters and gradients.
    compile_kwargs : dict
        For `pymc.compile`: its ``mode`` says the backend.
    seed : int

    Returns
    -------
    loop : Loop
    first : Trace
        What the first step left behind.

    Raises
    ------
    Exception
        That of the first attempt, if all fail.
    """
    failed: list[tuple[str, Exception]] = []
    for kind, kwargs in _attempts(compile_kwargs):
        try:
            # notes on where each node was made double with every layer of a deep graph
            with piece(f"compiling by {_describe(kind, kwargs)}"):
                with while_compiling():
                    loop = kind(step, record=record, compile_kwargs=kwargs)
                loop.restart(seed)
                first = loop.advance(1)
        except Exception as error:  # a compiler may raise anything
            failed.append((_describe(kind, kwargs), error))
            continue
        if failed:
            _warn(failed, _describe(kind, kwargs))
        return loop, first
    raise failed[0][1]


def _attempts(compile_kwargs: dict[str, Any]) -> Iterator[Attempt]:
    linker = _linker(compile_kwargs)
    if isinstance(linker, JAXLinker):
        yield JaxLoop, compile_kwargs
        others = {k: v for k, v in compile_kwargs.items() if k != "mode"}
        if not isinstance(_linker(others), JAXLinker):
            yield from _attempts(others)
    elif _is_compiled(linker):
        yield ScanLoop, compile_kwargs
        yield StepLoop, compile_kwargs
    if isinstance(linker, NumbaLinker) and pytensor.config.cxx:
        yield StepLoop, compile_kwargs | {"mode": get_mode("CVM")}
    yield StepLoop, compile_kwargs | {"mode": _python_mode(compile_kwargs, linker)}


def _linker(compile_kwargs: dict[str, Any]) -> Linker:
    return get_mode(compile_kwargs.get("mode")).linker


def _is_compiled(linker: Linker) -> bool:
    """Whether a scan over steps would run as machine code."""
    if isinstance(linker, NumbaLinker):
        return True
    return isinstance(linker, VMLinker) and bool(linker.c_thunks) and bool(pytensor.config.cxx)


def _python_mode(compile_kwargs: dict[str, Any], linker: Linker) -> Mode:
    if isinstance(linker, JAXLinker | NumbaLinker) or _is_compiled(linker):
        return for_numpy(get_mode("FAST_COMPILE"))
    return for_numpy(get_mode(compile_kwargs.get("mode")))


def _describe(kind: type[Loop], compile_kwargs: dict[str, Any]) -> str:
    linker = _linker(compile_kwargs)
    backend = next(
        (
            name
            for name, cls in (("numba", NumbaLinker), ("jax", JAXLinker))
            if isinstance(linker, cls)
        ),
        "c" if _is_compiled(linker) else "python",
    )
    return f"{backend}, one call a step" if kind is StepLoop else backend


def _warn(failed: list[tuple[str, Exception]], used: str) -> None:
    name, error = failed[0]
    # PyTensor appends the graph and hints to what went wrong: the first line says it
    reason = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
    warnings.warn(
        f"The steps of this model can't be compiled by {name} "
        f"({type(error).__name__}: {reason.strip()[:300]}). "
        f"The fit goes on with {used}: the same mathematics, slower.",
        stacklevel=4,
    )
