"""Flows that know which variables of a model meet: against Gaussian posteriors, known exactly."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from scipy import stats

import pmflow as pmf
from pmflow.errors import ParameterError, UnsupportedError
from pmflow.flows.catalogue import _preserved

RNG = np.random.default_rng(2)
STEPS, GROUPS = 30, 6
SEEN = np.cumsum(RNG.normal(size=STEPS))


def walk() -> pm.Model:
    """A level, and steps that meet the next one and the level: 3 of 31 in a column."""
    with pm.Model(coords={"time": range(STEPS)}) as model:
        level = pm.Normal("level", 0.0, 2.0)
        x = pm.Normal("x", 0.0, 1.0, dims="time")
        pm.Potential("steps", pt.sum(-0.5 * (x[1:] - x[:-1]) ** 2))
        pm.Normal("y", level + x, 0.5, observed=SEEN, dims="time")
    return model


def exact() -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the walk, by its precision."""
    difference = np.diff(np.eye(STEPS), axis=0)
    design = np.column_stack([np.ones(STEPS), np.eye(STEPS)])
    precision = design.T @ design / 0.25
    precision[1:, 1:] += np.eye(STEPS) + difference.T @ difference
    precision[0, 0] += 0.25
    covariance = np.linalg.inv(precision)
    return covariance @ design.T @ SEEN / 0.25, covariance


def dense() -> pm.Model:
    """All weights of a network meet."""
    x = RNG.normal(size=(20, 2))
    with pm.Model() as model:
        w = pm.Normal("w", shape=(2, 3))
        v = pm.Normal("v", shape=3)
        pm.Normal("y", pt.tanh(x @ w) @ v, 1.0, observed=x[:, 0])
    return model


def flow(formula: str, model: pm.Model, **options: Any) -> Any:
    return pmf.NormalizingFlow(formula, model=model, random_seed=1, **options)


def assert_exact(approx: Any) -> None:
    mean, covariance = exact()
    z = np.random.default_rng(4).multivariate_normal(mean, covariance, size=5)
    expected = stats.multivariate_normal(mean, covariance).logpdf(z)
    np.testing.assert_allclose(approx.log_prob(z), expected, atol=0.02)


def test_a_layer_has_parameters_for_what_meets_in_the_model() -> None:
    (group,) = flow("scale-sparse-loc", walk()).groups
    shapes = group.flow.param_shapes(STEPS + 1)
    # the level is eliminated last: below each step are the next one and the level
    assert shapes[1] == {"rho": (STEPS + 1,), "entries": (2 * STEPS - 1,)}
    assert str(group.flow.formula) == "scale-sparse-loc"


def test_trained_it_is_the_posterior() -> None:
    approx = pmf.NFVI("sparse-loc", model=walk(), random_seed=1).fit(progressbar=False)
    assert approx.diagnosis is None
    assert pmf.diagnose(approx, random_seed=1).k_hat < 0.3
    mean, covariance = exact()
    draws = approx.draw(4_000, 1).unconstrained
    found = np.column_stack([draws["level"], draws["x"]])
    sds = np.sqrt(np.diag(covariance))
    assert np.abs((found.mean(0) - mean) / sds).max() < 0.15
    assert np.abs(np.log(found.std(0) / sds)).max() < 0.15


@pytest.mark.parametrize("formula", ["loc", "scale-sparse-loc"])
def test_in_a_sparse_frame_it_begins_at_the_posterior(formula: str) -> None:
    approx = flow(formula, walk(), frame="sparse", jitter=0.0)
    assert (approx.frame.kind, approx.frame.note) == ("sparse", "")
    assert_exact(approx)


def test_a_frame_maps_there_and_back() -> None:
    frame = flow("loc", walk(), frame="sparse", jitter=0.0).frame
    _, covariance = exact()
    np.testing.assert_allclose(frame.sds, np.sqrt(np.diag(covariance)), rtol=1e-3)
    y = RNG.normal(size=(4, STEPS + 1))
    z = frame.forward(y)
    np.testing.assert_allclose(frame.backward(z), y, atol=1e-12)
    jacobian = frame.forward(np.eye(STEPS + 1)) - frame.loc  # in rows
    np.testing.assert_allclose(jacobian.T @ jacobian, covariance, atol=1e-3)
    np.testing.assert_allclose(frame.pull_gradient(y), y @ jacobian.T, atol=1e-12)
    assert frame.log_det == pytest.approx(np.linalg.slogdet(jacobian)[1])
    assert not frame.is_diagonal
    with pytest.raises(ParameterError, match="can't be moved"):
        frame.moved(y[0], np.ones(STEPS + 1))


@pytest.mark.parametrize("formula", ["spline[hidden=0]-sparse-loc", "scale"])
def test_a_file_keeps_what_meets(formula: str, tmp_path: Path, monkeypatch: Any) -> None:
    model, frame = walk(), "sparse" if formula == "scale" else None
    approx = flow(formula, model, frame=frame, jitter=0.3)
    approx.save(tmp_path / "flow.pmflow")
    # it is not read again
    monkeypatch.setattr("pmflow.family.latent.read_pattern", None)
    again: Any = pmf.load(tmp_path / "flow.pmflow", model=model)
    z = RNG.normal(size=(3, STEPS + 1))
    np.testing.assert_array_equal(again.log_prob(z), approx.log_prob(z))
    assert again.to_state().groups[0].formula == approx.to_state().groups[0].formula


def test_other_starts_have_the_frame_of_their_own() -> None:
    inference = pmf.NFVI("scale-loc", model=walk(), random_seed=1, frame="sparse", jitter=0.0)
    approx: Any = inference.fit(200, restarts=2, progressbar=False)
    first, second = approx.report.points
    assert first.frame.kind == second.frame.kind == "sparse"
    assert approx.starts.modes == (0, 0)


def test_where_all_meet_the_layer_has_all_entries() -> None:
    (group,) = flow("sparse-loc", dense()).groups
    assert group.flow.param_shapes(9)[0]["entries"] == (36,)


def test_where_all_meet_the_frame_is_a_dense_one(caplog: Any) -> None:
    with caplog.at_level(logging.INFO, "pmflow"):
        frame = flow("loc", dense(), frame="sparse", jitter=0.0).frame
    assert frame.kind == "gaussian"
    assert "No sparse frame, because nearly all of its variables meet." in frame.note
    assert "No sparse frame, because nearly all of its variables meet." in caplog.text


def test_where_too_many_meet_the_layer_says_so(monkeypatch: Any) -> None:
    monkeypatch.setattr("pmflow.embedded.structure._MOST", 10)
    with pytest.raises(UnsupportedError, match=r"because nearly all of its variables meet\. Use"):
        flow("sparse-loc", dense())


def test_a_layer_that_goes_by_what_meets_needs_all_variables() -> None:
    model = walk()
    with pytest.raises(ParameterError, match="needs all free variables of the model in one group"):
        pmf.Group([model["x"]], "sparse-loc", model=model)


@dataclass(frozen=True)
class Shift(pmf.flows.AbstractLayer):
    """One number for each variable is added to all of its entries."""

    word: ClassVar[str] = "shift"
    is_affine: ClassVar[bool] = True

    def bind(self, latent: pmf.flows.Latent) -> Shift:
        return BoundShift(latent)

    def param_shapes(self, dim: int) -> dict[str, tuple[int, ...]]:
        return {"by": (dim,)}

    def init_params(self, dim: int, jitter: float, rng: Any) -> dict[str, Any]:
        return {k: jitter * rng.normal(size=shape) for k, shape in self.param_shapes(dim).items()}

    def forward(self, z: Any, params: Any) -> tuple[Any, Any]:
        return z + params["by"], pt.zeros_like(z[..., 0])

    def inverse(self, z: Any, params: Any) -> Any:
        return z - params["by"]


@dataclass(frozen=True)
class BoundShift(Shift):
    latent: pmf.flows.Latent

    def __str__(self) -> str:
        return self.word

    def param_shapes(self, dim: int) -> dict[str, tuple[int, ...]]:
        return {"by": (len(self.latent.blocks),)}

    def forward(self, z: Any, params: Any) -> tuple[Any, Any]:
        return z + self._each(params), pt.zeros_like(z[..., 0])

    def inverse(self, z: Any, params: Any) -> Any:
        return z - self._each(params)

    def _each(self, params: Any) -> Any:
        owner = np.empty(self.latent.dim, dtype=int)
        for number, place in enumerate(self.latent.blocks.values()):
            owner[place] = number
        return params["by"][owner]


def test_a_layer_of_ones_own_may_know_the_variables() -> None:
    with _preserved():
        pmf.flows.register(Shift)
        approx = flow("scale-shift", walk(), jitter=0.0)
        (group,) = approx.groups
        latent = group.flow.layers[1].latent
        assert latent.blocks == {"level": slice(0, 1), "x": slice(1, STEPS + 1)}
        assert (latent.dims, latent.coords["time"][:2]) == ({"level": (), "x": ("time",)}, (0, 1))
        group.layer_params[1]["by"].set_value([3.0, -2.0])
        mean = approx.draw(2_000, 1).unconstrained
        assert mean["level"].mean() == pytest.approx(3, abs=0.1)
        assert mean["x"].mean() == pytest.approx(-2, abs=0.1)


def test_latent_tells_what_meets() -> None:
    (group,) = flow("loc", walk()).groups
    assert group.latent.known_graph is None
    graph = group.latent.graph()
    dim = STEPS + 1
    found = np.zeros((dim, dim), dtype=bool)
    for row in range(dim):
        found[row, graph.indices[graph.pointers[row] : graph.pointers[row + 1]]] = True
    expected = np.linalg.inv(exact()[1])
    np.testing.assert_array_equal(found, np.abs(expected) > 1e-9)
