"""Models of `pymc.dims`: the densities, fits and draws of the same models of plain arrays."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pymc as pm
import pytest
import xarray as xr
from pymc import dims as pmd

import pmflow as pmf
from pmflow.family.functions import joint_ordering
from pmflow.graphs.labelled import as_plain
from pmflow.posterior.density import LogDensity

RNG = np.random.default_rng(1)
N = 40
X, Y = RNG.normal(size=(N, 3)), RNG.normal(size=N)
COORDS = {"group": list("abc"), "row": range(N)}
FAST: dict[str, Any] = {"compile_kwargs": {"mode": "FAST_COMPILE"}, "progressbar": False}


def labelled() -> pm.Model:
    with pm.Model(coords=COORDS) as model:
        spread = pmd.HalfNormal("spread", 1.0)
        effect = pmd.Normal("effect", 0.0, spread, dims="group")
        share = pmd.Dirichlet("share", pmd.as_xtensor(np.ones(3), dims="group"), core_dims="group")
        x = pmd.Data("x", X, dims=("row", "group"))
        y = pmd.Data("values", Y, dims="row")
        mean = pmd.Deterministic("mean", x.dot(effect * share, dim="group"))
        pmd.Potential("wish", -((effect - 0.5) ** 2).sum())
        pmd.Normal("y", mean, 1.0, observed=y, dims="row")
    return model


def plain() -> pm.Model:
    with pm.Model(coords=COORDS) as model:
        spread = pm.HalfNormal("spread", 1.0)
        effect = pm.Normal("effect", 0.0, spread, dims="group")
        share = pm.Dirichlet("share", np.ones(3), dims="group")
        x = pm.Data("x", X, dims=("row", "group"))
        y = pm.Data("values", Y, dims="row")
        mean = pm.Deterministic("mean", x @ (effect * share), dims="row")
        pm.Potential("wish", -((effect - 0.5) ** 2).sum())
        pm.Normal("y", mean, 1.0, observed=y, dims="row")
    return model


def density(model: pm.Model) -> LogDensity:
    approx = pmf.NormalizingFlow(model=model, random_seed=1)
    return LogDensity(model, joint_ordering(approx.groups))


def test_densities_and_gradients_are_those_of_plain_arrays() -> None:
    z = RNG.normal(size=(5, 6))
    one, two = (density(model).value_and_gradient(z) for model in (labelled(), plain()))
    np.testing.assert_allclose(one[0], two[0], rtol=1e-10)
    np.testing.assert_allclose(one[1], two[1], rtol=1e-8)


def test_draws_are_those_of_plain_arrays_and_of_all_at_once() -> None:
    found = []
    for model in (labelled(), plain()):
        approx = pmf.fit(5, "nfvi=scale-loc", model, random_seed=1, **FAST)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # "Draws are looped over"
            found.append(approx.sample(7, random_seed=2, log_likelihood=True))
    one, two = found
    for group in ("posterior", "sample_stats", "observed_data", "constant_data", "log_likelihood"):
        ours, known = one[group].to_dataset(), two[group].to_dataset()
        assert set(ours) == set(known)
        for name in known:
            assert ours[name].dims == known[name].dims
            np.testing.assert_allclose(ours[name], known[name], rtol=1e-8)


def test_a_graph_without_labels_stays_as_it_is() -> None:
    graph = plain().logp()
    assert as_plain([graph])[0] is graph


@pytest.mark.parametrize(("formula", "backend"), [("sparse-loc", "numba"), ("coupling*2", "jax")])
def test_flows_are_trained_on_it(formula: str, backend: str) -> None:
    kept: dict[str, Any] = {"method": f"nfvi={formula}", "random_seed": 1, "progressbar": False}
    one, two = (pmf.fit(20, model=m(), backend=backend, **kept) for m in (labelled, plain))
    np.testing.assert_allclose(one.hist, two.hist, rtol=1e-6)


def test_a_fit_without_a_formula_is_judged_alike() -> None:
    models = (pm.do(m(), {"spread": 1.0}) for m in (labelled, plain))  # no network is needed then
    one, two = (pmf.fit(model=m, random_seed=1, progressbar=False) for m in models)
    assert one.diagnosis.verdict == two.diagnosis.verdict == "reliable"
    errors = np.hypot(one.diagnosis.log_evidence_se, two.diagnosis.log_evidence_se)
    assert abs(one.diagnosis.log_evidence - two.diagnosis.log_evidence) < 4 * errors + 0.02
    assert one.sample(3).posterior["mean"].dims == ("chain", "draw", "row")


def test_new_data_are_seen() -> None:
    model = labelled()
    approx = pmf.NormalizingFlow(model=model, random_seed=1)
    with model:
        pm.set_data(
            {"x": xr.DataArray(X[:4], dims=("row", "group")), "values": Y[:4]},
            coords={"row": range(4)},
        )
    assert approx.sample(3, var_names="mean").posterior["mean"].shape == (1, 3, 4)


def test_rows_may_be_kept_elsewhere() -> None:
    many = RNG.normal(size=(5_000, 3))
    y = many @ [1.0, -1.0, 0.5] + RNG.normal(size=5_000)
    with pm.Model(coords={"k": list("abc"), "row": range(10)}) as model:
        slope = pmd.Normal("slope", 0.0, 10.0, dims="k")
        x = pmd.Data("x", many[:10], dims=("row", "k"))
        observed = pmd.Data("values", y[:10], dims="row")
        pmd.Normal("y", x.dot(slope, dim="k"), 1.0, observed=observed)
    rows = {"x": many, "values": y}
    approx = pmf.fit(model=model, rows=rows, batch_size=500, random_seed=1, progressbar=False)
    assert approx.diagnosis.verdict == "reliable"
    known = np.linalg.solve(many.T @ many + np.eye(3) / 100, many.T @ y)
    found = approx.sample(4_000, random_seed=1).posterior["slope"].values.reshape(-1, 3)
    np.testing.assert_allclose(found.mean(0), known, atol=0.1 / 5_000**0.5)
