"""diagnose: numbers with known answers, verdicts, what is refused, and what is printed."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
import pytest
import xarray as xr
from models import conjugate_normal, conjugate_posterior, gaussian
from numpy.typing import NDArray

import pmflow as pmf
from pmflow.errors import ParameterError, UnsupportedError
from pmflow.inference import verdict
from pmflow.judging.diagnosis import as_resampled
from pmflow.judging.shifts import weighted_shifts
from pmflow.judging.verdict import judge
from pmflow.judging.weights import importance_weights, k_threshold
from pmflow.starts.agreement import starts_agreement

type Array = NDArray[np.float64]

VERDICTS = ("reliable", "usable after importance resampling", "not reliable")
RELIABLE, USABLE, NOT_RELIABLE = VERDICTS
STANDARD_ERRORS = 5


def normal_fit(
    model: pm.Model, mean: float | list[float], sd: float | list[float]
) -> pmf.NormalizingFlow:
    """``scale-loc`` with given mean and sd, over the unconstrained space."""
    approx = pmf.NormalizingFlow("scale-loc", model=model, random_seed=0)
    values = {
        "rho_0": np.log(np.expm1(np.broadcast_to(sd, approx.ddim))),
        "loc_1": np.broadcast_to(mean, approx.ddim),
    }
    for name, param in zip(approx.param_names, approx.params, strict=True):
        param.set_value(values[name].astype(float))
    return approx


def standard(dim: int = 1) -> pm.Model:
    with pm.Model() as model:
        pm.Normal("x", 0, 1, shape=dim)
    return model


class TestWeights:
    @pytest.mark.parametrize("k", [0.2, 0.5, 0.9, 1.5], ids=lambda k: f"k = {k}")
    def test_k_hat_is_the_shape_of_pareto_weights(self, k: float) -> None:
        # exp(k * Exponential) is Pareto with the tail index 1 / k: its shape is k
        found = [
            importance_weights(
                k * np.random.default_rng(i).exponential(size=4_000), np.zeros(4_000)
            )
            for i in range(20)
        ]
        # 190 draws in the tail: an error of (1 + k) / sqrt(190) each, and a prior towards 0.5
        assert np.mean([w.k_hat for w in found]) == pytest.approx(k, abs=0.1)

    def test_light_tails_have_a_low_k_hat_and_their_inverse_a_high_one(self) -> None:
        log_p = 1.5 * np.random.default_rng(0).exponential(size=4_000)
        heavy, light = (importance_weights(s * log_p, np.zeros(4_000)).k_hat for s in (1, -1))
        assert light < 0 < 1 < heavy  # ArviZ takes log weights with the sign turned

    @pytest.mark.parametrize(
        ("draws", "limit"), [(100, 0.5), (1_000, 2 / 3), (4_000, 0.7), (10**6, 0.7)], ids=str
    )
    def test_the_limit_of_k_hat(self, draws: int, limit: float) -> None:
        # 1 - 1 / log10(4000) = 0.722
        assert k_threshold(draws) == pytest.approx(limit)

    def test_evidence_and_divergence_of_normals(self) -> None:
        # p = 3 N(0, 1), q = N(0.2, 0.9^2)
        rng = np.random.default_rng(0)
        z = 0.2 + 0.9 * rng.normal(size=4_000)
        log_p = np.log(3) - 0.5 * z**2
        log_q = -0.5 * ((z - 0.2) / 0.9) ** 2 - np.log(0.9)
        found = importance_weights(log_p, log_q)
        kl = (0.9**2 + 0.2**2 - 1) / 2 - np.log(0.9)
        assert found.log_evidence == pytest.approx(
            np.log(3), abs=STANDARD_ERRORS * found.log_evidence_se
        )
        assert found.kl == pytest.approx(kl, abs=STANDARD_ERRORS * found.kl_se)
        assert found.elbo == pytest.approx(np.log(3) - kl, abs=STANDARD_ERRORS * found.elbo_se)
        assert found.kl == pytest.approx(found.log_evidence - found.elbo)

    def test_errors_are_those_of_repetitions(self) -> None:
        rng = np.random.default_rng(0)
        runs, shifts = [], []
        for _ in range(200):
            z = 0.3 + rng.normal(size=1_000)
            found = importance_weights(-0.5 * z**2, -0.5 * (z - 0.3) ** 2)
            runs.append(found)
            shifts.append(weighted_shifts(z[:, None], found.log_weights))
        for name in ("elbo", "log_evidence", "kl"):
            spread = np.std([getattr(run, name) for run in runs])
            claimed = np.median([getattr(run, f"{name}_se") for run in runs])
            assert 0.8 < claimed / spread < 1.25, name
        for name in ("mean_shift", "sd_ratio"):
            spread = np.std([getattr(run, name) for run in shifts])
            claimed = np.median([getattr(run, f"{name}_mcse") for run in shifts])
            assert 0.75 < claimed / spread < 1.3, name

    def test_weights_are_relative_to_their_mean(self) -> None:
        z = np.random.default_rng(0).normal(size=1_000)
        found = importance_weights(7 - 0.6 * z**2, -0.5 * z**2)
        assert np.exp(found.log_weights).mean() == pytest.approx(1)

    def test_effective_draws_of_a_shifted_normal(self) -> None:
        # E[w^2] = exp(shift^2)
        z = np.random.default_rng(0).normal(size=100_000)
        found = importance_weights(-0.5 * (z - 0.5) ** 2, -0.5 * z**2)
        assert found.ess == pytest.approx(np.exp(-0.25), rel=0.02)

    @pytest.mark.parametrize("noise", [0.0, 1e-12], ids=["equal", "equal but for rounding"])
    def test_equal_weights(self, noise: float) -> None:
        log_p = noise * np.random.default_rng(0).normal(size=500)
        found = importance_weights(log_p + 2.0, np.zeros(500))
        assert found.k_hat == 0
        assert found.log_evidence == pytest.approx(2)
        assert found.ess == pytest.approx(1)
        assert found.kl == pytest.approx(0, abs=1e-9)

    def test_a_draw_outside_of_the_support_has_weight_0(self) -> None:
        # half of the draws: the evidence is log(1 / 2), whatever is said of the rest
        log_p = np.where(np.arange(1_000) % 2, 0.0, -np.inf)
        found = importance_weights(log_p, np.zeros(1_000))
        assert found.log_evidence == pytest.approx(np.log(0.5))
        assert found.non_finite == 500
        assert np.isneginf(found.log_weights[::2]).all()

    @pytest.mark.parametrize("bad", [np.nan, np.inf], ids=str)
    def test_other_draws_without_density_are_left_out(self, bad: float) -> None:
        z = np.random.default_rng(0).normal(size=1_000)
        log_p = -0.5 * (z - 0.2) ** 2
        holes = log_p.copy()
        holes[::10] = bad
        kept = np.arange(1_000) % 10 != 0
        found = importance_weights(holes, -0.5 * z**2)
        alone = importance_weights(log_p[kept], -0.5 * z[kept] ** 2)
        assert found.log_evidence == pytest.approx(alone.log_evidence)
        assert found.k_hat == alone.k_hat
        assert found.non_finite == 100

    def test_ties_in_the_tail_are_no_error(self) -> None:
        log_p = np.repeat([0.0, 1.0], 500)
        found = importance_weights(log_p, np.zeros(1_000))
        assert found.log_evidence == pytest.approx(np.log((1 + np.e) / 2))


class TestShifts:
    def test_moments_after_weighting_are_the_posteriors(self) -> None:
        # q = N(0, 1), p = N(0.2, 0.9^2)
        z = np.random.default_rng(0).normal(size=20_000)
        weights = importance_weights(-0.5 * ((z - 0.2) / 0.9) ** 2, -0.5 * z**2).log_weights
        found = weighted_shifts(z[:, None], weights)
        for name, truth in (("mean_shift", 0.2 / 0.9), ("sd_ratio", 1 / 0.9)):
            error = getattr(found, f"{name}_mcse")[0]
            assert getattr(found, name)[0] == pytest.approx(truth, abs=STANDARD_ERRORS * error)
            assert error < 0.02

    def test_equal_weights_move_nothing_and_have_no_error(self) -> None:
        z = np.random.default_rng(0).normal(size=(500, 3))
        found = weighted_shifts(z, np.zeros(500))
        np.testing.assert_allclose(found.mean_shift, 0, atol=1e-12)
        np.testing.assert_allclose(found.sd_ratio, 1)
        np.testing.assert_allclose(found.mean_shift_mcse, 0, atol=1e-12)

    def test_many_components_are_done_in_parts(self) -> None:
        rng = np.random.default_rng(0)
        z, weights = rng.normal(size=(200, 1_203)), 0.3 * rng.normal(size=200)
        together = weighted_shifts(z, weights)
        assert together.mean_shift.shape == (1_203,)
        one = weighted_shifts(z[:, [1_100]], weights)
        assert together.sd_ratio[1_100] == pytest.approx(one.sd_ratio[0])

    def test_all_the_weight_on_one_draw_is_no_error(self) -> None:
        z = np.random.default_rng(0).normal(size=(200, 1))
        weights = np.full(200, -2_000.0)
        weights[3] = 0
        found = weighted_shifts(z, weights)
        assert np.isfinite(found.mean_shift).all()


class TestVerdicts:
    @pytest.mark.parametrize(
        ("mean", "sd", "verdict"),
        [
            (0.0, 1.0, RELIABLE),
            (0.03, 1.02, RELIABLE),
            (0.3, 1.0, USABLE),
            (0.0, 0.8, USABLE),
            (0.0, 1.2, USABLE),
            (0.0, 0.1, NOT_RELIABLE),
            (6.0, 0.5, NOT_RELIABLE),
        ],
        ids=["exact", "near", "shifted", "narrow", "wide", "far too narrow", "elsewhere"],
    )
    def test_of_a_normal(self, mean: float, sd: float, verdict: str) -> None:
        assert pmf.diagnose(normal_fit(standard(), mean, sd), random_seed=1).verdict == verdict

    def test_heavy_weights(self) -> None:
        with pm.Model() as model:
            pm.StudentT("x", nu=2, shape=3)
        found = pmf.diagnose(normal_fit(model, 0, 0.7), random_seed=1)
        assert found.k_hat > 0.7
        assert found.verdict == NOT_RELIABLE
        assert "k-hat" in found.reasons[0]

    def test_mean_field_on_a_correlated_normal(self) -> None:
        model = gaussian([0.0, 0.0], [[1.0, 0.9], [0.9, 1.0]])
        found = pmf.diagnose(normal_fit(model, 0, (1 - 0.81) ** 0.5), random_seed=1)
        assert found.verdict == NOT_RELIABLE
        assert any("tril-loc" in advice for advice in found.advice)

    def test_nearly_equal_weights_whose_tail_has_a_strange_shape(self) -> None:
        with pm.Model() as model:
            pm.StudentT("x", nu=100)
        found = pmf.diagnose(normal_fit(model, 0, 1.01), random_seed=1)
        assert found.k_hat > 1  # outliers of 1.3 above a plateau of 1.0
        assert found.verdict == RELIABLE

    def test_dependence_that_no_marginal_shows(self) -> None:
        # the marginals are right, the correlation of 0.5 is left out: E[w^2] = 1 / 0.75
        model = gaussian([0.0, 0.0], [[1.0, 0.5], [0.5, 1.0]])
        found = pmf.diagnose(normal_fit(model, 0, 1), 20_000, random_seed=1)
        assert found.ess == pytest.approx(0.75, abs=0.03)
        assert found.verdict == USABLE
        (reason,) = found.reasons
        assert reason.startswith("after weighting, the draws are worth 7")

    def test_of_a_mode_that_is_missed_only_starts_know(self) -> None:
        with pm.Model() as model:
            x = pm.Flat("x")
            pm.Potential("two", pt.logaddexp(-0.5 * (x - 20) ** 2, -0.5 * (x + 20) ** 2))
        one = normal_fit(model, 20, 1)
        assert pmf.diagnose(one, random_seed=1).verdict == RELIABLE  # blind to it
        other = normal_fit(model, -20, 1)
        starts = starts_agreement([fit.sample(1_000, random_seed=1) for fit in (one, other)])
        one.receive(replace(one.report, starts=starts))
        found = pmf.diagnose(one, random_seed=1)
        assert found.verdict == NOT_RELIABLE
        assert "2 modes; 50% of the evidence" in found.reasons[0]

    def test_a_few_draws_without_density_are_counted_many_decide(self) -> None:
        def holes(below: float) -> pmf.Diagnosis:
            with pm.Model() as model:
                x = pm.Normal("x")
                pm.Potential("hole", pt.switch(x < below, -np.inf, 0.0))
            return pmf.diagnose(normal_fit(model, 0, 1), random_seed=1)

        lowest = pmf.diagnose(normal_fit(standard(), 0, 1), random_seed=1)
        draws: Any = normal_fit(standard(), 0, 1).sample(4_000, random_seed=1)["posterior"]["x"]
        second, many_below = np.sort(draws.values.ravel())[[2, 200]]
        assert lowest.non_finite == 0
        few, many = holes(second), holes(many_below)
        assert 0 < few.non_finite <= 4
        assert few.verdict == RELIABLE
        assert "not finite" in str(few)
        assert many.verdict == NOT_RELIABLE
        assert f"{many.non_finite:,} of 4,000 draws" in many.reasons[0]

    def test_no_density_anywhere_is_no_crash(self) -> None:
        with pm.Model() as model:
            x = pm.Normal("x")
            pm.Potential("nowhere", pt.switch(x < 1e9, -np.inf, 0.0))
        found = pmf.diagnose(normal_fit(model, 0, 1), random_seed=1)
        assert found.verdict == NOT_RELIABLE
        assert found.non_finite == 4_000
        assert "4,000 of 4,000 draws" in found.summary
        assert "nan" not in str(found)

    def test_draws_that_overflow_are_named(self) -> None:
        with pm.Model() as model:
            x = pm.Normal("x")
            pm.Deterministic("huge", pt.exp(400 * (2 + x)))
        found = pmf.diagnose(normal_fit(model, 0, 1), random_seed=1)
        assert found.verdict == NOT_RELIABLE
        assert "draws of huge are not finite" in found.reasons[0]

    def test_what_does_not_vary_is_no_reason(self) -> None:
        with pm.Model() as model:
            pm.Normal("x")
            pm.Deterministic("three", pt.constant(3.0))
        found = pmf.diagnose(normal_fit(model, 0, 1), random_seed=1)
        assert found.verdict == RELIABLE
        row = found.shifts.loc["three"]
        assert (row["mean_before"], row["sd_after"]) == (3.0, 0.0)
        assert np.isnan(row["mean_shift"])


class TestReasons:
    @staticmethod
    def reasons(shifts: list[float], errors: list[float]) -> tuple[str, ...]:
        names = ["a", "b", "c"]
        table = pd.DataFrame(
            {"mean_shift": shifts, "mean_shift_mcse": errors, "sd_ratio": 1.0, "sd_ratio_mcse": 0.0}
            | {"mean_before": 0.0},
            index=names,
        )
        z = np.random.default_rng(0).normal(size=4_000)
        weights = importance_weights(-0.5 * (z - 0.2) ** 2, -0.5 * z**2)
        return judge(weights, table, None).reasons

    def test_the_largest_is_named_and_the_others_counted(self) -> None:
        (reason,) = self.reasons([0.1, -0.3, 0.2], [0.01, 0.01, 0.01])
        assert reason == "means are off: weighting moves that of b by -0.30 ± 0.01 sd (2 more)"

    def test_noise_is_not_called_an_error(self) -> None:
        (reason,) = self.reasons([0.05, 0.0, 0.0], [0.02, 0.02, 0.02])
        assert reason == "means may be off: weighting moves that of a by +0.05 ± 0.02 sd"

    def test_three_errors_count(self) -> None:
        (reason,) = self.reasons([0.03, 0.0, 0.0], [0.01, 0.02, 0.0])
        assert reason.startswith("weighting moves no mean by more than 0.06 sd")


class TestDiagnose:
    def test_components_are_labelled_and_deterministics_are_there(self) -> None:
        with pm.Model(coords={"school": ["Choate", "Deerfield"]}) as model:
            theta = pm.Normal("theta", dims="school")
            tau = pm.HalfNormal("tau")
            pm.Deterministic("grid", theta[:, None] * tau * np.ones((2, 3)))
        found = pmf.diagnose(normal_fit(model, 0, 1), 200, random_seed=1)
        assert list(found.shifts.index) == [
            *("theta[Choate]", "theta[Deerfield]", "tau"),
            *(f"grid[{i}, {j}]" for i in range(2) for j in range(3)),
        ]

    def test_moments_are_those_of_the_draws(self) -> None:
        model = gaussian([1.0, -2.0], [[1.0, 0.3], [0.3, 4.0]])
        approx = normal_fit(model, [1.0, -2.0], [1.0, 2.0])
        found = pmf.diagnose(approx, 300, random_seed=3).shifts
        tree: Any = approx.sample(300, random_seed=3)
        draws = tree["posterior"]["z"].values[0]
        np.testing.assert_allclose(found["mean_before"], draws.mean(0))
        np.testing.assert_allclose(found["sd_before"], draws.std(0))

    def test_shifts_are_in_constrained_space(self) -> None:
        # log x ~ N(0.5, 0.4^2), fitted by N(0.4, 0.4^2)
        with pm.Model() as model:
            pm.LogNormal("x", 0.5, 0.4)
        row = pmf.diagnose(normal_fit(model, 0.4, 0.4), 20_000, random_seed=1).shifts.loc["x"]
        mean = np.exp(0.5 + 0.4**2 / 2)
        sd = mean * np.sqrt(np.expm1(0.4**2))
        truth = mean * (1 - np.exp(-0.1)) / sd
        assert row["mean_shift"] == pytest.approx(truth, abs=5 * row["mean_shift_mcse"] + 0.02)

    def test_evidence_of_conjugate_data(self) -> None:
        data = np.random.default_rng(0).normal(1, 1, 20)
        model = conjugate_normal(data)
        cov = np.eye(20) + 4.0  # of the data, with the mean integrated out
        exact = -0.5 * (
            data @ np.linalg.solve(cov, data) + np.linalg.slogdet(cov)[1] + 20 * np.log(2 * np.pi)
        )
        precision = 1 / 4 + 20
        approx = normal_fit(model, data.sum() / precision, precision**-0.5)
        found = pmf.diagnose(approx, random_seed=1)
        assert found.log_evidence == pytest.approx(exact, abs=1e-6)
        assert found.elbo == pytest.approx(exact, abs=1e-6)

    def test_the_same_seed_gives_the_same_numbers(self) -> None:
        approx = normal_fit(standard(), 0.2, 1)
        one, two, other = (pmf.diagnose(approx, 200, random_seed=seed) for seed in (1, 1, 2))
        assert (one.elbo, one.k_hat) == (two.elbo, two.k_hat)
        assert one.elbo != other.elbo
        pd.testing.assert_frame_equal(one.shifts, two.shifts)

    def test_what_training_left_is_told(self) -> None:
        approx = normal_fit(standard(), 0.3, 1)
        state = pmf.FitState(500, 2, "interrupted", "by Ctrl-C")
        approx.receive(replace(approx.report, fit_state=state))
        found = pmf.diagnose(approx, random_seed=1)
        assert found.fit_state == approx.fit_state
        assert "500 steps, 2 of them skipped: interrupted by the user (by Ctrl-C)" in str(found)
        assert found.code[0] == "approx = pmf.NFVI(approx).fit()"

    def test_groups_of_pymc_with_a_density_are_taken(self) -> None:
        with pm.Model():
            a, _ = pm.Normal("a"), pm.Normal("b")
            groups = [pmf.Group([a], "planar", random_seed=1), pmf.Group(None, "mf")]
            approx = pmf.Approximation(groups)
        found = pmf.diagnose(approx, 200, random_seed=1)
        assert found.verdict in VERDICTS
        assert {*found.shifts.index} == {"a", "b"}

    @pytest.mark.parametrize("draws", [99, 0, -1, 100.0, True, "100"], ids=repr)
    def test_bad_numbers_of_draws_are_refused(self, draws: Any) -> None:
        with pytest.raises(ParameterError, match="draws must be an integer >= 100, but is"):
            pmf.diagnose(normal_fit(standard(), 0, 1), draws)

    def test_what_is_no_approximation_is_refused(self) -> None:
        with pytest.raises(ParameterError, match=r"needs an approximation, but got .* type Model"):
            pmf.diagnose(standard())

    @pytest.mark.parametrize("batch", [20, 30], ids=["that divide the data", "that do not"])
    def test_minibatches_are_judged_by_all_rows(self, batch: int) -> None:
        data = np.random.default_rng(0).normal(1, 1, 200)
        mean, sd = conjugate_posterior(data)
        approx = normal_fit(conjugate_normal(data, batch=batch), mean, sd)
        found = pmf.diagnose(approx, random_seed=1)
        assert found.verdict == RELIABLE
        assert found.kl == pytest.approx(0, abs=1e-6)
        exact = pmf.diagnose(normal_fit(conjugate_normal(data), mean, sd), random_seed=1)
        assert found.log_evidence == pytest.approx(exact.log_evidence, abs=1e-8)

    def test_groups_without_density_are_refused(self) -> None:
        with pm.Model():
            pm.Normal("x")
            approx = pmf.Approximation([pmf.Group(None, "empirical", size=10)])
        with pytest.raises(UnsupportedError, match="a group of it has none"):
            pmf.diagnose(approx)

    def test_approximations_of_pymc_are_refused_with_the_formula_to_use(self) -> None:
        with standard():
            approx = pm.MeanField()
        with pytest.raises(UnsupportedError, match="nfvi=scale-loc"):
            pmf.diagnose(approx)


class TestPrinted:
    @pytest.fixture
    def found(self) -> pmf.Diagnosis:
        with pm.Model() as model:
            pm.Normal("a<b>")
            pm.Normal("mu")
        return pmf.diagnose(normal_fit(model, [0.3, 0.0], 1), random_seed=1)

    def test_the_verdict_comes_first(self, found: pmf.Diagnosis) -> None:
        assert str(found).startswith(f"Verdict: {USABLE}\n")
        assert repr(found) == str(found)

    def test_all_that_is_known_is_shown(self, found: pmf.Diagnosis) -> None:
        for text in (*found.reasons, *found.code, "ELBO", "k-hat", "limit 0.70", "a<b>"):
            assert text in str(found)
        assert "can't be seen here" in str(found)

    def test_the_line_is_one_line(self, found: pmf.Diagnosis) -> None:
        assert "\n" not in found.summary
        assert found.summary.startswith(f"{USABLE}: ELBO -0.0")

    def test_html_is_escaped_and_has_no_colours_of_its_own(self, found: pmf.Diagnosis) -> None:
        html = found._repr_html_()
        assert "a&lt;b&gt;" in html
        assert "a<b>" not in html
        colours = re.findall(r"(?:color|background)\s*:\s*([^;\"]+)", html)
        assert {*colours} == {"inherit", "none"}

    @pytest.mark.parametrize("ended", ["converged", "limit", "steps", "callback", "failed"])
    def test_states_have_words(self, ended: Any) -> None:
        assert str(pmf.FitState(1_000, 0, ended)).startswith("1,000 steps: ")


def test_the_table_of_a_dataset_is_that_of_its_parts() -> None:
    from pmflow.judging.components import component_table

    values = np.arange(2 * 3 * 4 * 5.0).reshape(4, 2, 5, 3)
    data = xr.Dataset({"m": (("row", "chain", "column", "draw"), values)})
    labels, table = component_table(data)
    place = labels.index("m[3, 1]")
    np.testing.assert_array_equal(table[:, place], data["m"].isel(row=3, column=1).values.ravel())


@pytest.mark.parametrize(("batch", "draws"), [(20, 100), (None, 4000)], ids=["rows", "all data"])
def test_of_many_rows_few_draws_are_judged_after_a_fit(
    batch: int | None, draws: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each draw goes through all of them: a plain fit must not end with minutes of that."""
    data = np.random.default_rng(0).normal(1, 1, 200)
    approx = normal_fit(conjugate_normal(data, batch=batch), *conjugate_posterior(data))
    monkeypatch.setattr(verdict, "_WORK", 1.0)
    asked = []

    def seen(fit: Any, number: int, **seed: Any) -> pmf.Diagnosis:
        asked.append(number)
        return pmf.diagnose(fit, number, **seed)

    monkeypatch.setattr(verdict, "diagnose", seen)
    verdict.judge_and_tell(approx)
    assert asked == [draws]


@pytest.mark.parametrize(("ess", "verdict"), [(0.49, VERDICTS[1]), (0.51, VERDICTS[0])])
def test_resampled_draws_that_are_worth_little_are_not_reliable(ess: float, verdict: str) -> None:
    """Weighting did not mend 8 of 41 such fits in ``tests.benchmarks.honesty``."""
    usable = pmf.diagnose(normal_fit(standard(), 0.3, 1.0), 2_000, random_seed=1)
    assert usable.verdict == VERDICTS[1]
    found = as_resampled(replace(usable, ess=ess))
    assert found.verdict == verdict
    assert f"{ess:.0%} of their number" in str(found)
    assert ("pmf.sample(approx)" in str(found)) is (ess < 0.5)


def test_draws_that_lead_nowhere_are_not_made_better_by_choosing() -> None:
    bad = pmf.diagnose(normal_fit(standard(), 3.0, 0.2), 2_000, random_seed=1)
    assert as_resampled(bad).verdict == VERDICTS[2]
