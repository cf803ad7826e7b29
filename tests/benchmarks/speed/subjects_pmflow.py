"""pmflow, by its public names only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm

import pmflow as pmf

from .models import build_model
from .rows import LEARNING_RATE, Row

__all__ = ["Pmflow"]


class Pmflow:
    """`pmflow.NFVI`."""

    note = ""

    def __init__(self, row: Row, *, backend: str) -> None:
        self._row, self._backend = row, backend
        self._model = build_model(row.target)

    def start(self, **kwargs: Any) -> None:
        self.inference = pmf.NFVI(self._row.formula, model=self._model, random_seed=1)
        self.inference.fit(
            1,
            obj_n_mc=self._row.draws,
            obj_optimizer=pm.adam(learning_rate=LEARNING_RATE),
            backend=self._backend,
            progressbar=False,
            **kwargs,
        )

    def run(self, steps: int) -> int:
        self.inference.refine(steps, progressbar=False)
        return steps

    def loss(self) -> float:
        return float(np.mean(self.inference.hist[-1_000:]))
