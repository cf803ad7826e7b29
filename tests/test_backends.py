"""The real backends: one small fit each, the same answer, in float64 and float32."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pymc as pm
import pytest
from models import conjugate_normal, conjugate_posterior

import pmflow as pmf
from pmflow.errors import BackendError

BACKENDS = ["numba", "c", "jax"]
DATA = np.random.default_rng(1).normal(2.0, 1.0, size=50)

# the C backend looks for a BLAS that pip does not install; nothing here needs one
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS"),
]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_fit_finds_the_posterior_on_each_backend(backend: str) -> None:
    if backend == "jax":
        pytest.importorskip("jax", reason="jax is an optional extra")
    inference = pmf.NFVI("scale-planar-loc", model=conjugate_normal(DATA), random_seed=1)
    tracker = pmf.Tracker(inference)
    approx = inference.fit(
        2_500,
        obj_n_mc=20,
        obj_optimizer=pm.adam(learning_rate=0.01),
        backend=backend,
        callbacks=[tracker],
        progressbar=False,
    )
    draws = np.asarray(approx.sample(10_000, random_seed=1)["posterior"]["mu"])
    mean, sd = conjugate_posterior(DATA)
    assert draws.mean() == pytest.approx(mean, rel=0.05)
    assert draws.std() == pytest.approx(sd, rel=0.1)
    assert tracker["grad_u_1"].shape == (2_500, 1)
    assert all(isinstance(p.get_value(), np.ndarray) for p in approx.params)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_seed_gives_the_same_losses_on_each_backend(backend: str) -> None:
    if backend == "jax":
        pytest.importorskip("jax", reason="jax is an optional extra")
    hists = []
    for _ in range(2):
        inference = pmf.NFVI("scale-loc", model=conjugate_normal(DATA), random_seed=1)
        inference.fit(5, backend=backend, progressbar=False)
        hists.append(inference.hist)
    np.testing.assert_array_equal(hists[0], hists[1])


def test_a_missing_jax_is_named_before_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    inference = pmf.NFVI("scale-loc", model=conjugate_normal(DATA), random_seed=1)
    with pytest.raises(BackendError, match=r"pip install 'pmflow\[jax\]'"):
        inference.fit(5, backend="jax", progressbar=False)


FLOAT32 = """
import numpy as np, pymc as pm, pmflow as pmf
with pm.Model() as model:
    x = pm.Normal("x", shape=3)
    pm.Normal("y", x.sum(), 1, observed=2.0)
inference = pmf.NFVI("scale-planar*2-radial-hh-loc", model=model, random_seed=1)
tracker = pmf.Tracker(inference)
approx = inference.fit(
    200, obj_n_mc=5, callbacks=[tracker], progressbar=False,
    compile_kwargs={"mode": "FAST_COMPILE"},
)
assert {p.type.dtype for p in approx.params} == {"float32"}
assert tracker["grad_u_1"].dtype == "float32"
idata = approx.sample(100, random_seed=1, include_transformed=True)
z = idata["posterior"]["x"].values[0]
assert z.dtype == "float32"
error = np.abs(approx.log_prob(z) - idata["sample_stats"]["log_q"].values[0]).max()
assert error < 1e-3, error
"""


def test_everything_works_in_float32() -> None:
    # in a process of its own: floatX is a global setting, read when a model is made
    code = "import pytensor; pytensor.config.floatX = 'float32'\n" + FLOAT32
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
