"""What a tracker costs, and how much memory training and drawing take."""

from __future__ import annotations

import json
import sys
from typing import Any

import pymc as pm

import pmflow as pmf

from .launch import report
from .models import build_model
from .rows import LEARNING_RATE, ROWS
from .timing import peak_mib, time_call

__all__ = ["measure_memory_of_draws", "measure_memory_of_training", "measure_tracker"]

_REPEATS = 3


def _first_step(formula: str, draws: int, backend: str, *, tracked: bool = False) -> pmf.NFVI:
    model = build_model(ROWS["A"].target)
    inference = pmf.NFVI(formula, model=model, random_seed=1)
    inference.fit(
        1,
        obj_n_mc=draws,
        obj_optimizer=pm.adam(learning_rate=LEARNING_RATE),
        callbacks=[pmf.Tracker(inference)] if tracked else None,
        backend=backend,
        progressbar=False,
    )
    return inference


def measure_tracker(backend: str, steps: int, *, tracked: bool) -> dict[str, Any]:
    """Seconds for so many steps of one draw of planar*2, after as many to warm up."""
    inference = _first_step("planar*2", 1, backend, tracked=tracked)
    runs = [
        time_call(lambda: inference.refine(steps, progressbar=False))[0]
        for _ in range(_REPEATS + 1)
    ][1:]
    return {"seconds": sorted(runs)[len(runs) // 2], "steps": steps, "peak_mib": peak_mib()}


def measure_memory_of_training(backend: str, draws: int, steps: int) -> dict[str, Any]:
    """Peak memory of planar*8 trained with many draws a step."""
    before = peak_mib()
    inference = _first_step("planar*8", draws, backend)
    seconds, _ = time_call(lambda: inference.refine(steps, progressbar=False))
    return {"before_mib": before, "peak_mib": peak_mib(), "seconds": seconds}


def measure_memory_of_draws(draws: int) -> dict[str, Any]:
    """Seconds and peak memory of drawing from planar*8."""
    model = build_model(ROWS["A"].target)
    approx = pmf.NormalizingFlow("planar*8", model=model, random_seed=1)
    approx.sample(10)  # compiles
    before = peak_mib()
    seconds, _ = time_call(lambda: approx.sample(draws))
    return {"before_mib": before, "peak_mib": peak_mib(), "seconds": seconds}


_KINDS = {
    "tracker": measure_tracker,
    "memory of training": measure_memory_of_training,
    "memory of draws": measure_memory_of_draws,
}

if __name__ == "__main__":
    report(_KINDS[sys.argv[1]](**json.loads(sys.argv[2])))  # type: ignore[operator]
