"""One answer for one model of the catalogue, in a process of its own."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["main"]

_DRAWS = 4_000
_GOOD_R_HAT = 1.01
_GOOD_ESS = 400


def _built(path: Path, name: str) -> Any:
    os.chdir(path)  # models read data beside them
    sys.path.insert(0, str(path))
    np.random.seed(0)  # noqa: NPY002 - some models make their data by it
    model, _ = importlib.import_module(f"models.{name}").build_model()
    return model


def _pmflow(model: Any, seed: int) -> tuple[Any, dict[str, Any]]:
    import pmflow as pmf

    approx = pmf.fit(model=model, random_seed=seed, progressbar=False)
    found, ladder = approx.diagnosis, approx.ladder
    return approx, {
        "verdict": found.verdict,
        "summary": found.summary,
        "taken": str(ladder.rungs[ladder.taken].formula),
        "rungs": [(str(r.formula), round(r.seconds, 2)) for r in ladder.rungs],
        "times": {k: round(v, 2) for k, v in ladder.times.items()},
    }


def _nutpie(model: Any, seed: int) -> tuple[Any, dict[str, Any]]:
    import nutpie

    compiled = nutpie.compile_pymc_model(model)
    return _sampled(compiled, 1_000, seed), {"compiled": compiled}


def _sampled(compiled: Any, draws: int, seed: int) -> Any:
    import nutpie

    return nutpie.sample(
        compiled, draws=draws, tune=draws, chains=4, seed=seed, progress_bar=False
    ).posterior


def _health(draws: Any, names: list[str]) -> dict[str, float]:
    import arviz as az

    free = draws.to_dataset()[names] if hasattr(draws, "to_dataset") else draws[names]
    r_hat, ess = az.rhat(free), az.ess(free)
    return {
        "r_hat": float(max(np.nanmax(r_hat[n].values) for n in names)),
        "ess": float(min(np.nanmin(ess[n].values) for n in names)),
    }


def _moments(draws: Any, names: list[str]) -> dict[str, Any]:
    found = {}
    for name in names:
        x = np.asarray(draws[name].values, dtype=float)
        x = x.reshape(x.shape[0] * x.shape[1], -1)
        found[f"{name}.mean"], found[f"{name}.sd"] = x.mean(0), x.std(0)
    return found


def _answer(path: Path, name: str, what: str, seed: int, kept: Path) -> dict[str, Any]:
    model = _built(path, name)
    names = [v.name for v in model.free_RVs]
    if what == "pmflow":
        import pmflow  # noqa: F401 - its import is no part of the answer
    else:
        import nutpie  # noqa: F401
    said: dict[str, Any] = {"dim": sum(int(v.size) for v in model.initial_point().values())}
    began, cpu = time.perf_counter(), time.process_time()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        found, about = (_pmflow if what == "pmflow" else _nutpie)(model, seed)
        said |= {"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu}
    said["warnings"] = sorted({f"{w.category.__name__}: {w.message}" for w in heard})
    if what == "pmflow":
        draws = found.sample(_DRAWS, random_seed=seed, var_names=names)["posterior"]
        said |= about
    else:
        draws, health = found, _health(found, names)
        if health["r_hat"] > _GOOD_R_HAT or health["ess"] < _GOOD_ESS:
            draws = _sampled(about["compiled"], 4_000, seed + 1)
            health = _health(draws, names)
        said |= health
    np.savez(kept, **_moments(draws, names))
    return said


def main(path: str, name: str, what: str, seed: str, kept: str) -> None:
    """Print what came of it as a line of JSON; the moments go into a file."""
    try:
        said = _answer(Path(path), name, what, int(seed), Path(kept))
    except Exception as error:  # whatever it is, the board says it
        said = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
