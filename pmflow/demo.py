"""The main job, end to end: ``python -m pmflow.demo [target ...]``.

Fits a flow to a potential on the plane and to the eight schools, runs NUTS on both, prints how the
two compare and writes figures.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm
from rich.console import Console
from rich.table import Table

import pmflow as pmf

__all__ = ["eight_schools", "main"]

_console = Console()

_ELBO_DRAWS = 20_000


def eight_schools() -> pm.Model:
    """The eight schools of Rubin (1981) in non-centred form, with names for the schools.

    Estimated effects of coaching on test scores and their standard errors, as in Gelman et al.,
    Bayesian Data Analysis, section 5.5.
    """
    effect = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    error = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
    with pm.Model(coords={"school": list("ABCDEFGH")}) as model:
        mu = pm.Normal("mu", 0, 5)
        tau = pm.HalfCauchy("tau", 5)
        theta_trans = pm.Normal("theta_trans", 0, 1, dims="school")
        theta = pm.Deterministic("theta", mu + tau * theta_trans, dims="school")
        pm.Normal("y", theta, error, observed=effect, dims="school")
    return model


def main(arguments: list[str] | None = None) -> None:
    """Run the demo from the command line."""
    # figures show a plane
    choices = [*(t.name for t in pmf.targets.ALL.values() if t.dim == 2), "eight_schools"]
    parser = argparse.ArgumentParser(prog="python -m pmflow.demo", description=__doc__)
    parser.add_argument("target", nargs="*", help=f"any of {', '.join(choices)}")
    parser.add_argument("--out", type=Path, default=Path("pmflow-demo"), help="folder of figures")
    parser.add_argument("--steps", type=int, default=None, help="steps of each fit")
    options = parser.parse_args(arguments)
    names = options.target or ["potential_1", "eight_schools"]
    for name in names:
        if name not in choices:
            parser.error(f"there is no target {name!r}: take any of {', '.join(choices)}")
    options.out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    for name in names:
        if name == "eight_schools":
            _show_model(options.out, options.steps or 10_000)
        else:
            _show_target(pmf.targets.ALL[name], options.out, options.steps or 20_000)
    figures = ", ".join(sorted(path.name for path in options.out.glob("*.png")))
    _console.print(f"\nFigures in {options.out}/: {figures}")
    _console.print(f"Done in {time.perf_counter() - began:.0f} s.")


def _show_target(target: pmf.targets.Target, out: Path, steps: int) -> None:
    _console.rule(f"{target.name}: planar*8 against NUTS")
    model = target.model()
    # a wide start: eight layers must find different jobs to do
    inference = pmf.NFVI("planar*8", model=model, random_seed=1, jitter=0.5)
    approx, seconds = _timed(lambda: _fit(inference, steps))
    flow = approx.sample(_ELBO_DRAWS, random_seed=1)
    nuts, nuts_seconds = _nuts(model)
    found = pmf.diagnose(approx, _ELBO_DRAWS, random_seed=1)
    _console.print(
        f"ELBO {found.elbo:.3f} +- {found.elbo_se:.3f}; exact log evidence "
        f"{target.log_evidence:.3f}; KL divergence left: {target.log_evidence - found.elbo:.3f}"
    )
    _print_comparison(flow, nuts, seconds, nuts_seconds)
    draws = {
        name: tree["posterior"]["z"].values.reshape(-1, 2)
        for name, tree in {"NUTS": nuts, "planar*8": flow}.items()
    }
    _save(
        out,
        {
            f"{target.name}_comparison": pmf.plots.plot_comparison(
                target.log_density, target.bounds, draws
            ),
            f"{target.name}_density": pmf.plots.plot_density(
                approx.log_prob, target.bounds, title="density of the flow"
            ),
            f"{target.name}_layers": pmf.plots.plot_layers(approx.sample_layers(2_000)),
            f"{target.name}_loss": pmf.plots.plot_loss(
                inference.hist, log_evidence=target.log_evidence
            ),
        },
    )


def _show_model(out: Path, steps: int) -> None:
    formula = "scale-planar*4-loc"
    _console.rule(f"eight schools: {formula} against NUTS")
    model = eight_schools()
    inference = pmf.NFVI(formula, model=model, random_seed=1)
    approx, seconds = _timed(lambda: _fit(inference, steps))
    flow = approx.sample(_ELBO_DRAWS, random_seed=1)
    nuts, nuts_seconds = _nuts(model)
    found = pmf.diagnose(approx, _ELBO_DRAWS, random_seed=1)
    _console.print(f"ELBO {found.elbo:.3f} +- {found.elbo_se:.3f}; the fit is {found.verdict}")
    _print_comparison(flow, nuts, seconds, nuts_seconds)
    _save(
        out,
        {
            "eight_schools_marginals": pmf.plots.plot_marginals(
                flow, nuts, ["mu", "tau", "theta"], names=(formula, "NUTS")
            ),
            "eight_schools_loss": pmf.plots.plot_loss(inference.hist),
        },
    )


def _fit(inference: pmf.NFVI, steps: int) -> pmf.Approximation:
    """Large steps to get there, small ones to settle."""
    inference.fit(steps, obj_n_mc=50, obj_optimizer=pm.adam(learning_rate=0.01))
    return inference.fit(steps // 4, obj_n_mc=50, obj_optimizer=pm.adam(learning_rate=0.001))


def _nuts(model: pm.Model) -> tuple[Any, float]:
    with warnings.catch_warnings():
        # divergences are for the comparison to show, not for a demo to stop at
        warnings.simplefilter("ignore")
        return _timed(
            lambda: pm.sample(
                1_000, tune=1_000, chains=4, random_seed=1, model=model, progressbar=False
            )
        )


def _timed[T](run: Callable[[], T]) -> tuple[T, float]:
    began = time.perf_counter()
    result = run()
    return result, time.perf_counter() - began


def _print_comparison(flow: Any, nuts: Any, seconds: float, nuts_seconds: float) -> None:
    table = pmf.compare(flow, nuts)
    shown = Table(title="flow against NUTS, in units of the sd of NUTS, ± Monte Carlo error")
    columns = [name for name in table.columns if not name.endswith("_mcse")]
    for column in ("", *columns):
        shown.add_column(column.replace("_", " "), justify="right", no_wrap=not column)
    for label, row in table.iterrows():
        shown.add_row(str(label), *(_shown(row, name) for name in columns))
    _console.print(shown)
    _console.print(f"flow {seconds:.1f} s, NUTS {nuts_seconds:.1f} s, both with compilation")


def _shown(row: Any, name: str) -> str:
    """A number, with its Monte Carlo error where it has one."""
    error = f"{name}_mcse"
    return f"{row[name]:.3f}" + (f" ± {row[error]:.3f}" if error in row else "")


def _save(out: Path, figures: dict[str, Any]) -> None:
    import matplotlib.pyplot as plt

    for name, figure in figures.items():
        figure.savefig(out / f"{name}.png", dpi=150)
        plt.close(figure)


if __name__ == "__main__":
    main()
