"""Whole jobs, as a user runs them: import, fit, draws. The parent times the process.

Jobs: A is planar*8 on potential 1, 25,000 steps of 100 draws; D is mean field on the radon model,
20,000 steps of one draw. Both end with 1,000 draws.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

from .launch import report
from .rows import LEARNING_RATE, ROWS
from .timing import time_call

__all__ = ["JOBS", "KEEPS_NOTHING"]

_STEPS = {"A": 25_000, "D": 20_000}
_DRAWS = 1_000
_QUICK = 100

JOBS = {
    "A": ("pmflow numba", "pmflow jax", "PyMC loop numba", "PyMC loop c", "NumPyro"),
    "D": ("pmflow numba", "pmflow jax", "pm.ADVI numba", "pm.ADVI c", "NumPyro"),
}
"""Who does which job."""

KEEPS_NOTHING = ("NumPyro",)
"""Subjects whose second run is as the first: they cache nothing on disk."""


def _pmflow(row: Any, steps: int, backend: str) -> tuple[Any, Callable[[], Any]]:
    import pymc as pm

    import pmflow as pmf

    from .models import build_model

    inference = pmf.NFVI(row.formula, model=build_model(row.target), random_seed=1)
    optimizer = pm.adam(learning_rate=LEARNING_RATE)
    approx = inference.fit(
        steps,
        obj_n_mc=row.draws,
        obj_optimizer=optimizer,
        backend=backend,
        progressbar=False,
    )
    return inference.hist, lambda: approx.sample(_DRAWS)


def _pymc(row: Any, steps: int, backend: str, *, advi: bool) -> tuple[Any, Callable[[], Any]]:
    import pymc as pm

    import pmflow as pmf

    from .models import build_model

    model = build_model(row.target)
    if advi:
        inference = pm.ADVI(model=model, random_seed=1)
    else:
        approx = pmf.NormalizingFlow(row.formula, model=model, random_seed=1)
        inference = pm.KLqp(approx)
    approx = inference.fit(
        steps,
        obj_n_mc=row.draws,
        obj_optimizer=pm.adam(learning_rate=LEARNING_RATE),
        backend=backend,
        progressbar=False,
    )
    return inference.hist, lambda: approx.sample(_DRAWS)


def _numpyro(row: Any, steps: int) -> tuple[Any, Callable[[], Any]]:
    import jax

    from .subjects_numpyro import build_svi

    guide = "AutoIAFNormal" if row.target.startswith("potential") else "AutoNormal"
    svi, arguments = build_svi(row, guide=guide)
    result = svi.run(jax.random.key(1), steps, *arguments, progress_bar=False)

    def sample() -> Any:
        key = jax.random.key(2)
        draws = svi.guide.sample_posterior(key, result.params, sample_shape=(_DRAWS,))
        return jax.tree.map(lambda x: x.tolist(), draws)

    return result.losses, sample


def run_job(job: str, subject: str, *, steps: int) -> dict[str, Any]:
    """Do one job in this process."""
    row = ROWS[{"A": "A", "D": "D1"}[job]]
    name, _, backend = subject.rpartition(" ")
    fits: dict[str, Callable[[], Any]] = {
        "pmflow": lambda: _pmflow(row, steps, backend),
        "PyMC loop": lambda: _pymc(row, steps, backend, advi=False),
        "pm.ADVI": lambda: _pymc(row, steps, backend, advi=True),
        "": lambda: _numpyro(row, steps),
    }
    packages = ("pymc", "pmflow") if name else ("jax", "numpyro.infer")
    import_s, _ = time_call(lambda: [importlib.import_module(x) for x in packages])
    fit_s, (losses, sample) = time_call(fits[name])
    sample_s, _ = time_call(sample)
    seconds = {"import_s": import_s, "fit_s": fit_s, "sample_s": sample_s}
    return {**seconds, "loss": float(losses[-1_000:].mean())}


def main() -> None:
    """Run from the command line: job, subject, and ``quick`` for a few steps only."""
    job, subject, *rest = sys.argv[1:]
    report(run_job(job, subject, steps=_QUICK if "quick" in rest else _STEPS[job]))


if __name__ == "__main__":
    main()
