"""Gradients of interpreted densities: ``python -m tests.benchmarks.interpreted``.

CPU seconds of 256 gradients by NumPy, with elementwise Ops as NumPy's loops and, for comparison, as
PyTensor leaves them: entry by entry in Python. Both in one process, in turn.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import pymc as pm
from pytensor.graph.rewriting.basic import node_rewriter
from pytensor.tensor.elemwise import Elemwise

from pmflow.graphs import evaluate
from pmflow.posterior.density import LogDensity

__all__ = ["MODELS", "measure"]

_ROUNDS = 3


def rolling_regression(steps: int = 2_000) -> pm.Model:
    """Intercept and slope that walk at random, as in PyMC's example of rolling regression."""
    rng = np.random.default_rng(1)
    x = np.cumsum(rng.normal(0.0, 0.1, steps))
    y = x * (1.0 + np.cumsum(rng.normal(0.0, 0.02, steps))) + rng.normal(0.0, 0.1, steps)
    start = pm.Normal.dist(0.0, 10.0)
    with pm.Model() as model:
        sigma_alpha, sigma_beta = (
            pm.Exponential("sigma_alpha", 50.0),
            pm.Exponential("sigma_beta", 50.0),
        )
        alpha = pm.GaussianRandomWalk("alpha", sigma=sigma_alpha, init_dist=start, shape=steps)
        beta = pm.GaussianRandomWalk("beta", sigma=sigma_beta, init_dist=start, shape=steps)
        pm.Normal("y", alpha + beta * x, pm.HalfNormal("sd", 0.1), observed=y)
    return model


def radon(groups: int = 85, rows: int = 919) -> pm.Model:
    """A hierarchy of intercepts, centred."""
    rng = np.random.default_rng(3)
    group, x = rng.integers(0, groups, rows), rng.integers(0, 2, rows)
    y = 1.5 + rng.normal(0.0, 0.4, groups)[group] - 0.7 * x + rng.normal(0.0, 0.75, rows)
    with pm.Model() as model:
        a = pm.Normal("a", pm.Normal("mu", 0.0, 10.0), pm.HalfNormal("tau", 1.0), shape=groups)
        b = pm.Normal("b", 0.0, 1.0, shape=groups)
        pm.Normal("y", a[group] + b[group] * x, pm.HalfNormal("s", 1.0), observed=y)
    return model


def survival(rows: int = 10) -> pm.Model:
    """Gamma times, half of them censored: the incomplete gamma function and its series."""
    rng = np.random.default_rng(4)
    times = np.minimum(rng.gamma(2.0, 1.0, rows), 1.7)
    with pm.Model() as model:
        alpha, beta = pm.LogNormal("alpha"), pm.LogNormal("beta")
        pm.Censored("t", pm.Gamma.dist(alpha, beta), lower=None, upper=1.7, observed=times)
    return model


MODELS: dict[str, Callable[[], pm.Model]] = {
    "random-walk regression, 2,000 steps": rolling_regression,
    "hierarchy, 85 groups": radon,
    "censored gamma, 10 rows": survival,
}


@node_rewriter([Elemwise])
def _leave_it(fgraph: Any, node: Any) -> None:
    """A rewrite that rewrites nothing."""


@contextmanager
def as_pytensor_does() -> Iterator[None]:
    """Without functions of arrays for elementwise Ops."""
    with mock.patch.object(evaluate, "run_as_arrays", _leave_it):
        yield


def measure(model: pm.Model, points: int = 256) -> tuple[float, float]:
    """CPU seconds of gradients at some points, compiled before: as it is, and entry by entry.

    Parameters
    ----------
    model : pymc.Model
    points : int
        Gradients of one call, near the model's initial point.

    Returns
    -------
    tuple of float
        The least of three rounds each.
    """
    start = model.initial_point()
    order, at = {}, 0
    for variable in model.value_vars:
        x = np.asarray(start[variable.name])
        order[variable.name] = (variable.name, slice(at, at + x.size), x.shape, variable.dtype)
        at += x.size
    z = np.concatenate([np.ravel(start[name]) for name in order])
    z = z + 0.1 * np.random.default_rng(1).normal(size=(points, at))

    fast, slow = LogDensity(model, order), LogDensity(model, order)
    found = fast.value_and_gradient(z[:1])
    with as_pytensor_does():
        expected = slow.value_and_gradient(z[:1])
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(_ROUNDS):
        for density, spent in zip((fast, slow), seconds, strict=True):
            begin = time.process_time()
            density.value_and_gradient(z)
            spent.append(time.process_time() - begin)
    return min(seconds[0]), min(seconds[1])


def main() -> int:
    """Measure all models; fail where the random walks do not reach their goal."""
    goal = 0.15
    ratios = []
    print(f"{'256 gradients, CPU s':38} {'pmflow':>8} {'PyTensor':>9} {'ratio':>7}")
    for name, make in MODELS.items():
        fast, slow = measure(make())
        ratios.append(fast / slow)
        print(f"{name:38} {fast:8.3f} {slow:9.3f} {fast / slow:7.3f}")
    return int(ratios[0] > goal)


if __name__ == "__main__":
    sys.exit(main())
