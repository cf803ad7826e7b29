"""Whether the limit does pmflow's work: ``python -m tests.benchmarks.speed.check``.

Compares the log densities written for JAX with those of the PyMC models at random points; the loss
of every variant of the limit with pmflow's, at parameters that pmflow has fitted; and on row A the
losses at the end of 5,000 steps from the same start.
"""

from __future__ import annotations

import sys
from itertools import product
from typing import Any

import jax
import numpy as np
import pymc as pm

from . import data
from .densities import build_densities
from .hand_jax import Trainer, Variant, parse_formula
from .models import build_model
from .rows import ROWS, Row
from .subjects_pmflow import Pmflow

__all__ = ["compare_densities", "compare_ends", "compare_losses"]

_TOLERANCE = 1e-9
_ERRORS = 4
"""So many standard errors may lie between two losses."""

_ORDER = {"planar": ("b", "u", "w"), "hh": ("v",), "scale": ("rho",), "loc": ("loc",)}
_RADON = (
    *("intercept", "floor", "county_sd_log__", "county_floor_sd_log__", "sigma_log__"),
    *("county_raw_zerosum__", "county_floor_raw_zerosum__"),
)


def compare_densities() -> float:
    """Largest relative difference over ten points of each target but the regression."""
    rng = np.random.default_rng(1)
    worst = 0.0
    for target in ("potential_1", "potential_4", "normal-10", "radon"):
        model = build_model(target)
        log_p, shapes = model.compile_logp(), model.initial_point()
        names = _RADON if target == "radon" else tuple(shapes)
        for density, _ in product(build_densities(target), range(10)):
            point = {name: rng.normal(size=shapes[name].shape) for name in names}
            flat = np.concatenate([np.ravel(x) for x in point.values()])
            expected, got = float(log_p(point)), float(density.log_density(flat, ()))
            worst = max(worst, abs(got - expected) / abs(expected))
    return worst


def _flat_params(subject: Pmflow, row: Row) -> np.ndarray:
    """Parameters of pmflow in the order of the limit's vector."""
    approx = subject.inference.approx
    values = dict(zip(approx.param_names, (p.get_value() for p in approx.params), strict=True))
    parts, place = [], 0
    for word, count in parse_formula(row.formula):
        places = range(place, place + count)
        parts += [values[f"{name}_{i}"] for name in _ORDER[word] for i in places]
        place += count
    flat = np.concatenate([np.ravel(part) for part in parts])
    return _as_limit(flat, subject, row) if row.target == "radon" else flat


def _as_limit(flat: np.ndarray, subject: Pmflow, row: Row) -> np.ndarray:
    """Coordinates of each vector of the radon model in the limit's order."""
    (group,) = subject.inference.approx.groups
    slices = {name: place for name, (_, place, *_) in group.ordering.items()}
    order = np.concatenate([np.arange(173)[slices[name]] for name in _RADON])
    return flat.reshape(-1, 173)[:, order].ravel()


def compare_losses(row: Row, repeats: int = 2_000) -> float:
    """Largest difference between the limit's loss and pmflow's, in standard errors."""
    subject = Pmflow(row, backend="jax")
    subject.start()
    subject.run(3_000)
    params = _flat_params(subject, row)
    inference = subject.inference
    still = pm.sgd(learning_rate=1e-300)
    before = len(inference.hist)
    inference.fit(repeats, obj_n_mc=row.draws, obj_optimizer=still, progressbar=False)
    # pmflow's loss is scaled to the minibatch, as PyMC's
    scale = data.REGRESSION_ROWS / data.BATCH if row.target == "regression" else 1.0
    theirs, worst = scale * inference.hist[before:], 0.0
    densities = build_densities(row.target)
    for density, last, scan, block in product(
        range(len(densities)), (True, False), (True, False), (1, 100)
    ):
        variant = Variant(density=density, draws_last=last, scan_layers=scan, block=block)
        trainer = Trainer(row, densities[density], variant, params=params, rate=0.0)
        trainer.run(repeats)
        error = np.sqrt((theirs.var() + trainer.losses.var()) / repeats)
        worst = max(worst, float(abs(theirs.mean() - trainer.losses.mean()) / error))
    return worst


def compare_ends(row: Row, steps: int = 5_000) -> tuple[float, float]:
    """Mean of the last 1,000 losses of pmflow and of the limit from the same start."""
    subject = Pmflow(row, backend="jax")
    subject.start()
    trainer = Trainer(
        row, build_densities(row.target)[0], Variant(), params=_flat_params(subject, row)
    )
    subject.run(steps)
    trainer.run(steps)
    return subject.loss(), float(trainer.losses[-1_000:].mean())


def main() -> None:
    """Run from the command line."""
    update: Any = jax.config.update
    update("jax_enable_x64", True)
    worst = compare_densities()
    print(f"log densities: largest relative difference {worst:.1e}, allowed {_TOLERANCE:.0e}")
    failed = worst > _TOLERANCE
    for row in ROWS.values():
        errors = compare_losses(row)
        print(f"{row.name}: losses differ by {errors:.1f} standard errors, allowed {_ERRORS}")
        failed = failed or errors > _ERRORS
    ours, limit = compare_ends(ROWS["A"])
    print(f"A: last losses from the same start: pmflow {ours:.4f}, the limit {limit:.4f}")
    if failed:
        sys.exit("the limit does not do the same work")


if __name__ == "__main__":
    main()
