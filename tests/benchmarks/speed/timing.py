"""How speed is measured, the same way for every subject."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["Subject", "measure_subject", "peak_mib", "time_call"]

_FIRST_PROBE = 10
_RUNS = 3


class Subject(Protocol):
    """Something that carries out steps of optimisation.

    Attributes
    ----------
    note : str
        What is to be said of it beside its numbers.
    """

    note: str

    def start(self) -> None:
        """Build, compile and do the first step, or the first ten where steps come in runs."""

    def run(self, steps: int) -> int:
        """Do this many more steps, or a few more, wait for them, and say how many they were."""

    def loss(self) -> float | None:
        """Mean of the last losses of the last run, 1,000 at most; None where it has none."""


def time_call(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds a call takes, and what it returns."""
    begin = time.perf_counter()
    result = call()
    return time.perf_counter() - begin, result


def measure_subject(subject: Subject, *, seconds: float) -> dict[str, Any]:
    """Compile, warm up, and do three runs of at least `seconds` each.

    The run before each timed one has the same length: subjects that compile anew for a new number
    of steps do so there.
    """
    compile_seconds, _ = time_call(subject.start)
    steps = _FIRST_PROBE
    while True:
        subject.run(steps)
        elapsed, steps = time_call(lambda n=steps: subject.run(n))  # type: ignore[misc]
        if elapsed >= seconds:
            break
        wanted = math.ceil(1.2 * steps * seconds / max(elapsed, 1e-9))
        steps = min(max(wanted, 2 * steps), 100 * steps)
    rates = [steps / elapsed]
    for _ in range(_RUNS - 1):
        elapsed, done = time_call(lambda n=steps: subject.run(n))  # type: ignore[misc]
        rates.append(done / elapsed)
    return {
        "compile_s": compile_seconds,
        "steps_per_s": sorted(rates)[len(rates) // 2],
        "runs": rates,
        "steps_a_run": steps,
        "loss": subject.loss(),
        "peak_mib": peak_mib(),
        "note": subject.note,
    }


def peak_mib() -> float:
    """Largest memory that this process has held so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
