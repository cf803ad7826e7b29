"""Flows that were made before, for other fits of the same model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pymc as pm

from pmflow.family.normalizing_flow import NormalizingFlow
from pmflow.frames.frame import Frame
from pmflow.records import Report

__all__ = ["flow_in", "reused_flows"]

type Flows = dict[str, NormalizingFlow]

_known: ContextVar[Flows | None] = ContextVar("flows", default=None)


@contextmanager
def reused_flows(known: Flows) -> Iterator[None]:
    """Within it, a flow in a frame is one of these, by formula, put there; new ones join them.

    So what was compiled for it is there. For fits of one model, each of which is over, and kept as
    a state, before the next one begins.
    """
    token = _known.set(known)
    try:
        yield
    finally:
        _known.reset(token)


def flow_in(
    frame: Frame | None, formula: str, model: pm.Model, seed: int, start: Mapping[str, Any] | None
) -> NormalizingFlow:
    """A flow without jitter in a frame, made or used again."""
    known = _known.get()
    found = None if known is None else known.get(formula)
    if found is not None and frame is not None:
        found.groups[0].anew(frame, seed)
        found.receive(Report())
        return found
    made = NormalizingFlow(
        formula, model=model, random_seed=seed, start=start, jitter=0.0, frame=frame
    )
    if known is not None and frame is not None:
        known[formula] = made
    return made
