"""PyMC's own step loop, and pymc-extras' trainer."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pymc as pm
from pymc.variational.inference import ADVI, KLqp
from pymc.variational.opvi import Approximation

import pmflow as pmf

from .models import build_model
from .rows import LEARNING_RATE, Row

__all__ = ["ExtrasTrainer", "PymcAdvi", "PymcLoop", "PymcScanningLoop"]


class _Looped:
    """PyMC's `Inference.fit`: one call of the compiled step for each step, from Python."""

    note = ""

    def __init__(self, row: Row, *, backend: str) -> None:
        self._row, self._backend = row, backend
        self._model = build_model(row.target)

    def _make(self) -> Any:
        raise NotImplementedError

    def start(self) -> None:
        self._inference = self._make()
        self._inference.fit(
            1,
            obj_n_mc=self._row.draws,
            obj_optimizer=pm.adam(learning_rate=LEARNING_RATE),
            backend=self._backend,
            progressbar=False,
        )

    def run(self, steps: int) -> int:
        self._inference.refine(steps, progressbar=False)
        return steps

    def loss(self) -> float:
        return float(np.mean(self._inference.hist[-1_000:]))


class PymcLoop(_Looped):
    """`pymc.KLqp` on pmflow's approximation."""

    note = "pmflow's approximation, its draws vectorised; step and loop are PyMC's"

    def _make(self) -> Any:
        return KLqp(pmf.NormalizingFlow(self._row.formula, model=self._model, random_seed=1))


class _Scanning(pmf.NormalizingFlow):
    """A flow whose draws are looped over as PyMC does it."""

    symbolic_sample_over_posterior = Approximation.symbolic_sample_over_posterior


class PymcScanningLoop(_Looped):
    """`pymc.KLqp` with nothing of pmflow but the layers."""

    note = "pmflow's layers; PyMC's scan over draws, step and loop"

    def _make(self) -> Any:
        return KLqp(_Scanning(self._row.formula, model=self._model, random_seed=1))


class PymcAdvi(_Looped):
    """`pymc.ADVI`."""

    note = "all PyMC's own"

    def _make(self) -> Any:
        return ADVI(model=self._model, random_seed=1)


class ExtrasTrainer:
    """`pymc_extras.inference.advi.Trainer` with its mean-field guide."""

    note = "Trainer, path_derivative_gradient=False: the same estimator"

    def __init__(self, row: Row, *, backend: str) -> None:
        self._row, self._backend = row, backend
        self._model = build_model(row.target)
        self._advi: Any = importlib.import_module("pymc_extras.inference.advi")

    def start(self) -> None:
        self._trainer = self._advi.Trainer(
            optimizer=self._advi.adam(LEARNING_RATE),
            n_particles=self._row.draws,
            path_derivative_gradient=False,
            backend=self._backend,
            random_seed=1,
        )
        self.run(1)

    def run(self, steps: int) -> int:
        self._trainer.fit(steps, model=self._model)
        return steps

    def loss(self) -> float:
        return float(np.mean(self._trainer.state.loss_history[-1_000:]))
