"""Many fits of one model: ``python -m tests.benchmarks.many_fits [--sims 200]``.

Eight schools fitted to 200 sets of data by `pmflow.refit`, in this process and in two, beside the
first fit; and simulation-based calibration of eight schools, of a logistic regression and of a
hierarchy with few groups, of which some fits are refused. Writes a table and a figure.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import arviz_plots as azp
import numpy as np
import pymc as pm

import pmflow as pmf

_HERE = Path(__file__).parent
_FIGURE = _HERE.parents[1] / "docs" / "figures" / "calibration.png"
_ERRORS = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def schools() -> pm.Model:
    """The eight schools of Rubin (1981), non-centred."""
    with pm.Model(coords={"school": list("ABCDEFGH")}) as model:
        mu, tau = pm.Normal("mu", 0, 5), pm.HalfCauchy("tau", 5)
        eta = pm.Normal("eta", 0, 1, dims="school")
        pm.Normal("y", mu + tau * eta, _ERRORS, observed=np.zeros(8), dims="school")
    return model


def logistic() -> pm.Model:
    """Four columns, 200 rows."""
    x = np.random.default_rng(1).normal(size=(200, 4))
    with pm.Model() as model:
        a, b = pm.Normal("a", 0, 1.5), pm.Normal("b", 0, 1, shape=4)
        pm.Bernoulli("y", logit_p=a + x @ b, observed=np.zeros(200, dtype=int))
    return model


def few_groups() -> pm.Model:
    """Two scales of three groups each, known badly."""
    groups = np.repeat(np.arange(3), 3)
    with pm.Model() as model:
        one, two = pm.HalfCauchy("one", 1), pm.HalfCauchy("two", 1)
        a, b = pm.Normal("a", 0, one, shape=3), pm.Normal("b", 0, two, shape=3)
        x = np.linspace(-1, 1, 9)
        pm.Normal("y", a[groups] + b[groups] * x, 0.5, observed=np.zeros(9))
    return model


def refits(number: int) -> list[str]:
    """Seconds of the first fit and of the others."""
    model, rng = schools(), np.random.default_rng(3)
    effects = [rng.normal(8, 12, size=8) for _ in range(number)]
    begun = time.perf_counter()
    first = pmf.fit(model=model, random_seed=1, progressbar=False)
    alone = time.perf_counter() - begun
    datasets = [{"y": effect} for effect in effects]
    begun = time.perf_counter()
    here = pmf.refit(first, datasets, random_seed=1, progressbar=False)
    in_one = time.perf_counter() - begun
    context = multiprocessing.get_context("spawn")
    begun = time.perf_counter()
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        there = pmf.refit(first, datasets, random_seed=1, executor=executor, progressbar=False)
    in_two = time.perf_counter() - begun
    same = [str(x) for x in here.diagnoses] == [str(x) for x in there.diagnoses]
    return [
        f"| the first fit | {alone:.1f} s |",
        f"| {number} more, one after the other | {in_one:.0f} s: {here} |",
        f"| one of them over the first | {in_one / number / alone:.1%} |",
        f"| the same in two processes, their start included | {in_two:.0f} s |",
        f"| their diagnoses are the same, to the last digit | {'yes' if same else 'no'} |",
    ]


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sims", type=int, default=200)
    number = parser.parse_args().sims
    logging.getLogger("pymc").setLevel(logging.ERROR)
    lines = ["| | |", "|---|---|", *refits(number), ""]
    lines += ["| calibration of | seconds | fits | smallest p-value |", "|---|---|---|---|"]
    models: list[Callable[[], pm.Model]] = [schools, logistic, few_groups]
    for make in models:
        begun = time.perf_counter()
        found = pmf.sbc(make(), number, random_seed=1, progressbar=False)
        seconds = time.perf_counter() - begun
        counts, _, tested = str(found).partition("\n")
        lines.append(f"| {make.__name__} | {seconds:.0f} | {counts} | {tested} |")
        print(lines[-1], flush=True)
        if make is schools:
            _draw(found)
    text = "\n".join(lines) + "\n"
    (_HERE / "results" / "many_fits.md").write_text(text)
    print(text)


def _draw(found: pmf.Calibration) -> None:
    plots = azp.plot_ecdf_pit(
        found.to_datatree(),
        var_names=["mu", "tau"],
        backend="matplotlib",
        figure_kwargs={"figsize": (8, 3)},
    )
    plots.viz["figure"].item().savefig(_FIGURE, dpi=130, bbox_inches="tight")


if __name__ == "__main__":
    main()
