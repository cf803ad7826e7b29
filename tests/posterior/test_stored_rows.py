"""Models whose rows are kept elsewhere, beside the same models with all of their data."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pymc as pm
import pytest
from latent import log_density
from numpy.typing import NDArray

import pmflow as pmf
from pmflow.errors import ParameterError, UnsupportedError

RNG = np.random.default_rng(3)
N, GROUPS = 500, 4
X, GROUP = RNG.normal(size=(N, 2)), RNG.integers(GROUPS, size=N)
Y = RNG.poisson(np.exp(0.3 * X[:, 0]))
PAIRS = RNG.normal(size=(N, 2))
ROWS = {"x": X, "group": GROUP, "y": Y, "pairs": PAIRS}


def written(rows: slice) -> pm.Model:
    coords = {"row": np.arange(N)[rows], "column": ["first", "second"]}
    with pm.Model(coords=coords) as model:
        x = pm.Data("x", X[rows], dims=("row", "column"))
        group, y = pm.Data("group", GROUP[rows], dims="row"), pm.Data("y", Y[rows], dims="row")
        pairs = pm.Data("pairs", PAIRS[rows])
        known = pm.Data("known", [1.0, 2.0, 3.0])
        slope = pm.Normal("slope", dims="column", initval=np.array([0.3, -0.2]))
        scale = pm.HalfNormal("scale")
        effect = pm.Normal("effect", 0.0, scale, shape=GROUPS)
        eta = pm.Deterministic("eta", x @ slope + effect[group], dims="row")
        pm.Poisson("seen", pm.math.exp(eta), observed=y, dims="row")
        pm.MvNormal("pair", slope, np.eye(2), observed=pairs, dims=("row", "column"))
        pm.Normal("once", scale, 1.0, observed=known)
        pm.Potential("soft", -(slope**2).sum())
    return model


@cache
def few() -> pm.Model:
    return written(slice(0, 7))


def test_the_density_is_that_of_all_rows() -> None:
    model = pmf.with_rows(few(), ROWS, batch_size=64)
    z = RNG.normal(size=(3, 2 + 1 + GROUPS))
    found, wanted = log_density(model), log_density(written(slice(None)))
    np.testing.assert_allclose(found.value(z), wanted.value(z), rtol=1e-12)
    for got, known in zip(found.value_and_gradient(z), wanted.value_and_gradient(z), strict=True):
        np.testing.assert_allclose(got, known, rtol=1e-9)


@pytest.mark.filterwarnings("ignore:Numba will use object mode")
def test_a_minibatch_is_scaled_up_and_unbiased() -> None:
    """Of 500 rows in minibatches of 100: the mean over many is the density by all."""
    model = pmf.with_rows(few(), ROWS, batch_size=100)
    point = model.initial_point(random_seed=1)
    logp = model.compile_logp()
    found = [logp(point) for _ in range(400)]
    full = written(slice(None)).compile_logp()(point)
    assert np.std(found) > 1
    assert np.mean(found) == pytest.approx(full, abs=5 * np.std(found) / 20)


def test_the_model_keeps_what_is_none_of_the_rows() -> None:
    model = pmf.with_rows(few(), ROWS)
    assert [rv.name for rv in model.free_RVs] == ["slope", "scale", "effect"]
    assert [rv.name for rv in model.observed_RVs] == ["seen", "pair", "once"]
    assert [x.name for x in model.data_vars] == ["known"]
    assert [x.name for x in model.deterministics] == []
    assert [x.name for x in model.potentials] == ["soft"]
    assert list(model.coords) == ["column"]
    assert model.named_vars_to_dims["pair"] == (None, "column")
    np.testing.assert_array_equal(model.initial_point()["slope"], [0.3, -0.2])
    # and the model that was given is as it was
    assert {x.name for x in few().data_vars} == {"x", "group", "y", "pairs", "known"}


def test_other_rows_can_take_their_place() -> None:
    model = pmf.with_rows(pmf.with_rows(few(), ROWS), {k: v[:90] for k, v in ROWS.items()})
    z = RNG.normal(size=(2, 2 + 1 + GROUPS))
    wanted = log_density(written(slice(0, 90))).value(z)
    np.testing.assert_allclose(log_density(model).value(z), wanted, rtol=1e-12)


class Watched:
    """Rows that count how many of them were read at once."""

    shape, dtype, most = (N,), np.dtype(float), 0

    def take(self, places: NDArray[np.int64]) -> Any:
        self.most = max(self.most, len(places))
        return PAIRS[places, 0]

    def blocks(self, size: int) -> Any:
        self.most = max(self.most, size)
        return iter([PAIRS[i : i + size, 0] for i in range(0, N, size)])


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param("numba", marks=[pytest.mark.slow, pytest.mark.numba]),
        pytest.param("jax", marks=[pytest.mark.slow, pytest.mark.jax]),
    ],
)
@pytest.mark.filterwarnings("ignore:Numba will use object mode")
def test_a_flow_is_trained_on_minibatches_of_them(backend: str) -> None:
    with pm.Model() as model:
        pm.Normal("y", pm.Normal("mu"), 1.0, observed=pm.Data("rows", [0.0, 1.0]))
    rows = Watched()
    in_rows = pmf.with_rows(model, {"rows": rows}, batch_size=50)
    approx = pmf.NFVI("scale-loc", model=in_rows, random_seed=1).fit(
        1_500,
        obj_n_mc=4,
        backend=backend,
        progressbar=False,
        obj_optimizer=pm.adam(learning_rate=0.02),
    )
    assert rows.most == 50
    draws = approx.sample(2_000, random_seed=1).posterior["mu"].values
    # of exact mean and sd; a minibatch of 50 moves the mean by 0.14 at each step
    assert draws.mean() == pytest.approx(PAIRS[:, 0].sum() / (N + 1), abs=0.05)
    assert draws.std() == pytest.approx((N + 1) ** -0.5, rel=0.3)


class TestRefusals:
    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ({}, "must be a dict of names of the model's data.*known"),
            ({"z": X}, "no such pm.Data. Its data: x, group, y, pairs, known"),
            ({**ROWS, "x": X[:, :1]}, r"must have the shape \(2,\).*rows of shape \(1,\)"),
            ({**ROWS, "x": X[:9]}, "as many.*9 of 'x', 500 of 'group'"),
            ({**ROWS, "group": GROUP + 0.5}, "of dtype int32, which rows.* of float64 can't"),
            ({k: v for k, v in ROWS.items() if k != "y"}, r"'seen' follows.*Give rows\['y'\] too"),
            (
                {k: v for k, v in ROWS.items() if k != "group"},
                r"'group' have 7 rows, as many as.*give rows\['group'\] too",
            ),
        ],
    )
    def test_rows_that_do_not_fit(self, rows: Any, message: str) -> None:
        with pytest.raises(ParameterError, match=message):
            pmf.with_rows(few(), rows)

    @pytest.mark.parametrize("size", [0, 1.5, True, "many"])
    def test_batch_size(self, size: Any) -> None:
        with pytest.raises(ParameterError, match=f"integer >= 1, but is {size!r}"):
            pmf.with_rows(few(), ROWS, batch_size=size)

    def test_batch_size_without_rows(self) -> None:
        with pytest.raises(ParameterError, match="no rows= are given"):
            pmf.fit(model=few(), batch_size=10)

    def test_rows_for_an_inference_that_exists(self) -> None:
        inference = pmf.NFVI("scale-loc", model=few())
        with pytest.raises(ParameterError, match="rows can't be honoured"):
            pmf.fit(method=inference, rows=ROWS)

    def test_values_that_are_no_data_of_the_model(self) -> None:
        with pm.Model() as model:
            pm.Normal("y", pm.Data("x", X[:5, 0]) * pm.Normal("slope"), 1.0, observed=X[:5, 1])
        with pytest.raises(ParameterError, match=r"Write these as pm.Data too"):
            pmf.with_rows(model, {"x": X[:, 0]})

    def test_a_free_variable_of_each_row(self) -> None:
        with pm.Model() as model:
            y = pm.Data("y", X[:5, 0])
            pm.Normal("y_seen", pm.Normal("local", shape=y.shape[0]), 1.0, observed=y)
        with pytest.raises(UnsupportedError, match="'local' follows from the rows"):
            pmf.with_rows(model, {"y": X[:, 0]})

    def test_a_potential_of_rows(self) -> None:
        with pm.Model() as model:
            y, mu = pm.Data("y", X[:5, 0]), pm.Normal("mu")
            pm.Potential("mine", -((y - mu) ** 2).sum())
        with pytest.raises(UnsupportedError, match="The potential 'mine' depends on"):
            pmf.with_rows(model, {"y": X[:, 0]})

    def test_one_number_of_all_rows(self) -> None:
        with pm.Model() as model:
            y = pm.Data("y", X[:5, 0])
            pm.Normal("mean", pm.Normal("mu"), 1.0, observed=y.mean())
        with pytest.raises(UnsupportedError, match=r"'mean' .* it is a single number"):
            pmf.with_rows(model, {"y": X[:, 0]})
