"""flowjax: its own loop, one call a step from Python, and its loss in a scan of ours.

Its planar flow permutes the coordinates between layers and bounds ``w.u`` a little differently. Its
coupling has an affine transformer, a bounded scale and a permutation.
"""

from __future__ import annotations

import importlib
from typing import Any

import jax
import numpy as np
from jax import lax

from .densities import build_densities
from .rows import LEARNING_RATE, Row

__all__ = ["FlowjaxLoop", "FlowjaxScanned"]


class FlowjaxLoop:
    """`flowjax.train.fit_to_key_based_loss` with `ElboLoss` on its planar flow."""

    note = "its own loop, no progress bar"
    _flow: Any
    _elbo: Any
    _optimizer: Any

    def __init__(self, row: Row) -> None:
        word, _, layers = row.formula.partition("*")
        self._draws, self._layers, self._is_planar = row.draws, int(layers), word == "planar"
        self._density = build_densities(row.target)[0]
        self._flows: Any = importlib.import_module("flowjax.flows")
        self._distributions: Any = importlib.import_module("flowjax.distributions")
        self._train: Any = importlib.import_module("flowjax.train")
        self._losses_module: Any = importlib.import_module("flowjax.train.losses")
        self._optax: Any = importlib.import_module("optax")
        self._key = jax.random.key(1)

    def start(self) -> None:
        self._make()
        self.run(1)

    def run(self, steps: int) -> int:
        self._key, key = jax.random.split(self._key)
        self._flow, losses = self._train.fit_to_key_based_loss(
            key,
            self._flow,
            loss_fn=self._elbo,
            steps=steps,
            optimizer=self._optimizer,
            show_progress=False,
        )
        self._losses = np.asarray(losses)
        return steps

    def loss(self) -> float:
        return float(self._losses[-1_000:].mean())

    def _make(self) -> None:
        self._key, key = jax.random.split(self._key)
        base = self._distributions.StandardNormal((self._density.dim,))
        if self._is_planar:
            self._flow = self._flows.planar_flow(
                key, base_dist=base, flow_layers=self._layers, invert=False
            )
        else:  # pmflow's layer is a pair of couplings with opposite masks
            self._flow = self._flows.coupling_flow(
                key, base_dist=base, flow_layers=2 * self._layers, nn_width=32, invert=False
            )
        self._elbo = self._losses_module.ElboLoss(
            lambda z: self._density.log_density(z, None), num_samples=self._draws
        )
        self._optimizer = self._optax.adam(LEARNING_RATE)


class FlowjaxScanned(FlowjaxLoop):
    """The same flow and loss, the loop over steps compiled by us."""

    note = "its flow and loss, the loop by lax.scan is ours"

    def start(self) -> None:
        self._make()
        equinox: Any = importlib.import_module("equinox")
        paramax: Any = importlib.import_module("paramax")
        params, static = equinox.partition(
            self._flow,
            equinox.is_inexact_array,
            is_leaf=lambda leaf: isinstance(leaf, paramax.NonTrainable),
        )
        self._state = (params, self._optimizer.init(params))

        def loop(state: Any, key: Any, steps: int) -> Any:
            def step(state: Any, key: Any) -> Any:
                params, optimizer_state = state
                value, gradient = jax.value_and_grad(
                    lambda params: self._elbo(params, static, key=key)
                )(params)
                change, optimizer_state = self._optimizer.update(gradient, optimizer_state)
                return (self._optax.apply_updates(params, change), optimizer_state), value

            return lax.scan(step, state, jax.random.split(key, steps))

        self._loop = jax.jit(loop, static_argnums=2)
        self.run(10)

    def run(self, steps: int) -> int:
        self._key, key = jax.random.split(self._key)
        self._state, losses = self._loop(self._state, key, steps)
        self._losses = np.asarray(losses)
        return steps
