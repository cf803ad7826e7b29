"""Models of Bambi, and of packages that hold a PyMC model: fits are as these would make them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytest
from xarray import Dataset

import pmflow as pmf
from pmflow.errors import ParameterError, UnsupportedError
from pmflow.posterior.packages import pymc_model_in

bambi = pytest.importorskip("bambi")

# of formulae, which reads a formula for Bambi
pytestmark = pytest.mark.filterwarnings("ignore:For backward compatibility:DeprecationWarning")

RNG = np.random.default_rng(1)
N = 60
DATA = pd.DataFrame({"x": RNG.normal(10, 2, N), "w": RNG.normal(5, 1, N), "g": list("abcd" * 15)})
DATA["y"] = 3 + 2.5 * DATA["x"] - DATA["w"] + RNG.normal(size=N)

FLOW: dict[str, Any] = {"method": "nfvi=scale-hh*2-loc", "random_seed": 1, "progressbar": False}
FLOW |= {"compile_kwargs": {"mode": "FAST_COMPILE"}}


def lines() -> Any:
    return bambi.Model("y ~ x + w", DATA)


@pytest.fixture(scope="module")
def model() -> Any:
    return lines()


@pytest.fixture(scope="module")
def fitted(model: Any) -> pmf.Approximation:
    return pmf.fit(model=model, random_seed=1, progressbar=False)


def posterior(tree: Any) -> Dataset:
    found: Dataset = tree["posterior"].to_dataset()
    return found


def log_likelihood(tree: Any) -> Any:
    return tree["log_likelihood"].to_dataset()["y"].values


def test_the_intercept_is_that_of_the_formula(fitted: pmf.Approximation) -> None:
    """Its priors are wide: the posterior is nearly that of least squares."""
    assert fitted.diagnosis.verdict == "reliable"
    rows = np.column_stack([np.ones(N), DATA["x"], DATA["w"]])
    known, squares, *_ = np.linalg.lstsq(rows, DATA["y"])
    sds = np.sqrt(np.diag(np.linalg.inv(rows.T @ rows)) * squares / (N - 3))
    found = posterior(fitted.sample(4_000, random_seed=1))
    draws = np.array([found[name].values.ravel() for name in ("Intercept", "x", "w")])
    np.testing.assert_allclose((draws.mean(1) - known) / sds, 0.0, atol=0.15)
    np.testing.assert_allclose(draws.std(1) / sds, 1.0, atol=0.15)


def test_bambi_predicts_by_it(model: Any, fitted: pmf.Approximation) -> None:
    new = pd.DataFrame({"x": [8.0, 12.0], "w": [5.0, 4.0]})
    tree = fitted.sample(50, random_seed=1)
    found = model.predict(tree, data=new, inplace=False)["posterior"]["mu"].values[0]
    draws = posterior(tree)
    by_hand = (
        draws["Intercept"] + draws["x"] * new["x"].to_xarray() + draws["w"] * new["w"].to_xarray()
    )
    np.testing.assert_allclose(found, by_hand.values[0], rtol=1e-10)


def test_log_likelihoods_are_those_of_bambi(model: Any, fitted: pmf.Approximation) -> None:
    tree = fitted.sample(20, random_seed=1, log_likelihood=True)
    ours = np.array(log_likelihood(tree))
    model.compute_log_likelihood(tree)
    np.testing.assert_allclose(ours, log_likelihood(tree), rtol=1e-8)


def test_judged_and_weighted_draws_are_of_it_too(fitted: pmf.Approximation) -> None:
    drawn = posterior(fitted.sample(2_000, random_seed=1))["Intercept"]
    weighted = posterior(pmf.importance_resample(fitted, 2_000, random_seed=1))["Intercept"]
    assert abs(float(weighted.mean() - drawn.mean())) < 0.2 * float(drawn.std())
    row = fitted.diagnosis.shifts.loc["Intercept"]
    assert abs(row["mean_after"] - float(drawn.mean())) < 0.2 * float(drawn.std())


def test_some_variables_can_be_had(fitted: pmf.Approximation) -> None:
    whole, part = (
        fitted.sample(9, random_seed=1),
        fitted.sample(9, random_seed=1, var_names="Intercept"),
    )
    assert list(posterior(part)) == ["Intercept"]
    np.testing.assert_array_equal(posterior(part)["Intercept"], posterior(whole)["Intercept"])


def test_variables_and_dims_are_those_of_its_own_fit() -> None:
    model = bambi.Model("y ~ x + (x|g)", DATA)
    ours = pmf.fit(2, model=model, **FLOW).sample(7, chains=2)
    theirs = model.fit(draws=5, tune=5, chains=2, random_seed=1, progressbar=False)
    found, known = posterior(ours), posterior(theirs)
    assert set(found) == set(known)
    for name in known:
        assert found[name].dims == known[name].dims
    assert found.attrs["modeling_interface"] == "bambi"
    model.predict(ours)


def test_a_pickle_that_can_not_know_says_so(fitted: pmf.Approximation) -> None:
    back = pickle.loads(pickle.dumps(fitted))
    with pytest.raises(UnsupportedError, match=r"pmflow\.load\(path, bambi_model\)"):
        back.sample(3)


def test_a_file_is_read_with_the_model_made_anew(fitted: pmf.Approximation, tmp_path: Path) -> None:
    fitted.save(tmp_path / "fit")
    back = pmf.load(tmp_path / "fit", lines())
    one, two = (posterior(a.sample(5, random_seed=3)) for a in (fitted, back))
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


def test_one_model_is_one_until_it_is_built_anew(model: Any) -> None:
    assert pymc_model_in(model) is pymc_model_in(model)
    other = lines()
    before = pymc_model_in(other)
    other.build()
    assert pymc_model_in(other) is not before


def test_another_version_of_bambi_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    model = lines()
    approx = pmf.NFVI("scale-loc", model=model).approx
    monkeypatch.delattr(type(model.backend), "_clean_results")
    with pytest.raises(UnsupportedError, match="center_predictors=False"):
        approx.sample(3)


class Holder:
    """As pymc-marketing and HSSM have it."""

    def __init__(self, model: Any) -> None:
        self.model = model


def test_a_model_that_is_held_is_found(model: Any) -> None:
    with pm.Model() as plain:
        pm.Normal("z")
    assert pymc_model_in(Holder(plain)) is plain
    assert pymc_model_in(Holder(model)) is pymc_model_in(model)
    with pytest.raises(ParameterError, match=r"pm\.Model, or a model of Bambi"):
        pmf.fit(5, model=Holder("nothing"))


def test_other_responses_are_fitted_by_the_same_model(fitted: pmf.Approximation) -> None:
    y = 1 - 2 * DATA["x"] + np.random.default_rng(2).normal(size=N)
    (found,) = pmf.refit(fitted, [{"y": y}], random_seed=1, progressbar=False)
    assert found.diagnosis.verdict == "reliable"
    means = posterior(found.sample(2_000, random_seed=1)).mean()
    rows = np.column_stack([np.ones(N), DATA["x"], DATA["w"]])
    known, *_ = np.linalg.lstsq(rows, y)
    for name, value in zip(["Intercept", "x", "w"], known, strict=True):
        assert float(means[name]) == pytest.approx(value, rel=0.05, abs=0.05)
