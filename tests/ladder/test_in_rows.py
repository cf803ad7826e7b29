"""`pmflow.fit` of models whose data come in minibatches."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm
import pytest
from latent import log_density
from models import NOISE_SD, PRIOR_SD, conjugate_normal, conjugate_posterior
from numpy.typing import NDArray

import pmflow as pmf
from pmflow.errors import FitWarning, UnsupportedError
from pmflow.graphs.machine import has_jax
from pmflow.ladder import density_in_rows
from pmflow.ladder.centre import settle
from pmflow.ladder.few_rows import FewRows
from pmflow.ladder.mirrors import Mirrors
from pmflow.ladder.rows_check import RowsCheck, check_rows, with_check
from pmflow.posterior.density import StreamedDensity

QUIET: dict[str, Any] = {"random_seed": 1, "progressbar": False, "restarts": 2}
ROWS = 30_000

type Array = NDArray[np.float64]


@cache
def logistic(drift: float = 0.0, *, is_whole: bool = False) -> tuple[pm.Model, Array, Array]:
    """A logistic regression, the mode of its posterior, and the covariance there.

    In minibatches, or with all data at once.
    """
    rng = np.random.default_rng(1)
    x = rng.normal(size=(ROWS, 3))
    slopes = np.array([0.5, -0.3, 0.2]) + np.outer(np.linspace(-1, 1, ROWS), [0.0, drift, 0.0])
    y = (rng.random(ROWS) < 1 / (1 + np.exp(-(x * slopes).sum(1)))).astype("int32")
    with pm.Model() as model:
        b = pm.Normal("b", 0.0, 2.0, shape=3)
        if is_whole:
            pm.Bernoulli("y", logit_p=pm.math.dot(x, b), observed=y)
        else:
            rows, seen = pm.Minibatch(x, y, batch_size=250)
            pm.Bernoulli("y", logit_p=rows @ b, observed=seen, total_size=ROWS)
    mode = np.zeros(3)
    for _ in range(10):  # Newton's method
        p = 1 / (1 + np.exp(-x @ mode))
        covariance = np.linalg.inv((x.T * p * (1 - p)) @ x + np.eye(3) / 4)
        mode = mode + covariance @ (x.T @ (y - p) - mode / 4)
    return model, mode, covariance


@cache
def few_rows() -> FewRows:
    model, *_ = logistic()
    density = log_density(model)
    assert isinstance(density, StreamedDensity)
    rows = FewRows(density, 1)
    settle(rows, np.zeros(3), Mirrors("all", 1), 2, 1)
    return rows


class TestFewRows:
    def test_they_are_few(self) -> None:
        assert few_rows().number < 0.3 * few_rows().total

    def test_at_the_mode_they_are_all_rows_to_second_order(self) -> None:
        rows, (_, mode, covariance) = few_rows(), logistic()
        sds = np.sqrt(np.diag(covariance))
        steps = np.concatenate([np.zeros((1, 3)), 0.01 * np.diag(sds), -0.01 * np.diag(sds)])
        (value, wanted), (gradient, wanted_gradient) = zip(
            *(one.value_and_gradient(mode + steps) for one in (rows.fitted, rows.density)),
            strict=True,
        )
        # what is left is third order: 1e-6 of how far rows are from a parabola
        np.testing.assert_allclose(value, wanted, atol=1e-4, rtol=0)
        np.testing.assert_allclose(gradient * sds, wanted_gradient * sds, atol=1e-3)

    def test_near_the_mode_they_tell_what_all_rows_tell(self) -> None:
        rows, (_, mode, covariance) = few_rows(), logistic()
        z = np.random.default_rng(2).multivariate_normal(mode, covariance, size=300)
        found = check_rows(rows.density, rows.fitted, rows.number, z)
        assert found.agrees
        assert found.sd < 0.01

    def test_far_away_the_density_falls(self) -> None:
        rows, (_, mode, covariance) = few_rows(), logistic()
        rng = np.random.default_rng(3)
        directions = rng.normal(size=(20, 3)) @ np.linalg.cholesky(covariance).T
        heights = [rows.fitted.value(mode + k * directions) for k in (0, 10, 40, 300, 3000)]
        assert (np.diff(heights, axis=0) < 0).all()

    def test_far_away_all_rows_count_by_their_expansion(self) -> None:
        """Where the rows themselves would saturate."""
        rows, (_, mode, covariance) = few_rows(), logistic()
        step = np.linalg.cholesky(covariance)[:, :1].T
        below, at, above = rows.fitted.value(mode + np.array([[1_990], [2_000], [2_010]]) * step)
        # a step of 1 sd has a second derivative of 1, by the exact curvature at the mode
        assert (above - 2 * at + below) / 100 == pytest.approx(-1, abs=0.01)


def test_where_few_variables_meet_rows_are_expanded_by_that() -> None:
    """Effects of 60 groups, each of which meets the slope and no other."""
    rng = np.random.default_rng(7)
    group, x = rng.integers(60, size=ROWS), rng.normal(size=ROWS)
    y = rng.poisson(np.exp(0.3 * rng.normal(size=60)[group] + 0.2 * x)).astype("int32")
    with pm.Model() as model:
        places, some, seen = pm.Minibatch(group, x, y, batch_size=250)
        effect, slope = pm.Normal("effect", 0.0, 0.5, shape=60), pm.Normal("slope")
        rate = pm.math.exp(effect[places] + slope * some)
        pm.Poisson("y", rate, observed=seen, total_size=ROWS)
    density = log_density(model)
    assert isinstance(density, StreamedDensity)
    rows = FewRows(density, 1)
    settle(rows, np.zeros(61), Mirrors("all", 1), 2, 1)
    assert rows.is_sparse
    assert rows.last is not None
    mode, sds = rows.last.loc, rows.last.sds
    step = 0.05 * sds * rng.normal(size=61)
    points = mode + np.array([[0.0], [1.0], [-1.0]]) * step
    of_few, of_all = rows.fitted.value(points), rows.density.value(points)
    np.testing.assert_allclose(of_few, of_all, rtol=0, atol=2e-4)
    # they fall by 0.08 from the middle to either side: an eighth of 61 * 0.05 ** 2 would be seen
    assert of_all[1] + of_all[2] - 2 * of_all[0] < -0.05


def test_what_all_rows_say_is_added_to_what_few_say() -> None:
    model, *_ = logistic()
    approx = pmf.fit(model=model, **QUIET)
    check = RowsCheck(rows=100, used=10, draws=50, mean=2.0, sd=0.07, moved=0.01)
    found = with_check(approx.diagnosis, check, np.log(3), approx)
    for name in ("elbo", "log_evidence"):
        before, after = getattr(approx.diagnosis, name), getattr(found, name)
        assert after - before == pytest.approx(2 + np.log(3))
    assert found.elbo_se == pytest.approx(0.07 / 50**0.5, rel=0.1)
    assert found.verdict == "reliable"


@pytest.mark.parametrize(
    ("sd", "moved", "agrees"),
    [(0.01, 0.02, True), (0.01, 0.05, False), (0.5, 0.02, False), (np.nan, np.nan, False)],
    ids=["near", "a mean moves", "apart", "not finite"],
)
def test_few_rows_agree_with_all_where_they_move_little(
    sd: float,
    moved: float,
    agrees: bool,  # noqa: FBT001 - of pytest
) -> None:
    check = RowsCheck(rows=100, used=10, draws=50, mean=0.0, sd=sd, moved=moved)
    assert check.agrees is agrees


def test_a_logistic_regression_is_right() -> None:
    model, mode, covariance = logistic()
    approx = pmf.fit(model=model, **QUIET)
    assert approx.diagnosis.verdict == "reliable"
    assert "all 30,000 rows" in approx.diagnosis.reasons[-1]
    z = approx.draw(20_000, 2).latent
    sds = np.sqrt(np.diag(covariance))
    # mean and mode are 0.01 sd apart, the mean of the draws is 0.007 off
    assert np.abs((z.mean(0) - mode) / sds).max() < 0.04
    np.testing.assert_allclose(z.std(0) / sds, 1.0, atol=0.02)


def test_evidence_is_that_of_all_rows() -> None:
    y = np.random.default_rng(4).normal(1.0, 1.0, size=20_000)
    approx = pmf.fit(model=conjugate_normal(y, batch=200), **QUIET)
    mean, sd = conjugate_posterior(y)
    # log p(y) = log p(y | mu) + log p(mu) - log p(mu | y), at the mean
    exact = -((y - mean) ** 2).sum() / (2 * NOISE_SD**2) - (mean / PRIOR_SD) ** 2 / 2
    exact -= len(y) * np.log(NOISE_SD * np.sqrt(2 * np.pi)) + np.log(PRIOR_SD) - np.log(sd)
    assert approx.diagnosis.log_evidence == pytest.approx(exact, abs=1e-3)
    assert approx.diagnosis.verdict == "reliable"


def test_rows_that_drift_are_named() -> None:
    model, *_ = logistic(drift=0.4)
    with pytest.warns(FitWarning, match=r"rows drift: .* in b\[1\] by"):
        approx = pmf.fit(model=model, **QUIET)
    assert approx.diagnosis.verdict == "not reliable"


def test_a_mode_elsewhere_is_not_missed_in_silence() -> None:
    """Y is of the absolute value of mu, whose prior makes 4 and -4 differ."""
    y = np.random.default_rng(5).normal(4.0, 1.0, size=20_000)
    with pm.Model() as model:
        rows = pm.Minibatch(y, batch_size=200)
        pm.Normal("y", abs(pm.Normal("mu", 0.5, 4.0)), 1.0, observed=rows, total_size=len(y))
    with pytest.warns(FitWarning, match="modes are missed"):
        approx = pmf.fit(model=model, **QUIET | {"restarts": 8})
    # the evidence is as prior densities: exp(2 * 4 * 0.5 / 16) = 1.28 to 1
    assert "44%" in approx.diagnosis.reasons[0] or "56%" in approx.diagnosis.reasons[0]


def test_rare_groups_count() -> None:
    """Of 20,000 rows three groups have 4: their effects have to come out as by all rows."""
    rng = np.random.default_rng(6)
    group = np.concatenate([np.repeat([0, 1, 2], 4), rng.integers(3, 8, size=19_988)])
    y = rng.poisson(np.exp(0.5 + 0.5 * rng.normal(size=8)[group])).astype("int32")
    with pm.Model() as model:
        places, seen = pm.Minibatch(group, y, batch_size=200)
        effect = pm.Normal("effect", 0.0, 1.0, shape=8)
        pm.Poisson("y", pm.math.exp(effect[places]), observed=seen, total_size=len(y))
    approx = pmf.fit(model=model, **QUIET)
    assert approx.diagnosis.verdict == "reliable"
    assert "expansion of the others" in approx.diagnosis.reasons[-1]  # by the first few rows
    grid = np.linspace(-4, 4, 4_001)
    counts, sums = np.bincount(group), np.bincount(group, y)
    z = approx.draw(40_000, 2).latent
    for k in range(3):
        logp = sums[k] * grid - counts[k] * np.exp(grid) - grid**2 / 2
        p = np.exp(logp - logp.max())
        mean = (p @ grid) / p.sum()
        sd = np.sqrt((p @ (grid - mean) ** 2) / p.sum())
        assert z[:, k].mean() == pytest.approx(mean, abs=0.05 * sd)
        assert z[:, k].std() == pytest.approx(sd, rel=0.05)


@pytest.mark.parametrize("seconds", [1e-6, 2.0], ids=["before a fit", "on the way"])
def test_what_was_found_is_kept_when_time_is_over(seconds: float) -> None:
    model, *_ = logistic()
    with pytest.warns(FitWarning, match="was stopped"):
        approx = pmf.fit(model=model, seconds=seconds, **QUIET)
    assert approx.fit_state.ended == "time"
    assert np.isfinite(approx.draw(10, 1).latent).all()


def test_a_fit_is_kept_in_its_checkpoint(tmp_path: Path) -> None:
    model, *_ = logistic()
    found = pmf.fit(model=model, checkpoint=tmp_path / "fit.safetensors", **QUIET)
    again = pmf.resume(tmp_path / "fit.safetensors", model, progressbar=False)
    np.testing.assert_array_equal(again.draw(50, 3).latent, found.draw(50, 3).latent)
    assert again.diagnosis.reasons == found.diagnosis.reasons


class TestWithAllData:
    """Of many rows, a model that has all of its data is fitted as one in minibatches is."""

    @pytest.fixture(autouse=True)
    def _few_are_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(density_in_rows, "_LEAST", ROWS)

    @pytest.mark.parametrize("drift", [0.0, 0.4], ids=["none", "drift"])
    def test_it_is_right(self, drift: float) -> None:
        """Rows that drift too: the posterior is asked for, and it is the one of all of them."""
        model, mode, covariance = logistic(drift, is_whole=True)
        approx = pmf.fit(model=model, **QUIET)
        assert approx.diagnosis.verdict == "reliable"
        assert "all 30,000 rows give" in approx.diagnosis.reasons[-1]
        assert approx.model is model
        z, sds = approx.draw(20_000, 1).latent, np.sqrt(np.diag(covariance))
        np.testing.assert_allclose((z.mean(0) - mode) / sds, 0, atol=0.04)
        np.testing.assert_allclose(z.std(0) / sds, 1, atol=0.03)

    def test_its_evidence_is_that_of_minibatches(self) -> None:
        whole, some = (pmf.fit(model=logistic(is_whole=x)[0], **QUIET) for x in (True, False))
        found, wanted = whole.diagnosis.log_evidence, some.diagnosis.log_evidence
        assert found == pytest.approx(wanted, abs=0.01)

    def test_it_is_kept_in_its_checkpoint(self, tmp_path: Path) -> None:
        model, *_ = logistic(is_whole=True)
        found = pmf.fit(model=model, checkpoint=tmp_path / "fit.safetensors", **QUIET)
        again = pmf.resume(tmp_path / "fit.safetensors", model, progressbar=False)
        np.testing.assert_array_equal(again.draw(50, 3).latent, found.draw(50, 3).latent)
        assert again.diagnosis.reasons == found.diagnosis.reasons

    def test_what_was_found_is_kept_when_time_is_over(self) -> None:
        model, *_ = logistic(is_whole=True)
        with pytest.warns(FitWarning, match="was stopped"):
            approx = pmf.fit(model=model, seconds=1e-3, **QUIET)
        assert approx.fit_state is not None
        assert approx.fit_state.ended == "time"
        assert approx.model is model
        assert np.isfinite(approx.draw(5, 1).log_p).all()

    def test_for_another_backend_jax_is_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []

        def looked(flow: pmf.NormalizingFlow) -> StreamedDensity | None:
            asked.append(has_jax())
            return density_in_rows.density_in_rows(flow)

        monkeypatch.setattr("pmflow.ladder.in_rows.density_in_rows", looked)
        pmf.fit(model=logistic(is_whole=True)[0], backend="numba", **QUIET)
        assert asked == [False]

    def test_what_is_no_sum_over_rows_is_fitted_whole(self) -> None:
        rng = np.random.default_rng(4)
        x = rng.normal(size=ROWS)
        with pm.Model() as model:
            data = pm.Data("x", x)
            mean = pm.Normal("slope") * (data - data.mean())
            pm.Normal("y", mean, 1.0, observed=0.5 * x + rng.normal(size=ROWS))
        approx = pmf.fit(model=model, **QUIET)
        assert approx.diagnosis.verdict == "reliable"
        assert not any("rows" in reason for reason in approx.diagnosis.reasons)


def test_what_is_no_sum_over_rows_is_refused() -> None:
    with pm.Model() as model:
        rows = pm.Minibatch(np.ones(50), batch_size=5)
        pm.Potential("p", -((rows - pm.Normal("mu")) ** 2).sum())
    with pytest.raises(UnsupportedError, match=r"total_size=<number of rows>"):
        pmf.fit(model=model, **QUIET)
