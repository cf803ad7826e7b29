"""NUTS in the space of a fit beside NUTS: ``python -m tests.benchmarks.nuts [--seeds 3]``.

`pmflow.sample` and `pymc.sample`, both by nutpie with four chains of 1,000 draws and no other
options, on ten posteriors: seven hard ones, three ordinary ones. Effective draws are those of the
variable that has the fewest (`arviz.ess`, bulk). Seconds of sampling are those that nutpie tells,
tuning included; the others are of the whole call, fit and compilation included, in one process in
which every model is compiled for the first time. Nothing else may run on the machine.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np
import pymc as pm
from xarray import DataTree

import pmflow as pmf
from pmflow.demo import eight_schools

_TO = Path(__file__).parent / "results" / "nuts.md"


def centred_schools() -> pm.Model:
    """The eight schools of Rubin (1981), whose funnel NUTS enters only halfway."""
    effects = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    errors = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
    with pm.Model() as model:
        mu, tau = pm.Normal("mu", 0, 5), pm.HalfCauchy("tau", 5)
        theta = pm.Normal("theta", mu, tau, shape=8)
        pm.Normal("y", theta, errors, observed=effects)
    return model


def funnel() -> pm.Model:
    """Neal's, of ten dimensions."""
    with pm.Model() as model:
        v = pm.Normal("v", 0, 3)
        pm.Normal("x", 0, pm.math.exp(v / 2), shape=9)
    return model


def banana() -> pm.Model:
    """A bent normal in two dimensions, turned."""
    with pm.Model() as model:
        w = pm.Flat("w", shape=2)
        along = np.cos(0.7) * w[0] - np.sin(0.7) * w[1]
        across = np.sin(0.7) * w[0] + np.cos(0.7) * w[1]
        pm.Potential("bent", -((along / 3) ** 2) / 2 - (across - 0.3 * (along**2 - 9)) ** 2 / 2)
    return model


def horseshoe() -> pm.Model:
    """A regression with 20 predictors of which 3 matter."""
    rng = np.random.default_rng(1)
    x, slopes = rng.normal(size=(100, 20)), np.zeros(20)
    slopes[:3] = 3.0, -2.0, 1.5
    y = x @ slopes + rng.normal(size=100)
    with pm.Model() as model:
        tau, local = pm.HalfCauchy("tau", 1), pm.HalfCauchy("local", 1, shape=20)
        b, noise = pm.Normal("b", 0, tau * local, shape=20), pm.HalfNormal("noise", 2)
        pm.Normal("y", x @ b, noise, observed=y)
    return model


def walk() -> pm.Model:
    """A random walk of 200 steps, seen with noise."""
    rng = np.random.default_rng(2)
    y = np.cumsum(rng.normal(size=200) * 0.3) + rng.normal(size=200)
    with pm.Model() as model:
        step, noise = pm.HalfNormal("step", 1), pm.HalfNormal("noise", 1)
        start = pm.Normal.dist(0, 5)
        x = pm.GaussianRandomWalk("x", sigma=step, init_dist=start, shape=200)
        pm.Normal("y", x, noise, observed=y)
    return model


def of_posteriordb(name: str) -> pm.Model:
    """One of the ordinary ones."""
    posteriors = import_module("tests.benchmarks.accuracy.posteriors")
    found: pm.Model = posteriors.ALL[name].build()
    return found


def large(name: str) -> pm.Model:
    """One of the large ones."""
    found: pm.Model = import_module(f"tests.benchmarks.large.models.{name}").build_model()[0]
    return found


MODELS: dict[str, Callable[[], pm.Model]] = {
    "eight schools, centred": centred_schools,
    "funnel": funnel,
    "banana": banana,
    "horseshoe": horseshoe,
    "random walk": walk,
    "stochastic volatility": lambda: large("volatility"),
    "item response": lambda: large("item_response"),
    "eight schools": eight_schools,
    "kilpisjarvi": lambda: of_posteriordb("kilpisjarvi_mod-kilpisjarvi"),
    "mesquite": lambda: of_posteriordb("mesquite-mesquite"),
}


def effective(idata: DataTree, names: list[str]) -> tuple[float, float]:
    """The fewest effective draws and the largest R-hat of some variables."""
    few, rhat = az.ess(idata, var_names=names), az.rhat(idata, var_names=names)
    return min(float(few[n].min()) for n in names), max(float(rhat[n].max()) for n in names)


@dataclass(frozen=True)
class Counted:
    """What came of one call."""

    ess: float
    rhat: float
    divergences: int
    sampling: float
    whole: float
    space: str


def run(call: Callable[[], DataTree], names: list[str]) -> Counted:
    """One call, counted."""
    began = time.perf_counter()
    idata = call()
    whole = time.perf_counter() - began
    attrs, stats = idata.posterior.attrs, idata.sample_stats
    lost, seconds = int(stats["diverging"].sum()), float(attrs["sampling_time"])
    return Counted(*effective(idata, names), lost, seconds, whole, attrs.get("space", "model"))


def row(name: str, pairs: list[tuple[Counted, Counted]]) -> str:
    """One line of the table, from the calls of all seeds."""
    both = list(zip(*pairs, strict=True))
    of_sampling = [(x.ess / x.sampling) / (y.ess / y.sampling) for x, y in pairs]
    of_all = [(x.ess / x.whole) / (y.ess / y.whole) for x, y in pairs]
    cells = [
        name,
        pairs[0][0].space,
        *(between([x.ess for x in one]) for one in both),
        *(between([x.divergences for x in one]) for one in both),
        *(between([x.sampling for x in one]) for one in both),
        *(between([x.whole for x in one]) for one in both),
        between(of_sampling),
        between(of_all),
    ]
    return "| " + " | ".join(cells) + " |"


def between(numbers: Sequence[float]) -> str:
    """The least and the largest of some numbers, with two digits or all of a whole one."""
    few = [f"{x:,.0f}" if x >= 10 or x == int(x) else f"{x:.2g}" for x in sorted(numbers)]
    return few[0] if few[0] == few[-1] else f"{few[0]} to {few[-1]}"


def main() -> None:
    """Run them and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[*MODELS])
    given = parser.parse_args()
    logging.getLogger("pymc").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    quiet: dict[str, Any] = {"progressbar": False, "cores": 1}
    rows = []
    for name in given.only:
        model = MODELS[name]()
        names = [rv.name for rv in model.free_RVs]
        pairs = []
        for seed in range(1, given.seeds + 1):
            ours = run(partial(pmf.sample, model, random_seed=seed, **quiet), names)
            nuts = run(partial(pm.sample, model=model, random_seed=seed, **quiet), names)
            pairs.append((ours, nuts))
            print(name, seed, ours, nuts, flush=True)
        rows.append(row(name, pairs))
    heads = (
        *("posterior", "space", "ESS", "NUTS", "diverging", "NUTS", "sampling, s", "NUTS"),
        *("whole, s", "NUTS", "ESS/s of sampling, ratio", "of the whole call"),
    )
    table = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads), *rows]
    _TO.write_text("\n".join(table) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
