"""Is the verdict on fits of large models honest? Models whose moments are known.

``python -m tests.benchmarks.honesty_large [--only NAME]``

Each model has one global variable, the log of a scale, and 60 to 1,500 local ones. Given the scale
the local ones are independent, by themselves or in pairs, or a walk, so that all moments are
integrals over one to three dimensions (`exact`); or they are a Gaussian process or a field on a map
seen through counts, whose moments are those of a long run (`sampled`). Each is fitted by
`pmflow.EmbeddedLaplace` and by `pmflow.SparseGaussian`; the fits are judged as they are, without
their corrections, and made wrong in ways that are known.

- *Bad*: the mean of a coordinate, over the unconstrained space, is off by more than 0.1 sd, or an
  sd by more than 15 %.
- *Good*: all means are within 0.05 sd, all sds within 5 %.
- *Between*: neither; run and listed, but judged by no rule.

The rule: of the bad ones none is called reliable. ``results/honesty_large.json`` has every run,
``results/honesty_large.md`` the table.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import pmflow as pmf
from pmflow.embedded.choices import CHOICES, chosen_at
from pmflow.embedded.factor import DenseFactor, Factor, SparseFactor
from pmflow.embedded.given import Given
from pmflow.embedded.low_rank_factor import DiagonalFactor, LowRankFactor
from pmflow.embedded.nested import Nested
from pmflow.ladder.climb import Climb
from pmflow.ladder.nested import NestedRung
from pmflow.ladder.rung import NothingGained
from pmflow.ladder.sparse import SparseRung
from pmflow.training.options import FitOptions
from pmflow.watch import watching

from .exact import Exact, counted_walk, hierarchy, pairs, walk
from .sampled import field, process

__all__ = ["PROBLEMS", "fits", "run"]

type Floats = NDArray[np.float64]

_RESULTS = Path(__file__).parents[1] / "results"
_REPEATS = 16
"""Choices among draws of blocks, at each value of the scale, whose moments are averaged."""
BAD_MEAN, BAD_SD, GOOD_MEAN, GOOD_SD = 0.1, 0.15, 0.05, 0.05

PROBLEMS: dict[str, Any] = {
    f"{kind}, {groups} groups, {size} each, scale {scale}": (hierarchy, (kind, groups, size, scale))
    for kind in ("normal", "poisson", "binomial")
    for groups, size, scale in (
        (100, 1, 0.5),
        (100, 4, 1.0),
        (400, 2, 0.7),
        (400, 10, 0.3),
        (1_500, 1, 1.0),
        (1_500, 6, 0.5),
    )
}
PROBLEMS |= {
    f"walk, {steps} steps of {scale}": (walk, (steps, scale))
    for steps, scale in ((100, 0.3), (100, 1.0), (400, 0.2), (1_000, 0.5))
}
PROBLEMS |= {
    f"pairs, {kind}, {groups} groups, {rows} each, scale {scale}": (
        pairs,
        (kind, groups, rows, scale),
    )
    for kind in ("poisson", "bernoulli")
    for groups, rows, scale in ((60, 12, 0.8), (250, 5, 0.5), (250, 5, 1.2))
}
PROBLEMS |= {
    f"process, {kind}, {points} points, amplitude {amplitude}": (process, (kind, points, amplitude))
    for kind in ("poisson", "bernoulli")
    for points, amplitude in ((60, 0.6), (60, 1.5), (120, 1.0))
}
PROBLEMS |= {
    f"counted walk, {kind}, {steps} steps of {scale}": (counted_walk, (kind, steps, scale))
    for kind in ("poisson", "bernoulli")
    for steps, scale in ((150, 0.4), (400, 0.3), (1_000, 0.3))
}
PROBLEMS |= {
    f"field, {kind}, {side} by {side} areas, amplitude {scale}": (field, (kind, side, scale))
    for kind, side, scale in (("poisson", 8, 0.7), ("poisson", 10, 0.7), ("bernoulli", 12, 1.5))
}


def fits(exact: Exact, seed: int) -> Iterator[tuple[str, Any]]:
    """Fits of a model, in words; what could not be fitted is left out."""
    for rung, ways in ((NestedRung(), _of_nested), (SparseRung(), _of_gaussian)):
        try:
            with watching(progressbar=False):
                made = rung.climb(Climb(exact.model, seed, None, FitOptions()), None, None)
        except NothingGained:
            continue
        yield f"{rung.name}, as it is", made
        state = made.to_state()
        for name, changed in ways(state):
            yield f"{rung.name}, {name}", type(made).from_state(changed, exact.model)


def _of_nested(state: Any) -> Iterator[tuple[str, Any]]:
    nested = state.nested
    flat = np.zeros_like(nested.pull)
    yield (
        "not corrected",
        replace(state, nested=replace(nested, correction=np.zeros(1), pull=flat)),
    )
    if nested.locals_by == "weights":
        gaussian = replace(nested, locals_by="gaussian")
        yield "local variables not weighed", replace(state, nested=gaussian)
    else:
        yield "means not corrected", replace(state, nested=replace(nested, pull=flat))
    sds = nested.sds  # given the scale
    precision = np.linalg.inv(nested.centre.factor.solve(np.eye(len(sds))))
    for size in (0.08, 0.15, 0.3):
        sloped = np.zeros(max(2, len(nested.correction)))
        sloped[: len(nested.correction)] = nested.correction
        sloped[1] += size
        name = f"marginal moved by {size} sd"
        yield name, replace(state, nested=replace(nested, correction=sloped))
        moved = nested.pull.copy()
        moved[0] += precision @ (size * sds)
        yield f"local means moved by {size} sd", replace(state, nested=replace(nested, pull=moved))
    alone = nested.pull.copy()
    alone[0] += precision[:, 7] * 0.3 * sds[7]
    yield "one local mean moved by 0.3 sd", replace(state, nested=replace(nested, pull=alone))


def _of_gaussian(state: Any) -> Iterator[tuple[str, Any]]:
    gaussian = state.gaussian
    size = len(gaussian.mean)
    sds = np.sqrt((gaussian.factor.coloured(np.eye(size)) ** 2).sum(0))
    for share in (0.08, 0.3):
        moved = replace(gaussian, mean=gaussian.mean + share * sds)
        yield f"means moved by {share} sd", replace(state, gaussian=moved)
    alone = gaussian.mean.copy()
    alone[7] += 0.3 * sds[7]
    yield "one mean moved by 0.3 sd", replace(state, gaussian=replace(gaussian, mean=alone))
    for factor in (0.8, 1.07, 1.25):
        wider = _with_sds(gaussian.factor, factor)
        yield f"sds times {factor}", replace(state, gaussian=replace(gaussian, factor=wider))


def _with_sds(factor: Factor, times: float) -> Factor:
    """The factor of a Gaussian that is so many times as wide."""
    if isinstance(factor, LowRankFactor):
        base = _with_sds(factor.base, times)
        return replace(factor, base=base, gained=factor.gained / times**2)
    if isinstance(factor, SparseFactor | DiagonalFactor):
        return replace(factor, diagonal=factor.diagonal / times**2)
    assert isinstance(factor, DenseFactor)
    return replace(factor, root=factor.root / times)


def moments(made: Any) -> tuple[Floats, Floats]:
    """Mean and sd of each coordinate of an approximation, over the unconstrained space."""
    if isinstance(made, pmf.SparseGaussian):
        gaussian = made.gaussian
        columns = gaussian.factor.coloured(np.eye(len(gaussian.mean)))
        return gaussian.mean, np.sqrt((columns**2).sum(0))
    nested = made._nested
    unit, inner = nested.state.unit, nested.conditional.locals
    (outer,) = nested.conditional.globals
    at = float(unit.mean[0]) + float(unit.factor[0, 0]) * np.linspace(-14.0, 8.0, 177)
    every = zip(at, nested.each(at[:, None]), strict=True)
    # where no mode is found there is no density
    known = [(t, place) for t, place in every if np.isfinite(place.log_marginal[0])]
    at, places = np.array([t for t, _ in known]), [place for _, place in known]
    logs = np.array([place.log_marginal[0] for place in places])
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    rng = np.random.default_rng(0)
    given = (_given(nested, place, rng) for place in places)
    means, spreads = map(np.stack, zip(*given, strict=True))
    mean, second = np.empty((2, len(inner) + 1))
    mean[outer], second[outer] = weights @ at, weights @ at**2
    mean[inner], second[inner] = weights @ means, weights @ (means**2 + spreads)
    return mean, np.sqrt(second - mean**2)


def _given(nested: Nested, place: Given, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Means and variances of the local variables at one place."""
    inner = nested.conditional.locals
    middle = place.z[0, inner]
    if nested.state.locals_by == "curves":
        assert place.curves is not None
        away, variances = place.curves[0].moments()
        return middle + away, variances
    if nested.state.locals_by == "gaussian":
        return middle, (place.factor.coloured(np.eye(len(inner))) ** 2).sum(0)
    chosen = [chosen_at(nested.conditional, place, 1, rng) for _ in range(_REPEATS)]
    shares = np.concatenate([one.weights for one in chosen]) / (_REPEATS * CHOICES)
    away = np.concatenate([one.deviation for one in chosen])
    mean = (shares * away).sum(0)
    return middle + mean, (shares * away**2).sum(0) - mean**2


def run(exact: Exact, made: Any, seed: int) -> dict[str, Any]:
    """How wrong a fit is, and what is said of it."""
    mean, sd = moments(made)
    errors = np.abs(mean - exact.mean) / exact.sd
    ratios = np.abs(sd / exact.sd - 1)
    found = pmf.diagnose(made, random_seed=seed)
    is_bad = errors.max() > BAD_MEAN or ratios.max() > BAD_SD
    is_good = errors.max() < GOOD_MEAN and ratios.max() < GOOD_SD
    return {
        "quality": "bad" if is_bad else "good" if is_good else "between",
        "verdict": found.verdict,
        "mean_error": round(float(errors.max()), 3),
        "mean_error_of_scale": round(float(errors[0]), 3),
        "sd_error": round(float(ratios.max()), 3),
        "reasons": list(found.reasons),
    }


def main() -> None:
    """Run all, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="problems whose name has this")
    parser.add_argument("--seeds", type=int, default=1)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    began, found = time.perf_counter(), []
    for name, (build, arguments) in PROBLEMS.items():
        if chosen.only not in name:
            continue
        exact = build(*arguments)
        for seed in range(1, 1 + chosen.seeds):
            for what, made in fits(exact, seed):
                one = {"problem": name, "seed": seed, "fit": what, **run(exact, made, 100 + seed)}
                found.append(one)
                print(
                    f"{one['quality']:8}{one['verdict']:15}{one['mean_error']:7.3f}"
                    f"{one['mean_error_of_scale']:7.3f}{one['sd_error']:7.3f}  {name}: {what}",
                    flush=True,
                )
    text = table(found)
    print(text, f"\n{time.perf_counter() - began:.0f} s")
    if not chosen.only:
        (_RESULTS / "honesty_large.json").write_text(json.dumps(found, indent=1) + "\n")
        (_RESULTS / "honesty_large.md").write_text(text + "\n")


def table(found: list[dict[str, Any]]) -> str:
    """How many of each quality were called what."""
    lines = ["| fits | of them called *reliable* | *not reliable* |", "|---|---|---|"]
    for quality in ("good", "between", "bad"):
        verdicts = [one["verdict"] for one in found if one["quality"] == quality]
        counts = [verdicts.count(verdict) for verdict in ("reliable", "not reliable")]
        lines.append(f"| {quality}: {len(verdicts)} | {counts[0]} | {counts[1]} |")
    return "\n".join(lines)
