"""What is to be measured: one entry for each child process."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from .jobs import JOBS, KEEPS_NOTHING
from .rows import DRAWS_AXIS, GROWTH, ROWS, Row, growth_row
from .subjects import SUBJECTS

__all__ = ["SECTIONS", "Measurement", "make_plan"]

SECTIONS = (*ROWS, "D", "G", "jobs", "tracker", "memory")
"""What may be asked for by name; D is D1 and D20."""

_BACKENDS = ("numba", "jax")


@dataclass(frozen=True)
class Measurement:
    """A child process.

    Attributes
    ----------
    key : str
        Under which the result is kept.
    module : str
    arguments : tuple of str
    cache : str
        Measurements with the same word share a cache of what was compiled, in this order, and the
        first of them finds it empty. An empty word: a cache of its own.
    """

    key: str
    module: str
    arguments: tuple[str, ...]
    cache: str = ""


def make_plan(
    sections: Collection[str], subjects: Collection[str], *, quick: bool
) -> list[Measurement]:
    """Everything asked for, in the order in which it is measured."""
    plan: list[Measurement] = []
    seconds = 0.1 if quick else 1.2
    for row in ROWS.values():
        if row.name in sections or (row.name.startswith("D") and "D" in sections):
            plan += _row(row, seconds, cache="quick" if quick else "")
    if "G" in sections:
        plan += _growth(seconds, quick=quick)
    if "jobs" in sections:
        plan += _jobs(quick=quick)
    if "tracker" in sections:
        plan += _tracker(quick=quick)
    if "memory" in sections:
        plan += _memory(quick=quick)
    words = [word.lower() for word in subjects]
    return [m for m in plan if not words or any(word in m.key.lower() for word in words)]


def _row(row: Row, seconds: float, cache: str) -> Iterator[Measurement]:
    for name, entry in SUBJECTS.items():
        if row.name in entry.rows:
            yield _child(row, name, seconds, cache)


def _child(row: Row, subject: str, seconds: float, cache: str) -> Measurement:
    spec = {"row": asdict(row), "subject": subject, "seconds": seconds}
    return Measurement(f"row {row.name} / {subject}", "child", (json.dumps(spec),), cache)


def _growth(seconds: float, *, quick: bool) -> Iterator[Measurement]:
    for axis, values in GROWTH.items():
        for backend in _BACKENDS:
            for value in values[:2] if quick else values:
                yield _child(growth_row(axis, value), f"pmflow {backend}", seconds, "growth")


def _jobs(*, quick: bool) -> Iterator[Measurement]:
    for job, subjects in JOBS.items():
        for subject in subjects:
            arguments = (job, subject, *(["quick"] if quick else []))
            if subject in KEEPS_NOTHING:
                yield Measurement(f"job {job} / {subject}", "jobs", arguments)
                continue
            for state in ("cold", "warm"):
                key, cache = f"job {job} / {subject}, {state}", f"job {job} {subject}"
                yield Measurement(key, "jobs", arguments, cache)


def _tracker(*, quick: bool) -> Iterator[Measurement]:
    for backend in _BACKENDS:
        for state in ("off", "on"):
            options = {"backend": backend, "steps": 300 if quick else 30_000}
            yield _watch(f"tracker {backend} {state}", "tracker", options, tracked=state == "on")


def _memory(*, quick: bool) -> Iterator[Measurement]:
    for backend in _BACKENDS:
        options = {"backend": backend, "draws": 10_000, "steps": 2 if quick else 20}
        what = "memory of training"
        yield _watch(f"{what}, {backend}, planar*8, 10,000 {DRAWS_AXIS} a step", what, options)
    draws = 10_000 if quick else 1_000_000
    what = "memory of draws"
    yield _watch(f"{what}, planar*8, {draws:,} {DRAWS_AXIS}", what, {"draws": draws})


def _watch(key: str, kind: str, options: dict[str, Any], **more: bool) -> Measurement:
    return Measurement(key, "watching", (kind, json.dumps({**options, **more})), "watching")
