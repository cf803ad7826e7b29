"""The targets as log densities in JAX, over the unconstrained space, with every constant."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import data

__all__ = ["Density", "build_densities"]

_LOG_ROOT_2_PI = 0.5 * math.log(2 * math.pi)
_CHUNK = 4


@dataclass(frozen=True)
class Density:
    """A target.

    Attributes
    ----------
    name : str
        How it is computed, where there is more than one way.
    dim : int
    log_density : callable
        ``(point of shape (dim,), batch) -> log density``.
    draw_batch : callable or None
        ``key -> indices`` of the rows of a step.
    table : tuple
        Large arrays, handed to the compiled function and to `log_density` as the batch's source.
    """

    name: str
    dim: int
    log_density: Callable[..., Any]
    draw_batch: Callable[[Any], Any] | None = None
    table: tuple[Any, ...] = ()


def build_densities(target: str) -> list[Density]:
    """The ways to compute a target, the first one the plainest."""
    if target == "potential_1":
        return [Density("plain", 2, _potential_1)]
    if target == "potential_4":
        return [Density("plain", 2, _potential_4)]
    if target == "radon":
        rows = data.radon()
        return [
            Density("rows gathered", 173, _radon_by_row(rows)),
            Density("rows gathered in fours", 173, _radon_by_chunk(rows)),
        ]
    if target == "regression":
        return [_regression()]
    dim = int(target.removeprefix("normal-"))
    return [Density("plain", dim, lambda z, _: -0.5 * (z**2).sum() - dim * _LOG_ROOT_2_PI)]


def _logaddexp(a: Any, b: Any) -> Any:
    # jnp.logaddexp takes care of infinities too
    return jnp.maximum(a, b) + jnp.log1p(jnp.exp(-jnp.abs(a - b)))


def _potential_1(z: Any, _: Any) -> Any:
    modes = _logaddexp(-0.5 * ((z[0] - 2) / 0.6) ** 2, -0.5 * ((z[0] + 2) / 0.6) ** 2)
    radius = jnp.sqrt(z[0] ** 2 + z[1] ** 2 + 1e-30)
    return modes - 0.5 * ((radius - 2) / 0.4) ** 2


def _potential_4(z: Any, _: Any) -> Any:
    away = z[1] - jnp.sin(2 * math.pi * z[0] / 4)
    ramp = 1.5 * (1 + jnp.tanh((z[0] - 1) / 0.6))
    forks = _logaddexp(-0.5 * (away / 0.4) ** 2, -0.5 * ((away + ramp) / 0.35) ** 2)
    return forks - 0.1 * jnp.abs(z[0])


def _half_normal(log_x: Any, sigma: float) -> Any:
    """Log density of the logarithm of a half-normal number."""
    return log_x - 0.5 * (jnp.exp(log_x) / sigma) ** 2 - _LOG_ROOT_2_PI + math.log(2 / sigma)


def _normal(x: Any, sigma: float) -> Any:
    return -0.5 * (x / sigma) ** 2 - _LOG_ROOT_2_PI - math.log(sigma)


def _zero_sum(free: Any) -> Any:
    """One more element, so that the sum is 0 and no length changes."""
    n = free.shape[0] + 1
    total = free.sum()
    shift = total / (math.sqrt(n) + n)
    return jnp.append(free, shift - total / math.sqrt(n)) - shift


def _radon_prior(z: Any) -> tuple[Any, Any, Any, Any]:
    """Log density of the prior, intercepts and slopes by county, log sigma."""
    n = data.GROUPS - 1
    intercepts, slopes = _zero_sum(z[5 : 5 + n]), _zero_sum(z[5 + n :])
    log_p = (
        _normal(z[0], 10.0)
        + _normal(z[1], 2.0)
        + _half_normal(z[2], 1.0)
        + _half_normal(z[3], 1.0)
        + _half_normal(z[4], 1.5)
        - 0.5 * ((intercepts**2).sum() + (slopes**2).sum())
        - 2 * n * _LOG_ROOT_2_PI
    )
    return log_p, z[0] + jnp.exp(z[2]) * intercepts, z[1] + jnp.exp(z[3]) * slopes, z[4]


def _radon_by_row(rows: data.Radon) -> Callable[[Any, Any], Any]:
    def log_density(z: Any, _: Any) -> Any:
        log_p, intercepts, slopes, log_sigma = _radon_prior(z)
        residual = rows.y - intercepts[rows.group] - slopes[rows.group] * rows.floor
        return log_p + _gaussian((residual**2).sum(), len(rows.y), log_sigma)

    return log_density


def _radon_by_chunk(rows: data.Radon) -> Callable[[Any, Any], Any]:
    """Rows of one county in chunks of four, filled up with rows of zeros: fewer look-ups."""
    county, index = [], []
    for group in range(data.GROUPS):
        members = np.flatnonzero(rows.group == group)
        for begin in range(0, len(members), _CHUNK):
            chunk = members[begin : begin + _CHUNK]
            county.append(group)
            index.append(np.pad(chunk, (0, _CHUNK - len(chunk)), constant_values=-1))
    counties, places = np.array(county), np.array(index)
    there = (places >= 0).astype(float)
    y, floor = rows.y[places] * there, rows.floor[places] * there

    def log_density(z: Any, _: Any) -> Any:
        log_p, intercepts, slopes, log_sigma = _radon_prior(z)
        lines = jnp.stack([intercepts, slopes], axis=-1)[counties]
        mu = lines[:, :1] * there + lines[:, 1:] * floor
        return log_p + _gaussian(((y - mu) ** 2).sum(), len(rows.y), log_sigma)

    return log_density


def _gaussian(sum_of_squares: Any, n: int, log_sigma: Any) -> Any:
    return -0.5 * sum_of_squares * jnp.exp(-2 * log_sigma) - n * (log_sigma + _LOG_ROOT_2_PI)


def _regression() -> Density:
    table = data.regression()
    scale = data.REGRESSION_ROWS / data.BATCH

    def log_density(z: Any, batch: Any) -> Any:
        x, y = batch
        intercept, slopes, log_sigma = z[0], z[1:-1], z[-1]
        log_p = _normal(z[:-1], 5.0).sum() + _half_normal(log_sigma, 5.0)
        residual = y - intercept - x @ slopes
        return log_p + scale * _gaussian((residual**2).sum(), data.BATCH, log_sigma)

    def draw_batch(key: Any) -> Any:
        return jax.random.randint(key, (data.BATCH,), 0, data.REGRESSION_ROWS)

    return Density("plain", data.COLUMNS + 2, log_density, draw_batch, tuple(table))
