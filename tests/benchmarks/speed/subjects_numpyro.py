"""NumPyro's `SVI.run` without progress bar, its fastest mode.

`SVI.run` compiles anew each time it is called. To keep that apart it is called under `jax.jit`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from . import data
from .densities import build_densities
from .rows import LEARNING_RATE, Row

__all__ = ["NumpyroBatches", "NumpyroRun", "build_svi"]

_NOTES = {
    "AutoIAFNormal": "not planar: 3 inverse autoregressive flows, the default",
    "AutoBNAFNormal": "not planar: 1 block neural autoregressive flow, the default",
    "AutoNormal": "mean field",
    "AutoLowRankMultivariateNormal": "not Householder: rank 10, the nearest it has",
}


def build_svi(row: Row, *, guide: str) -> tuple[Any, tuple[Any, ...]]:
    """An SVI object, and the arguments of its model."""
    infer: Any = importlib.import_module("numpyro.infer")
    guides: Any = importlib.import_module("numpyro.infer.autoguide")
    optim: Any = importlib.import_module("numpyro.optim")
    model, arguments = _build_model(row)
    options: dict[str, Any] = {"rank": 10} if guide == "AutoLowRankMultivariateNormal" else {}
    if row.formula.startswith("(iaf"):
        options = {"num_flows": 3, "hidden_dims": [32]}
    return infer.SVI(
        model,
        getattr(guides, guide)(model, **options),
        optim.Adam(LEARNING_RATE),
        infer.Trace_ELBO(num_particles=row.draws, vectorize_particles=True),
    ), arguments


class NumpyroRun:
    """`SVI.run`; minibatches by a plate with `subsample_size`, as its documentation has them."""

    def __init__(self, row: Row, *, guide: str) -> None:
        self._row, self._guide = row, guide
        note = "the same sizes" if row.formula.startswith("(iaf") else _NOTES[guide]
        self.note = f"{note}; SVI.run under jit"
        self._loops: dict[int, Any] = {}

    def start(self) -> None:
        self._svi, self._arguments = build_svi(self._row, guide=self._guide)
        self._state = self._svi.init(jax.random.key(1), *self._arguments)
        self.run(10)

    def run(self, steps: int) -> int:
        if steps not in self._loops:
            self._loops = {steps: jax.jit(self._make_loop(steps))}
        self._state, losses = self._loops[steps](self._state, *self._arguments)
        self._losses = np.asarray(losses)
        return steps

    def loss(self) -> float:
        return float(self._losses[-1_000:].mean())

    def _make_loop(self, steps: int) -> Callable[..., Any]:
        def loop(state: Any, *arguments: Any) -> Any:
            key = jax.random.key(0)  # not used: the state has a key
            result = self._svi.run(key, steps, *arguments, progress_bar=False, init_state=state)
            return result.state, result.losses

        return loop


class NumpyroBatches(NumpyroRun):
    """`SVI.update` in a scan of ours, with batches drawn by one call a step."""

    def __init__(self, row: Row, *, guide: str) -> None:
        super().__init__(row, guide=guide)
        self.note = f"{_NOTES[guide]}; SVI.update scanned by us, batches drawn by us"

    def _make_loop(self, steps: int) -> Callable[..., Any]:
        def loop(state: Any, x: Any, y: Any) -> Any:
            def step(state: Any, key: Any) -> Any:
                index = jax.random.randint(key, (data.BATCH,), 0, data.REGRESSION_ROWS)
                return self._svi.update(state, x[index], y[index])

            key = jax.random.fold_in(state.rng_key, 1)
            return lax.scan(step, state, jax.random.split(key, steps))

        return loop


def _build_model(row: Row) -> tuple[Callable[..., None], tuple[Any, ...]]:
    if row.target == "radon":
        rows = data.radon()
        return _radon, tuple(map(jnp.asarray, rows))
    if row.target == "regression":
        table = data.regression()
        return _regression, tuple(map(jnp.asarray, table))
    numpyro: Any = importlib.import_module("numpyro")
    dist: Any = importlib.import_module("numpyro.distributions")
    density = build_densities(row.target)[0]

    def potential() -> None:
        flat = dist.ImproperUniform(dist.constraints.real_vector, (), (density.dim,))
        numpyro.factor("potential", density.log_density(numpyro.sample("z", flat), None))

    return potential, ()


def _radon(group: Any, floor: Any, y: Any) -> None:
    numpyro: Any = importlib.import_module("numpyro")
    dist: Any = importlib.import_module("numpyro.distributions")
    intercept = numpyro.sample("intercept", dist.Normal(0, 10))
    county_raw = numpyro.sample("county_raw", dist.ZeroSumNormal(1.0, (data.GROUPS,)))
    county_sd = numpyro.sample("county_sd", dist.HalfNormal(1))
    slope = numpyro.sample("floor", dist.Normal(0, 2))
    county_floor_raw = numpyro.sample("county_floor_raw", dist.ZeroSumNormal(1.0, (data.GROUPS,)))
    county_floor_sd = numpyro.sample("county_floor_sd", dist.HalfNormal(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.5))
    intercepts = intercept + county_sd * county_raw
    slopes = slope + county_floor_sd * county_floor_raw
    mu = intercepts[group] + slopes[group] * floor
    numpyro.sample("y", dist.Normal(mu, sigma), obs=y)


def _regression(x: Any, y: Any) -> None:
    numpyro: Any = importlib.import_module("numpyro")
    dist: Any = importlib.import_module("numpyro.distributions")
    intercept = numpyro.sample("intercept", dist.Normal(0, 5))
    slopes = numpyro.sample("slopes", dist.Normal(0, 5).expand([data.COLUMNS]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(5))
    plate = numpyro.plate("rows", data.REGRESSION_ROWS, subsample_size=data.BATCH)
    with plate as index:
        # rows of a whole table, or a batch that was drawn outside
        x, y = (x, y) if x.shape[0] == data.BATCH else (x[index], y[index])
        numpyro.sample("y", dist.Normal(intercept + x @ slopes, sigma), obs=y)
