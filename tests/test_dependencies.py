"""What pmflow asks of PyMC, PyTensor, ArviZ and others, once each.

`make check-lowest` runs this against the lowest versions that pyproject.toml allows.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pymc as pm
import pytest
from models import conjugate_normal, eight_schools

import pmflow as pmf

mpl.use("Agg")

QUIET: dict[str, Any] = {"progressbar": False, "random_seed": 1}


@pytest.mark.parametrize("backend", ["jax", "numba"])
def test_a_model_is_fitted_on_each_backend(backend: str) -> None:
    if backend == "jax":
        pytest.importorskip("jax", reason="JAX is not installed")
    approx = pmf.fit(5, method="nfvi", model=eight_schools(), backend=backend, **QUIET)
    assert np.isfinite(approx.hist).all()


def test_a_model_is_fitted_without_a_compiler() -> None:
    inference = pmf.NFVI("tril-loc", model=eight_schools(), random_seed=1)
    inference.fit(5, compile_kwargs={"mode": "FAST_COMPILE"}, progressbar=False)
    assert np.isfinite(inference.hist).all()


@pytest.mark.slow
def test_groups_of_pymc_stand_beside_flows() -> None:
    model = eight_schools()
    groups = [pmf.Group([model["tau"]], "planar", model=model)]
    groups += [pmf.Group(None, "mf", model=model)]
    inference = pmf.NFVI(pmf.Approximation(groups, model=model))
    how: dict[str, Any] = {"compile_kwargs": {"mode": "FAST_COMPILE"}, "progressbar": False}
    # by a Sobol set, which has to know how many numbers a draw of each group takes
    inference.fit(3, obj_n_mc=4, qmc=True, **how)
    assert np.isfinite(inference.hist).all()


def test_a_group_of_a_flow_knows_the_length_of_its_noise() -> None:
    """PyMC 6.3 asks for the type of the noise before the group has its variables."""
    model = eight_schools()
    approx = pmf.NormalizingFlow("planar", model=model)
    (group,) = approx.groups
    assert group.symbolic_initial.type.shape == (None, approx.ddim)


def test_a_fit_is_found_judged_and_shown() -> None:
    model = conjugate_normal(np.array([1.0, 2.0, 3.0]))
    approx = pmf.fit(model=model, **QUIET)
    assert approx.diagnosis.verdict == "reliable"
    draws = approx.sample(500, random_seed=1)
    import arviz as az

    assert "mu" in az.summary(draws).index
    assert pmf.plots.plot_marginals(draws, draws) is not None


def test_a_fit_is_kept(tmp_path: Path) -> None:
    model = eight_schools()
    approx = pmf.NormalizingFlow("planar-loc", model=model, random_seed=1, frame="laplace")
    approx.save(tmp_path / "fit.nc")
    expected = approx.sample(3, random_seed=2)["posterior"]["mu"].to_numpy()
    for copy in (pmf.load(tmp_path / "fit.nc", model), pickle.loads(pickle.dumps(approx))):
        found = copy.sample(3, random_seed=2)["posterior"]["mu"].to_numpy()
        np.testing.assert_array_equal(found, expected)


def test_a_discrete_variable_is_marginalized_as_the_error_says() -> None:
    extras = pytest.importorskip("pymc_extras", reason="pymc-extras is not installed")
    y = np.array([-2.1, -1.8, -2.4, 1.2, 1.9, 1.4, 1.6, 1.1])
    with pm.Model() as model:
        share = pm.Beta("share", 2.0, 2.0)
        component = pm.Bernoulli("component", share, shape=len(y))
        pm.Normal("y", pm.math.switch(component, 1.5, -2.0), 0.5, observed=y)
    with pytest.raises(pmf.errors.NotContinuousError, match=r"pymc_extras\.marginalize"):
        pmf.fit(model=model, **QUIET)
    approx = pmf.fit(model=extras.marginalize(model, ["component"]), **QUIET)
    # three and five rows, far apart: Beta(2 + 5, 2 + 3)
    draws = approx.sample(4_000, random_seed=1)["posterior"]["share"].to_numpy()
    sd = np.sqrt(7 * 5 / (12**2 * 13))
    assert draws.mean() == pytest.approx(7 / 12, abs=0.15 * sd)
    assert draws.std() == pytest.approx(sd, rel=0.1)
