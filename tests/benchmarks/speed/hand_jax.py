"""The limit: the mathematics of pmflow's layers, written by hand for JAX and nothing else.

The loop over steps, the gradient and Adam are one compiled function over one flat vector of
parameters. How it is written is searched for: one choice after the other is kept where it is
faster.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .densities import Density, build_densities
from .rows import LEARNING_RATE, Row
from .timing import time_call

__all__ = ["HandJax", "Trainer", "Variant", "parse_formula"]

_BLOCK = 100
_HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)
_SOFTPLUS_ONE = math.log(math.expm1(1.0))
_SHAPES = {"planar": ((), ("dim",), ("dim",)), "hh": (("dim",),)}
_SHAPES |= {"scale": (("dim",),), "loc": (("dim",),)}


@dataclass(frozen=True)
class Variant:
    """How the limit is written.

    Attributes
    ----------
    density : int
        Which of the ways to compute the target.
    draws_last : bool
        Points as (dim, draws) rather than (draws, dim).
    scan_layers : bool
        Equal layers by `lax.scan` rather than one after the other.
    block : int
        Steps whose random numbers are drawn by one call.
    generator : str
    """

    density: int = 0
    draws_last: bool = True
    scan_layers: bool = True
    block: int = _BLOCK
    generator: str = "threefry2x32"

    def describe(self, density: Density) -> str:
        layout = "(dim, draws)" if self.draws_last else "(draws, dim)"
        layers = "layers scanned" if self.scan_layers else "layers unrolled"
        noise = "noise of 100 steps at once" if self.block > 1 else "noise step by step"
        return f"{layout}, {layers}, {noise}, {self.generator}, density {density.name}"


class HandJax:
    """The fastest variant for a row, found before the measurement."""

    def __init__(self, row: Row, *, search_seconds: float) -> None:
        self._row = row
        self._densities = build_densities(row.target)
        self.rates: dict[str, float] = {}
        self._variant = self._search(search_seconds)
        self.note = self._variant.describe(self._densities[self._variant.density])

    def start(self) -> None:
        self._trainer = self._build(self._variant)
        self.run(10)

    def run(self, steps: int) -> int:
        return self._trainer.run(steps)

    def loss(self) -> float:
        return float(self._trainer.losses[-1_000:].mean())

    def _build(self, variant: Variant) -> Trainer:
        return Trainer(self._row, self._densities[variant.density], variant)

    def _search(self, seconds: float) -> Variant:
        best = Variant()
        best_rate = self._rate(best, seconds)
        others: list[dict[str, Any]] = [{"density": i} for i in range(1, len(self._densities))]
        others += [{"draws_last": False}, {"block": 1}, {"generator": "rbg"}]
        if "*" in self._row.formula:
            others.append({"scan_layers": False})
        for change in others:
            variant = replace(best, **change)
            rate = self._rate(variant, seconds)
            if rate > best_rate:
                best, best_rate = variant, rate
        return best

    def _rate(self, variant: Variant, seconds: float) -> float:
        trainer = self._build(variant)
        steps, rate = 1_000, 0.0
        for _ in range(2):  # the second time with as many steps as it takes
            trainer.run(steps)
            elapsed, done = min(time_call(partial(trainer.run, steps)) for _ in range(2))
            rate = done / elapsed
            if elapsed >= seconds:
                break
            steps = max(steps, int(rate * seconds))
        self.rates[variant.describe(self._densities[variant.density])] = rate
        return rate


class Trainer:
    """A compiled loop and its state; it begins at a start of its own where none is given."""

    def __init__(
        self,
        row: Row,
        density: Density,
        variant: Variant,
        *,
        params: np.ndarray | None = None,
        rate: float = LEARNING_RATE,
    ) -> None:
        self._rate = rate
        self._density, self._variant, self._draws = density, variant, row.draws
        self._layers = parse_formula(row.formula)
        own = _start_params(self._layers, density.dim)
        start = jnp.asarray(own if params is None else params)
        self._state = (start, jnp.zeros_like(start), jnp.zeros_like(start), jnp.zeros(()))
        self._key = jax.random.key(1, impl=variant.generator)
        self._table = tuple(map(jnp.asarray, density.table))
        self._loop = jax.jit(self._make_loop(), static_argnums=3)
        self.losses = np.empty(0)

    def run(self, steps: int) -> int:
        blocks = -(-steps // self._variant.block)
        self._key, key = jax.random.split(self._key)
        self._state, losses = self._loop(self._state, key, self._table, blocks)
        self.losses = np.asarray(losses).ravel()  # waits for the end of the run
        return blocks * self._variant.block

    def _make_loop(self) -> Callable[..., Any]:
        variant, density = self._variant, self._density
        loss = _make_loss(self._layers, density, variant, self._draws)
        shape = (density.dim, self._draws) if variant.draws_last else (self._draws, density.dim)

        def noise(key: Any) -> Any:
            if density.draw_batch is None:
                return jax.random.normal(key, shape), None
            of_z, of_batch = jax.random.split(key)
            return jax.random.normal(of_z, shape), density.draw_batch(of_batch)

        def block_noise(key: Any) -> Any:
            if density.draw_batch is None:
                return jax.random.normal(key, (variant.block, *shape)), None
            return jax.vmap(noise)(jax.random.split(key, variant.block))

        def loop(state: Any, key: Any, table: Any, blocks: int) -> Any:
            def step(state: Any, drawn: Any) -> Any:
                z0, index = drawn
                batch = tuple(array[index] for array in table)
                value, gradient = jax.value_and_grad(loss)(state[0], z0, batch)
                return _adam(state, gradient, self._rate), value

            def block(state: Any, key: Any) -> Any:
                if variant.block == 1:
                    return step(state, noise(key))
                return lax.scan(step, state, block_noise(key))

            return lax.scan(block, state, jax.random.split(key, blocks))

        return loop


def parse_formula(formula: str) -> list[tuple[str, int]]:
    """Words and how often each is repeated: ``scale-hh*4-loc``."""
    found = [re.fullmatch(r"(\w+)(?:\*(\d+))?", part) for part in formula.split("-")]
    return [(match[1], int(match[2] or 1)) for match in found if match]


def _start_params(layers: list[tuple[str, int]], dim: int) -> np.ndarray:
    """A start as pmflow's, layer by layer in the order of `_SHAPES`, in one vector."""
    rng = np.random.default_rng(1)
    parts: list[np.ndarray] = []
    for word, count in layers:
        if word == "planar":
            w = rng.standard_normal((count, dim))
            w /= np.linalg.norm(w, axis=-1, keepdims=True)
            u = _SOFTPLUS_ONE * w + 0.1 * rng.standard_normal((count, dim))
            parts += [rng.standard_normal(count), u, w]
        elif word == "hh":
            parts.append(rng.standard_normal((count, dim)) / math.sqrt(dim))
        else:
            centre = _SOFTPLUS_ONE if word == "scale" else 0.0
            parts.append(centre + 0.1 * rng.standard_normal((count, dim)))
    return np.concatenate([part.ravel() for part in parts])


def _unpack(vector: Any, layers: list[tuple[str, int]], dim: int) -> list[tuple[Any, ...]]:
    """Parameters by kind of layer, stacked over equal layers."""
    begin, unpacked = 0, []
    for word, count in layers:
        arrays = []
        for shape in _SHAPES[word]:
            full = (count, *([dim] if shape else []))
            size = math.prod(full)
            arrays.append(vector[begin : begin + size].reshape(full))
            begin += size
        unpacked.append(tuple(arrays))
    return unpacked


def _adam(state: Any, gradient: Any, rate: float) -> Any:
    """One step as PyMC's Adam does it."""
    params, m, v, t = state
    t = t + 1
    m = 0.9 * m + 0.1 * gradient
    v = 0.999 * v + 0.001 * gradient**2
    scale = rate * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
    return params - scale * m / (jnp.sqrt(v) + 1e-8), m, v, t


def _softplus(x: Any) -> Any:
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


def _make_loss(
    layers: list[tuple[str, int]], density: Density, variant: Variant, draws: int
) -> Callable[..., Any]:
    """Negative ELBO of the parameters at a base draw."""
    axis = 0 if variant.draws_last else -1

    def wide(param: Any) -> Any:
        return param[:, None] if variant.draws_last else param

    def planar(carry: Any, params: Any) -> Any:
        z, log_det = carry
        b, u_hat, w, margin = params
        bend = jnp.tanh((z * wide(w)).sum(axis) + b)  # (draws,)
        log_det = log_det + jnp.log(bend**2 + margin * (1 - bend**2))
        return (z + wide(u_hat) * jnp.expand_dims(bend, axis), log_det), None

    def reflect(carry: Any, params: Any) -> Any:
        z, log_det = carry
        v, scaled = params
        return (z - (z * wide(v)).sum(axis, keepdims=True) * wide(scaled), log_det), None

    def repeat(layer: Callable[..., Any], carry: Any, stacked: tuple[Any, ...]) -> Any:
        if variant.scan_layers:
            return lax.scan(layer, carry, stacked)[0]
        for params in zip(*stacked, strict=True):
            carry, _ = layer(carry, params)
        return carry

    def apply(word: str, carry: Any, params: tuple[Any, ...]) -> Any:
        if word == "planar":
            b, u, w = params
            wu = (w * u).sum(-1)
            margin = _softplus(wu)
            u_hat = u + ((margin - 1 - wu) / (w**2).sum(-1))[:, None] * w
            return repeat(planar, carry, (b, u_hat, w, margin))
        if word == "hh":
            (v,) = params
            return repeat(reflect, carry, (v, 2 * v / (v**2).sum(-1, keepdims=True)))
        z, log_det = carry
        for param in params[0]:
            if word == "loc":
                z = z + wide(param)
            else:
                sigma = _softplus(param)
                z, log_det = z * wide(sigma), log_det + jnp.log(sigma).sum()
        return z, log_det

    def loss(vector: Any, z0: Any, batch: Any) -> Any:
        carry = (z0, jnp.zeros(draws))
        unpacked = _unpack(vector, layers, density.dim)
        for (word, _), params in zip(layers, unpacked, strict=True):
            carry = apply(word, carry, params)
        z, log_det = carry
        points = jax.vmap(density.log_density, in_axes=(1 if variant.draws_last else 0, None))
        log_q = -0.5 * (z0**2).sum(axis) - density.dim * _HALF_LOG_2_PI - log_det
        return (log_q - points(z, batch)).mean()

    return loss
