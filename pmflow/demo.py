"""The main job, end to end: ``python -m pmflow.demo [name ...]``.

Fits a small, a multimodal and a middle-sized model by `pmflow.fit` beside NUTS, and a flow to a
potential on the plane; prints how they compare and writes figures.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm
from rich.console import Console
from rich.table import Table

import pmflow as pmf

__all__ = ["clinics", "eight_schools", "main", "two_groups"]

_console = Console()

_DRAWS = 20_000


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


def two_groups() -> pm.Model:
    """Two groups whose means have no order: each posterior mode has a mirror image."""
    rng = np.random.default_rng(2)
    heights = np.concatenate([rng.normal(-2, 1, 60), rng.normal(2, 1, 60)])
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 5, shape=2)
        sd = pm.HalfNormal("sd", 2)
        pm.NormalMixture("y", w=[0.5, 0.5], mu=mu, sigma=sd, observed=heights)
    return model


def clinics(rows: int = 3_000, number: int = 40) -> pm.Model:
    """Success of a treatment in 40 clinics, by three properties of the patient: 45 dimensions."""
    rng = np.random.default_rng(3)
    clinic, x = rng.integers(0, number, rows), rng.normal(size=(rows, 3))
    log_odds = rng.normal(0.4, 0.7, number)[clinic] + x @ [0.8, -0.5, 0.0]
    outcome = (rng.random(rows) < 1 / (1 + np.exp(-log_odds))).astype(int)
    with pm.Model() as model:
        mu, tau = pm.Normal("mu", 0, 2), pm.HalfNormal("tau", 1)
        of_clinic = pm.Normal("of_clinic", mu, tau, shape=number)
        slope = pm.Normal("slope", 0, 1, shape=3)
        pm.Bernoulli("y", logit_p=of_clinic[clinic] + x @ slope, observed=outcome)
    return model


@dataclass(frozen=True)
class _Subject:
    """A model, and the variables whose marginals are drawn."""

    build: Callable[[], pm.Model]
    shown: tuple[str, ...]


_MODELS = {
    "eight_schools": _Subject(eight_schools, ("mu", "tau", "theta")),
    "two_groups": _Subject(two_groups, ("mu", "sd")),
    "clinics": _Subject(clinics, ("mu", "tau", "slope")),
}


def main(arguments: list[str] | None = None) -> None:
    """Run the demo from the command line."""
    # figures show a plane
    planes = [t.name for t in pmf.targets.ALL.values() if t.dim == 2]
    choices = [*planes, *_MODELS]
    parser = argparse.ArgumentParser(prog="python -m pmflow.demo", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"any of {', '.join(choices)}")
    parser.add_argument("--out", type=Path, default=Path("pmflow-demo"), help="folder of figures")
    parser.add_argument("--steps", type=int, default=10_000, help="steps on a potential")
    options = parser.parse_args(arguments)
    names = options.name or [*_MODELS, "potential_1"]
    for name in names:
        if name not in choices:
            parser.error(f"there is no target {name!r}: take any of {', '.join(choices)}")
    options.out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    models = {name: _MODELS[name].build() for name in names if name in _MODELS}
    # NUTS first: it may fork, which a process that has run JAX should not
    nuts = {name: _nuts(model) for name, model in models.items()}
    if models:
        _show_models(models, nuts, options.out)
    for name in names:
        if name not in _MODELS:
            _show_plane(pmf.targets.ALL[name], options.out, options.steps)
    figures = ", ".join(sorted(path.name for path in options.out.glob("*.png")))
    _console.print(f"\nFigures in {options.out}/: {figures}")
    _console.print(f"Done in {time.perf_counter() - began:.0f} s.")


def _show_models(
    models: dict[str, pm.Model], nuts: dict[str, tuple[Any, float]], out: Path
) -> None:
    shown = Table(title="pmf.fit(model=model) beside NUTS: 4 chains of 1,000 draws")
    for column in ("model", "dims", "pmf.fit", "verdict", "NUTS", "R-hat", "means apart", "sds"):
        shown.add_column(column, justify="left" if column in ("model", "verdict") else "right")
    for name, model in models.items():
        _console.rule(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pmf.errors.FitWarning)  # the verdict is printed
            approx, seconds = _timed(partial(pmf.fit, model=model, random_seed=1))
        _console.print(str(approx.ladder), highlight=False)
        flow, (chains, nuts_seconds) = approx.sample(_DRAWS, random_seed=1), nuts[name]
        table = pmf.compare(flow, chains)
        ratios = table["sd_ratio"]
        shown.add_row(
            name,
            str(approx.ddim),
            f"{seconds:.1f} s",
            approx.diagnosis.verdict,
            f"{nuts_seconds:.1f} s",
            f"{_largest_rhat(chains):.2f}",
            f"{table['mean_error'].abs().max():.2f} sd",
            f"{ratios.min():.2f} to {ratios.max():.2f}",
        )
        marginals = pmf.plots.plot_marginals(
            flow, chains, list(_MODELS[name].shown), names=("pmf.fit", "NUTS")
        )
        _save(out, {f"{name}_marginals": marginals})
    _console.print(shown)
    _console.print(
        "Seconds with compilation; means and sds over all variables, in units of the sd of NUTS. "
        "Where R-hat is above 1.01, it is NUTS that has not converged."
    )


def _largest_rhat(chains: Any) -> float:
    from arviz_stats import rhat

    with np.errstate(all="ignore"):  # infinite where chains stand still
        found = rhat(chains["posterior"].to_dataset())
    return max(float(np.max(variable)) for variable in found.data_vars.values())


def _show_plane(target: pmf.targets.Target, out: Path, steps: int) -> None:
    _console.rule(f"{target.name}: planar*8")
    # a wide start: eight layers must find different jobs to do
    inference = pmf.NFVI("planar*8", model=target.model(), random_seed=1, jitter=0.5)
    approx, seconds = _timed(lambda: _fit(inference, steps))
    found = pmf.diagnose(approx, _DRAWS, random_seed=1)
    _console.print(
        f"ELBO {found.elbo:.3f} +- {found.elbo_se:.3f}; exact log evidence "
        f"{target.log_evidence:.3f}; KL divergence left: {target.log_evidence - found.elbo:.3f}; "
        f"{seconds:.1f} s with compilation"
    )
    draws = np.asarray(approx.sample(_DRAWS, random_seed=1)["posterior"]["z"]).reshape(-1, 2)
    _save(
        out,
        {
            f"{target.name}_comparison": pmf.plots.plot_comparison(
                target.log_density, target.bounds, {"planar*8": draws}
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


def _fit(inference: pmf.NFVI, steps: int) -> pmf.Approximation:
    """Large steps to get there, small ones to settle."""
    # JAX compiles in seconds what takes numba half a minute
    backend = "jax" if importlib.util.find_spec("jax") else None
    for number, rate in ((steps, 0.01), (steps // 4, 0.001)):
        optimizer = pm.adam(learning_rate=rate)
        inference.fit(number, obj_n_mc=50, obj_optimizer=optimizer, backend=backend)
    return inference.approx


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


def _save(out: Path, figures: dict[str, Any]) -> None:
    import matplotlib.pyplot as plt

    for name, figure in figures.items():
        figure.savefig(out / f"{name}.png", dpi=150)
        plt.close(figure)


if __name__ == "__main__":
    main()
