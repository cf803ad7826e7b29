"""One fit for many sets of data: each as if it had been fitted by itself."""

from __future__ import annotations

import signal
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pymc as pm
import pytest
from models import NOISE_SD, conjugate_normal, conjugate_posterior, eight_schools

import pmflow as pmf
from pmflow.errors import FitWarning, ParameterError, UnsupportedError
from pmflow.family.state import EmbeddedLaplaceState
from pmflow.ladder.again import Again, Asked, Refitted
from pmflow.ladder.nested import NestedRung
from pmflow.ladder.refit import Job, made_again
from pmflow.ladder.refits import Refits
from pmflow.posterior.own_data import OwnData

QUIET: dict[str, Any] = {"random_seed": 1, "progressbar": False}
RNG = np.random.default_rng(3)
SCHOOLS = [{"y": RNG.normal(8.0, 12.0, size=8)} for _ in range(2)]
NORMAL = [{"y": RNG.normal(k, NOISE_SD, size=20)} for k in range(4)]
X = RNG.normal(size=(60, 2))


def slopes(x: np.ndarray = X, y: np.ndarray | None = None) -> pm.Model:
    """Counts by two predictors, all of them data that can be set anew."""
    y = np.zeros(len(x), dtype=int) if y is None else y
    with pm.Model(coords={"column": ["a", "b"]}) as model:
        rows, counts = pm.Data("x", x), pm.Data("counts", y)
        b = pm.Normal("b", 0, 1, dims="column")
        pm.Poisson("seen", pm.math.exp(rows @ b), observed=counts)
    return model


@cache
def fit_of(make: Any) -> pmf.Approximation:
    return pmf.fit(model=make(), **QUIET)


def normal() -> pm.Model:
    return conjugate_normal(np.zeros(20))


@cache
def normals() -> pmf.Refits:
    return pmf.refit(fit_of(normal), NORMAL, **QUIET)


@cache
def schools() -> pmf.Refits:
    return pmf.refit(fit_of(eight_schools), SCHOOLS, **QUIET)


def moments(approx: pmf.Approximation, name: str) -> tuple[np.ndarray, np.ndarray]:
    draws = approx.sample(2_000, random_seed=2, progressbar=False).posterior[name]
    return draws.mean(("chain", "draw")).values, draws.std(("chain", "draw")).values


def assert_close(one: pmf.Approximation, other: pmf.Approximation, name: str) -> None:
    (mean, sd), (wanted, known) = moments(one, name), moments(other, name)
    assert np.abs(mean - wanted).max() < 0.12 * known.min()
    assert sd == pytest.approx(known, rel=0.1)


def test_each_is_the_posterior_of_its_data() -> None:
    for data, approx in zip(NORMAL, normals(), strict=True):
        mean, sd = conjugate_posterior(data["y"])
        found, spread = moments(approx, "mu")
        assert found == pytest.approx(mean, abs=0.08 * sd)
        assert spread == pytest.approx(sd, rel=0.06)


def test_each_has_a_model_of_its_own() -> None:
    fits = normals()
    for data, approx in zip(NORMAL, fits, strict=True):
        tree = approx.sample(10, log_likelihood=True, random_seed=1, progressbar=False)
        np.testing.assert_array_equal(tree.observed_data["y"], data["y"])
        mu = tree.posterior["mu"].values[..., None]
        wanted = -((data["y"] - mu) ** 2) / 2 - np.log(2 * np.pi) / 2
        assert tree.log_likelihood["y"].values == pytest.approx(wanted)
    assert fit_of(normal).sample(1, progressbar=False).observed_data["y"].values.sum() == 0


def test_a_hierarchy_is_fitted_as_by_itself() -> None:
    data, approx = SCHOOLS[1], schools()[1]
    alone = OwnData(eight_schools(), ["y"])
    alone.set(data)
    assert_close(approx, pmf.fit(model=alone.model, **QUIET), "mu")
    ladder = approx.ladder
    assert ladder is not None
    # from where the first fit was: the Gaussian is not looked for
    assert [rung.formula for rung in ladder.rungs] == ["embedded Laplace"]


@pytest.mark.parametrize("has_one", [True, False])
def test_a_second_embedded_fit_is_not_tried(*, has_one: bool) -> None:
    ground: Any = SimpleNamespace(dim=10, has_structured=has_one, model=eight_schools())
    assert NestedRung().applies(ground) is not has_one


def test_what_comes_of_data_does_not_depend_on_the_others() -> None:
    last = SCHOOLS[-1]
    job = Job.of(fit_of(eight_schools), ["y"])
    (alone,), _ = made_again(job, [Asked(last, 7, {})], None, progressbar=False)
    both, _ = made_again(
        job, [Asked(SCHOOLS[0], 5, {}), Asked(last, 7, {})], None, progressbar=False
    )
    first, second = alone.state, both[-1].state
    assert isinstance(first, EmbeddedLaplaceState)
    assert isinstance(second, EmbeddedLaplaceState)
    np.testing.assert_array_equal(first.nested.centre.z, second.nested.centre.z)
    one, other = Refits(fit_of(eight_schools), [last] * 2, [alone, both[-1]]).diagnoses
    assert str(one) == str(other)


def test_predictors_may_be_others_too() -> None:
    approx = fit_of(slopes)
    x = RNG.normal(size=X.shape)
    y = RNG.poisson(np.exp(x @ [0.5, -0.5]))
    (found,) = pmf.refit(approx, [{"x": x, "seen": y}], **QUIET)
    assert_close(found, pmf.fit(model=slopes(x, y), **QUIET), "b")
    np.testing.assert_array_equal(found.sample(1, progressbar=False).constant_data["x"], x)
    assert found.sample(1, progressbar=False).posterior.b.dims == ("chain", "draw", "column")


def test_data_that_are_a_constant_times_all_variables() -> None:
    """Sums over all variables, in which the data are factors, are read anew."""
    counts = RNG.poisson(3.0, size=(2, 66, 1))

    def model(y: np.ndarray) -> pm.Model:
        with pm.Model() as made:
            mean, sd = pm.Normal("mean", 0, 2), pm.HalfNormal("sd")
            effect = pm.ZeroSumNormal("effect", sigma=sd, shape=66)
            pm.Poisson("y", pm.math.exp(mean + effect)[:, None], observed=y)
        return made

    first = pmf.fit(model=model(counts[0]), **QUIET)
    (found,) = pmf.refit(first, [{"y": counts[1]}], **QUIET)
    assert found.diagnosis.verdict == "reliable"
    assert_close(found, pmf.fit(model=model(counts[1]), **QUIET), "sd")


def test_it_is_a_sequence() -> None:
    fits = normals()
    assert len(fits) == len(NORMAL)
    assert repr(fits) == "4 fits: 4 reliable"
    assert fits.verdicts == ("reliable",) * 4
    assert [one.diagnosis.verdict for one in fits[1:3]] == ["reliable"] * 2
    assert fits.diagnoses[-1] is not None
    assert fits.diagnoses[-1].kl == fits[-1].diagnosis.kl
    with pytest.raises(IndexError):
        fits[4]


def test_data_without_a_density_are_not_fitted_well() -> None:
    found = pmf.refit(fit_of(normal), [{"y": np.full(20, 1e200)}, NORMAL[1]], **QUIET)
    assert found.verdicts == ("not reliable", "reliable")


def test_what_could_not_be_fitted_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    make = Again.__call__

    def lost(self: Again, asked: Asked) -> Refitted:
        is_first = asked.data["y"][0] == NORMAL[0]["y"][0]
        return Refitted(None, "No.") if is_first else make(self, asked)

    monkeypatch.setattr(Again, "__call__", lost)
    with pytest.warns(FitWarning, match=r"1 of 2 fits could not be made. The first: No\."):
        found = pmf.refit(fit_of(normal), NORMAL[:2], **QUIET)
    assert found.verdicts == ("failed", "reliable")
    assert found.failures == {0: "No."}
    assert repr(found) == "2 fits: 1 failed, 1 reliable"
    with pytest.raises(UnsupportedError, match=r"There is no fit of this set of data: No\."):
        found[0]


def test_after_ctrl_c_those_that_were_done_are_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    make = Again.__call__
    done: list[Refitted] = []

    def pressed(self: Again, asked: Asked) -> Refitted:
        done.append(make(self, asked))
        if len(done) == 3:
            signal.raise_signal(signal.SIGINT)
        return done[-1]

    monkeypatch.setattr(Again, "__call__", pressed)
    with pytest.warns(FitWarning, match="Stopped: 2 of 4 fits were made"):
        found = pmf.refit(fit_of(normal), NORMAL, **QUIET)
    assert len(found) == 2


WRONG: dict[str, tuple[Any, str]] = {
    "a dict": (NORMAL[0], "must be a list of dicts"),
    "nothing": ([], "one set of data at least"),
    "an array": ([np.zeros(20)], r"datasets\[0\] must be a dict of names"),
    "another name": ([{"z": np.zeros(20)}], "'z', which is no pm.Data and no observed variable"),
    "a close name": ([{"count": np.zeros(60)}], "Did you mean 'counts'"),
    "another shape": ([{"y": np.zeros(5)}], r"shape \(20,\), as the model has them, but have"),
    "text": ([{"y": "high"}], "must be numbers of the shape"),
    "a hole": ([{"y": np.full(20, np.nan)}], "must be finite"),
    "several names": ([{"counts": np.ones(60)}, {"x": X}], "must all name the same data"),
    "halves": ([{"counts": np.full(60, 0.5)}], "must be whole numbers"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused_before_anything_is_fitted(case: str) -> None:
    datasets, message = WRONG[case]
    approx = fit_of(slopes if "count" in str(datasets) else normal)
    with pytest.raises(ParameterError, match=message):
        pmf.refit(approx, datasets, **QUIET)


def test_other_arguments_are_refused_too() -> None:
    with pytest.raises(ParameterError, match="approx must be a fit of pmflow"):
        pmf.refit(normal(), NORMAL)
    with pytest.raises(ParameterError, match="executor must have a method submit"):
        pmf.refit(fit_of(normal), NORMAL, executor=2)  # type: ignore[arg-type]
    batches = pmf.NormalizingFlow("scale-loc", model=conjugate_normal(np.zeros(20), batch=5))
    with pytest.raises(UnsupportedError, match="A fit by minibatches can't be made again"):
        pmf.refit(batches, NORMAL)
