"""Random starts of a flow: one after the other here, or each in a process or on a machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from pmflow.errors import BackendError, NonFiniteError, ParameterError
from pmflow.family.approximation import Approximation
from pmflow.family.placed_flow import START_SPREAD
from pmflow.family.state import FlowPoint
from pmflow.records import FitState, Outcome
from pmflow.starts.executors import NOTHING_DONE, Lost, check_executor, done_by
from pmflow.starts.restarts import StartsState
from pmflow.training.options import FitOptions

if TYPE_CHECKING:
    from pmflow.inference.nfvi import NFVI

__all__ = ["FitOnce", "check_elsewhere", "random_starts", "start_seeds"]

type Move = Callable[[], None]
type FitOnce = Callable[[StartsState], FitState | None]

_LOCK = threading.Lock()


@dataclass(frozen=True)
class _Start:
    """One start, for a worker.

    Attributes
    ----------
    packed : bytes
        By cloudpickle, the inference and its options: the same for all starts.
    seed : int or None
        None for the first one, where the flow is.
    spread : float
    """

    packed: bytes
    seed: int | None
    spread: float


@dataclass(frozen=True, eq=False)
class _Ended:
    """Where the fit from a start has ended, and why it failed if it did."""

    point: FlowPoint
    rng: Any
    outcome: Outcome
    failure: NonFiniteError | None


def check_elsewhere(options: FitOptions) -> None:
    """Refuse an executor for what it can't do.

    Raises
    ------
    ParameterError
    """
    if options.executor is None:
        return
    check_executor(options.executor)
    if options.restarts < 2:
        raise ParameterError(
            "executor= makes the fits of several starts side by side, but restarts=1. Give "
            "restarts=16, say, or leave executor= out."
        )
    for name in ("callbacks", "checkpoint", "devices"):
        if getattr(options, name):
            raise ParameterError(
                f"executor= has fits made in other processes, where {name}= can't follow. "
                "Leave one of them out."
            )


def start_seeds(approx: Approximation, options: FitOptions) -> tuple[int, ...]:
    """A seed for each start beside the first."""
    found = approx.rng.randint(2**30, size=options.restarts - 1, dtype=np.int64)
    return tuple(found.tolist())


def random_starts(
    inference: NFVI, options: FitOptions, seeds: Sequence[int], fit_once: FitOnce
) -> tuple[list[Move], FitOnce]:
    """Further starts, and how to fit from each, for `fit_from_starts`.

    What comes of a start depends on the flow and on the seed of the start, not on other starts.

    Parameters
    ----------
    inference : NFVI
    options : FitOptions
        Filled in for the approximation.
    seeds : sequence of int
    fit_once : callable
        How it is done here.
    """
    # the start of an annealed fit covers its neighbourhood itself
    spread = 0.0 if options.anneal else START_SPREAD
    if options.executor is None or not seeds:
        return [partial(_begin, inference, seed, spread) for seed in seeds], fit_once
    import cloudpickle

    # nobody asks a worker's executor for anything: it marks a fit that is made anywhere alike
    alone = replace(options, executor="a worker of one", progressbar=False)
    packed = cloudpickle.dumps((inference, alone))
    pieces = [_Start(packed, seed, spread) for seed in (None, *seeds)]
    ended = done_by(options.executor, _made, pieces)
    return [_nothing] * len(seeds), partial(_taken, inference, ended, len(pieces))


def _begin(inference: NFVI, seed: int, spread: float) -> None:
    inference.approx.rng.seed(seed)
    inference.approx.groups[0].move(seed, spread)


def _nothing() -> None:
    """The move to a start that a worker goes to."""


def _taken(
    inference: NFVI, ended: Iterator[tuple[int, Any, int]], number: int, at: StartsState
) -> FitState | None:
    """What the next worker has come to, as if it had been done here."""
    _, found, _ = next(ended)
    if isinstance(found, Lost):
        if at.number + 1 == number and not at.points:
            raise BackendError(f"{NOTHING_DONE}: {found.why}")
        raise NonFiniteError(f"its worker was lost twice. {found.why}")
    if isinstance(found, Exception):
        raise found
    inference.approx.go_to(found.point)
    inference.approx.rng.set_state(found.rng)
    state = inference.take_on(inference.so_far.then(found.outcome))
    if found.failure is not None:
        raise found.failure
    return state


def _made(start: _Start) -> _Ended | Exception:
    """What an executor's worker does."""
    try:
        # threads of BLAS in several processes wait for each other
        with _LOCK, threadpool_limits(1, user_api="blas"):
            inference, options, point, rng = _unpacked(start.packed)
            approx = inference.approx
            approx.go_to(point)
            approx.rng.set_state(rng)
            if start.seed is not None:
                _begin(inference, start.seed, start.spread)
            inference.take_on(Outcome())
            failure = None
            try:
                inference.fit_once(options)
            except NonFiniteError as error:
                failure = error
            return _Ended(approx.point, approx.rng.get_state(), inference.so_far, failure)
    except Exception as error:  # raised where it was asked for: what a worker raises is a lost one
        return error


@lru_cache(maxsize=1)
def _unpacked(packed: bytes) -> tuple[NFVI, FitOptions, FlowPoint, Any]:
    """Made once in a worker, so that it compiles once; and where it begins."""
    import cloudpickle

    inference, options = cloudpickle.loads(packed)
    approx = inference.approx
    return inference, options, approx.point, approx.rng.get_state()
