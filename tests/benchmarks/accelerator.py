"""JAX's device, a GPU where there is one: ``python -m tests.benchmarks.accelerator``.

Steps a second of pmflow over those of the same mathematics written by hand for JAX, on row A of the
table of speed with 10,000 draws, and on a hierarchical logistic regression with a mean-field flow
over all of its coefficients. Then whole fits, call to verdict, on that device and on the CPU
beside it, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import pymc as pm
from numpy.typing import NDArray

import pmflow as pmf

_DRAWS = 10_000
_COLUMNS = 21
_RATE = 0.01
"""Of Adam, as in the table of speed."""


def _of(name: str) -> Any:
    """A part of another benchmark."""
    return import_module(f"tests.benchmarks.{name}")


class _Data(NamedTuple):
    group: NDArray[np.int64]
    x: NDArray[np.float64]
    y: NDArray[np.int64]


def _data(groups: int, rows: int) -> _Data:
    rng = np.random.default_rng(21)
    group = np.sort(rng.integers(0, groups, rows))
    x = rng.standard_normal((rows, _COLUMNS))
    x[:, 0] = 1.0
    effects = 0.5 * rng.standard_normal(_COLUMNS)
    coefficients = effects + 0.6 * rng.standard_normal((groups, _COLUMNS))
    probability = 1 / (1 + np.exp(-(x * coefficients[group]).sum(1)))
    return _Data(group, x, (rng.random(rows) < probability).astype(np.int64))


def _model(groups: int, data: _Data) -> pm.Model:
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 1, shape=_COLUMNS)
        tau = pm.HalfNormal("tau", 1, shape=_COLUMNS)
        b = pm.Normal("b", mu, tau, shape=(groups, _COLUMNS))
        pm.Bernoulli("y", logit_p=(data.x * b[data.group]).sum(-1), observed=data.y)
    return model


class _Pmflow:
    note = ""

    def __init__(self, groups: int, data: _Data) -> None:
        self._inference = pmf.NFVI("scale-loc", model=_model(groups, data), random_seed=1)

    def start(self) -> None:
        optimizer = pm.adam(learning_rate=_RATE)
        self._inference.fit(1, obj_optimizer=optimizer, backend="jax", progressbar=False)

    def run(self, steps: int) -> int:
        self._inference.refine(steps, progressbar=False)
        return steps

    def loss(self) -> float:
        return float(self._inference.hist[-1])


class _ByHand:
    """The same: a draw a step, Adam, one compiled loop over blocks of ten steps."""

    note = ""

    def __init__(self, groups: int, data: _Data) -> None:
        self._groups, self._data = groups, data

    def start(self) -> None:
        import jax
        import jax.numpy as jnp

        jax.config.update("jax_enable_x64", val=True)  # type: ignore[no-untyped-call]
        k, groups = _COLUMNS, self._groups
        dim = 2 * k + groups * k
        group, x, y = map(jnp.asarray, self._data)

        def log_density(z: Any) -> Any:
            mu, log_tau, b = z[:k], z[k : 2 * k], z[2 * k :].reshape(groups, k)
            tau = jnp.exp(log_tau)
            logit = (x * b[group]).sum(1)
            prior = -(mu**2).sum() / 2 - (tau**2).sum() / 2 + log_tau.sum()
            of_groups = -(((b - mu) / tau) ** 2).sum() / 2 - groups * log_tau.sum()
            return prior + of_groups + (y * logit - jax.nn.softplus(logit)).sum()

        def loss(params: Any, noise: Any) -> Any:
            scale = jax.nn.softplus(params[:dim])
            z = params[dim:] + scale * noise
            return -log_density(z) - jnp.log(scale).sum() - (noise**2).sum() / 2

        def step(state: Any, key: Any) -> Any:
            params, m, v, t = state
            value, g = jax.value_and_grad(loss)(params, jax.random.normal(key, (dim,)))
            t, m, v = t + 1, 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            rate = _RATE * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
            return (params - rate * m / (jnp.sqrt(v) + 1e-8), m, v, t), value

        def block(state: Any, keys: Any) -> Any:
            return jax.lax.scan(step, state, keys)

        start = jnp.concatenate([jnp.full(dim, 0.54), jnp.zeros(dim)])
        self._state = (start, jnp.zeros(2 * dim), jnp.zeros(2 * dim), jnp.zeros(()))
        self._key, self._block = jax.random.key(1), jax.jit(block)
        self.run(10)

    def run(self, steps: int) -> int:
        import jax

        blocks = -(-steps // 10)
        for _ in range(blocks):
            self._key, key = jax.random.split(self._key)
            self._state, losses = self._block(self._state, jax.random.split(key, 10))
        self._last = float(losses[-1])  # waits for the end
        return 10 * blocks

    def loss(self) -> float:
        return self._last


def _told(name: str, found: dict[str, Any]) -> None:
    rates = [f"{rate:,.1f}" for rate in found.get("runs", [])]
    told = {k: found[k] for k in ("compile_s", "loss", "note", "error") if k in found}
    print(f"{name}: {', '.join(rates)} steps a second {told}", flush=True)


def _speeds(groups: int, rows: int, seconds: float) -> None:
    row = _of("speed.rows").growth_row("draws", _DRAWS)
    for subject in ("pmflow jax", "hand-written JAX", "pmflow jax"):
        found = _of("speed.child").measure_row(
            {"subject": subject, "row": vars(row), "seconds": seconds}
        )
        _told(f"{row.title}, {subject}", found)
    data = _data(groups, rows)
    title = f"hierarchy of {_COLUMNS * (2 + groups):,} dimensions, {rows:,} rows"
    for build in (_Pmflow, _ByHand):
        found = _of("speed.timing").measure_subject(build(groups, data), seconds=seconds)
        _told(f"{title}, {build.__name__}", found)


def _fit(name: str) -> dict[str, Any]:
    models = {
        "eight schools, centred": _centred_schools,
        "hierarchy of 2,000 groups": lambda: _large("binary_intercepts", 2_000, 5),
        "volatility of 1,000 steps": lambda: _large("volatility", 1_000),
        "100,000 rows": _wide,
    }
    warnings.simplefilter("ignore")
    model = models[name]()
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        approx = pmf.fit(model=model, random_seed=1, progressbar=False)
        seconds.append(round(time.perf_counter() - began, 1))
    assert approx.diagnosis is not None
    return {"seconds": seconds, "verdict": approx.diagnosis.verdict}


def _large(name: str, *size: int) -> pm.Model:
    found: pm.Model = _of(f"large.models.{name}").build_model(*size)[0]
    return found


def _centred_schools() -> pm.Model:
    errors = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])
    with pm.Model() as model:
        mu, tau = pm.Normal("mu", 0, 5), pm.HalfCauchy("tau", 5)
        theta = pm.Normal("theta", mu, tau, shape=8)
        pm.Normal("y", theta, errors, observed=[28, 8, -3, 7, -1, 1, 18, 12])
    return model


def _wide() -> pm.Model:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((100_000, 30))
    p = 1 / (1 + np.exp(-x @ rng.normal(0, 0.3, 30)))
    with pm.Model() as model:
        b = pm.StudentT("b", nu=4, sigma=pm.HalfCauchy("s", 1), shape=30)
        pm.Bernoulli("y", logit_p=x @ b, observed=rng.random(100_000) < p)
    return model


_FITS = (
    "eight schools, centred",
    "hierarchy of 2,000 groups",
    "volatility of 1,000 steps",
    "100,000 rows",
)


def _fits() -> None:
    for name in _FITS:
        for platform in ("", "cpu"):
            command = [sys.executable, "-m", "tests.benchmarks.accelerator", "--one", name]
            run = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, "JAX_PLATFORMS": platform},
            )
            told = run.stdout.splitlines()[-1] if run.stdout else run.stderr[-300:]
            print(f"{name}, {platform or 'the device'}: {told}", flush=True)


def main() -> None:
    """Measure."""
    import jax

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each timed run")
    parser.add_argument("--one", choices=_FITS, help="fit one model, print it as JSON")
    parser.add_argument(
        "--parts", nargs="+", choices=("speeds", "fits"), default=("speeds", "fits")
    )
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(_fit(chosen.one)))
        return
    print(jax.devices(), jax.__version__, flush=True)
    if "speeds" in chosen.parts:
        _speeds(chosen.groups, chosen.rows, chosen.seconds)
    if "fits" in chosen.parts:
        _fits()


if __name__ == "__main__":
    main()
