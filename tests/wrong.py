"""Wrong arguments: tables of them stand beside what they are given to, one file a room.

A row is a call, the exception that it must raise, and words that the message must hold: what was
expected, what came, what to do. Unless a row says that it compiles, nothing may have been compiled
when the error comes: PyTensor's compiler is replaced by a failure.
"""

# mypy: disable-error-code="misc, assignment"

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytest
import xarray as xr

import pmflow as pmf
from pmflow.errors import PmflowError
from pmflow.training import trainer

FAST: dict[str, Any] = {"compile_kwargs": {"mode": "FAST_COMPILE"}, "progressbar": False}


class World:
    """Good objects, made when first needed, before the compiler is taken away."""

    @cached_property
    def model(self) -> pm.Model:
        """Two free variables, three numbers."""
        with pm.Model(coords={"place": ["a", "b"]}) as model:
            x = pm.Normal("x", dims="place")
            s = pm.HalfNormal("s")
            pm.Normal("y", x.sum(), s, observed=0.5)
        return model

    @cached_property
    def other(self) -> pm.Model:
        """A model of other variables."""
        with pm.Model() as model:
            pm.Normal("z", shape=2)
        return model

    @cached_property
    def line(self) -> pm.Model:
        """A model of one number."""
        with pm.Model() as model:
            pm.Normal("z")
        return model

    @cached_property
    def empty(self) -> pm.Model:
        """A model without free variables."""
        with pm.Model() as model:
            pm.Normal("y", observed=1.0)
        return model

    @cached_property
    def discrete(self) -> pm.Model:
        """A model with one discrete free variable."""
        with pm.Model() as model:
            pm.Normal("z")
            pm.Poisson("n", 2.0)
        return model

    @cached_property
    def minibatch(self) -> pm.Model:
        """A model of rows in minibatches that nobody scales up to all of them."""
        with pm.Model() as model:
            mu = pm.Normal("mu")
            rows = pm.Minibatch(np.zeros(20), batch_size=5)
            pm.Potential("rows", pm.logp(pm.Normal.dist(mu, 1.0), rows).sum())
        return model

    @cached_property
    def approx(self) -> pmf.NormalizingFlow:
        return pmf.NormalizingFlow("scale-loc", model=self.model, random_seed=1)

    @cached_property
    def batched(self) -> pmf.NormalizingFlow:
        return pmf.NormalizingFlow("scale-loc", model=self.minibatch, random_seed=1)

    @cached_property
    def mixed(self) -> pmf.Approximation:
        groups = [
            pmf.Group([self.model["x"]], "mf", model=self.model, random_seed=1),
            pmf.Group(None, "scale-loc", model=self.model, random_seed=1),
        ]
        return pmf.Approximation(groups)

    @cached_property
    def advi(self) -> Any:
        """PyMC's own approximation."""
        return pm.MeanField(model=self.model, random_seed=1)

    @cached_property
    def choosing(self) -> pmf.NFVI:
        """With a base whose gradient needs independent draws."""
        return pmf.NFVI("scale-loc", model=self.model, base="mixture", random_seed=1)

    @cached_property
    def inference(self) -> pmf.NFVI:
        return pmf.NFVI(self.approx)

    @cached_property
    def fixed(self) -> pmf.NFVI:
        """Without anything to train."""
        group = pmf.Group(None, params={0: {"loc": [0.0, 1.0, 2.0]}}, model=self.model)
        return pmf.NFVI(pmf.Approximation([group]))

    @cached_property
    def begun(self) -> pmf.NFVI:
        inference = pmf.NFVI("scale-loc", model=self.other, random_seed=1)
        self.tracker = pmf.Tracker(inference)
        inference.fit(2, callbacks=[self.tracker], **FAST)
        return inference

    @cached_property
    def trace(self) -> xr.Dataset:
        _ = self.begun
        return self.tracker.to_dataset()

    @cached_property
    def draws(self) -> xr.Dataset:
        rng = np.random.default_rng(1)
        arrays = {"x": (("chain", "draw", "place"), rng.normal(size=(2, 50, 2)))}
        arrays["s"] = (("chain", "draw"), rng.normal(size=(2, 50)))
        return xr.Dataset(arrays, coords={"place": ["a", "b"]})

    @cached_property
    def points(self) -> np.ndarray:
        return np.random.default_rng(1).normal(size=(50, 2))


type Call = Callable[[World], Any]


@dataclass
class Row:
    """A wrong call and what must come of it."""

    call: Call
    error: type[Exception]
    words: tuple[str, ...]
    compiles: bool = False


@dataclass
class Rows:
    """What a file has of them, by name."""

    table: dict[str, Row] = field(default_factory=dict)

    def add(
        self, name: str, call: Call, error: type[Exception], *words: str, compiles: bool = False
    ) -> None:
        """Add a row."""
        assert name not in self.table, name
        self.table[name] = Row(call, error, words, compiles)

    def add_all(
        self,
        name: str,
        values: dict[str, Any],
        call: Callable[[World, Any], Any],
        error: type[Exception],
        *words: str,
        compiles: bool = False,
    ) -> None:
        """Add a row for each wrong value of an argument."""
        for label, value in values.items():
            self.add(
                f"{name}={label}",
                lambda w, value=value: call(w, value),
                error,
                *words,
                compiles=compiles,
            )


NAN, INF = float("nan"), float("inf")
NO_COUNT: dict[str, Any] = {
    "-1": -1,
    "2.5": 2.5,
    "True": True,
    "'5'": "5",
    "nan": NAN,
    "[5]": [5],
    "array": np.array([5, 6]),
}
NOT_POSITIVE = NO_COUNT | {"0": 0}
NO_FLAG: dict[str, Any] = {"'no'": "no", "5": 5, "array": np.ones(2)}
NO_SEED: dict[str, Any] = {
    "-1": -1,
    "1.5": 1.5,
    "'a'": "a",
    "True": True,
    "2**32": 2**32,
    "[1, 2]": [1, 2],
    "{}": {},
}
NO_MODEL: dict[str, Any] = {"'m'": "m", "5": 5, "class": pm.Model}
NO_FORMULA: dict[str, Any] = {
    "5": 5,
    "None": None,
    "bytes": b"loc",
    "list": ["loc"],
    "empty": "",
    "blank": "  ",
    "unknown": "nope",
    "hanging": "scale-",
    "double": "scale--loc",
    "leading": "-loc",
    "zero": "loc*0",
    "negative": "loc*-2",
    "fraction": "loc*1.5",
    "huge": "loc*999999999",
    "open": "(loc",
    "closed": "loc)",
    "no such option": "loc[a=1]",
    "open option": "iaf[hidden=3",
    "unicode": "planar✻2",
    "NUL": "loc\x00",
}


@cache
def world() -> World:
    """All of it, made once, while there is a compiler."""
    world = World()
    for name in dir(World):
        if isinstance(getattr(World, name), cached_property):
            getattr(world, name)
    return world


class CompiledError(Exception):
    """Something was compiled."""


def refuse(*args: Any, **kwargs: Any) -> Any:
    raise CompiledError


def check(row: Row) -> None:
    """Make the call without a compiler, and read its error."""
    import matplotlib.pyplot as plt

    good = world()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "compile_loop", refuse)  # no row begins to train
        if not row.compiles:
            patch.setattr(pytensor, "function", refuse)
        with pytest.raises(row.error) as caught:
            row.call(good)
    plt.close("all")
    message = str(caught.value)
    assert isinstance(caught.value, PmflowError | KeyError)
    assert [words for words in row.words if words not in message] == []
    assert len(message) < 2_000
