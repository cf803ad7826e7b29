"""A fit that goes on from its checkpoint is the fit that it would have been."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from models import conjugate_normal, gaussian

import pmflow as pmf
from pmflow.errors import FitWarning, NonFiniteError, ParameterError, StorageError
from pmflow.ladder import climb, rungs
from pmflow.ladder.rungs import FlowRung
from pmflow.saving.archive import Archive, read_archive, write_archive

FAST: dict[str, Any] = {"compile_kwargs": {"mode": "FAST_COMPILE"}, "progressbar": False}
QUIET: dict[str, Any] = {"progressbar": False, "checkpoint_every": 1000}
DATA = np.random.default_rng(1).normal(2.0, 1.0, size=50)

# the C backend looks for a BLAS that pip does not install; nothing here needs one
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS"),
]

ONE = pytensor.shared(1.0)


class PowerCutError(Exception):
    pass


def power_cut(step: int) -> Any:
    def cut(approx: Any, hist: Any, i: int) -> None:
        if i == step:
            raise PowerCutError

    return cut


def inference(flow: str = "scale-planar-loc", *, batch: int | None = 10, **kw: Any) -> pmf.NFVI:
    return pmf.NFVI(flow, model=conjugate_normal(DATA, batch=batch), random_seed=1, **kw)


def broken_and_whole(
    path: Path, *, at: int = 13, n: int = 30, made: dict[str, Any] | None = None, **settings: Any
) -> tuple[pmf.NFVI, pmf.NFVI]:
    """A fit broken off after step `at`, with its checkpoint, and one that was not."""
    settings = FAST | {"obj_n_mc": 2} | settings
    broken, whole = inference(**(made or {})), inference(**(made or {}))
    with pytest.raises(PowerCutError):
        broken.fit(n, callbacks=[power_cut(at)], checkpoint=path, **settings)
    whole.fit(
        n, callbacks=[lambda approx, hist, i: None], checkpoint=path.with_name("o"), **settings
    )
    assert len(broken.hist) == at
    assert len(whole.hist) == n
    return broken, whole


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.nc"


def same(one: Any, other: Any) -> None:
    """Bit for bit: losses, parameters, random numbers to come."""
    np.testing.assert_array_equal(one.hist, other.hist)
    for mine, yours in zip(one.params, other.params, strict=True):
        np.testing.assert_array_equal(mine.get_value(), yours.get_value())
    assert one.rng.randint(2**30) == other.rng.randint(2**30)


def all_same(some: list[Any], other: Any) -> None:
    """Bit for bit, each of them."""
    position = other.rng.get_state()
    for one in some:
        same(one, other)
        other.rng.set_state(position)


MAKERS = [
    *(pm.adadelta, pm.adagrad, pm.adagrad_window, pm.adam, pm.adamax),
    *(pm.momentum, pm.nesterov_momentum, pm.rmsprop, pm.sgd),
]


def state_of(approx: pmf.Approximation) -> pmf.FitState:
    assert approx.fit_state is not None
    return approx.fit_state


class TestTheSameFit:
    @pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
    def test_every_optimiser_of_pymc(self, make: Any, path: Path) -> None:
        _, whole = broken_and_whole(path, obj_optimizer=make(learning_rate=0.02))
        approx = pmf.resume(path, whole.approx.model, **QUIET)
        same(approx, whole.approx)
        assert approx.fit_state == whole.approx.fit_state

    @pytest.mark.parametrize(
        "settings",
        [
            {"qmc": True, "obj_n_mc": 4},
            {"obj_n_mc": 6, "chunk_draws": 2},
            {"qmc": True, "obj_n_mc": 8, "chunk_draws": 2},
            {"estimator": "path", "made": {"flow": "scale-loc"}},
            {"total_grad_norm_constraint": 0.5},
            {"made": {"base": "mixture", "jitter": 0.3}},
            {"made": {"beta": 0.3, "batch": None}},
            {"made": {"frame": pmf.Frame(np.array([2.0]), np.array([0.1]))}},
        ],
        ids=str,
    )
    def test_every_setting(self, settings: dict[str, Any], path: Path) -> None:
        _, whole = broken_and_whole(path, **settings)
        same(pmf.resume(path, whole.approx.model, **QUIET), whole.approx)

    @pytest.mark.parametrize("backend", ["numba", "c", "jax"])
    def test_every_backend(self, backend: str, path: Path) -> None:
        if backend == "jax":
            pytest.importorskip("jax", reason="jax is an optional extra")
        settings = {"backend": backend, "compile_kwargs": None}
        # longer than the blocks of draws that JAX makes at once
        _, whole = broken_and_whole(path, at=130, n=260, made={"flow": "scale-loc"}, **settings)
        same(pmf.resume(path, whole.approx.model, **QUIET), whole.approx)

    def test_broken_off_again_and_again(self, path: Path) -> None:
        _, whole = broken_and_whole(path, at=1)
        for step in (2, 7, 8, 29, 30):
            with pytest.raises(PowerCutError):
                pmf.resume(path, whole.approx.model, callbacks=[power_cut(step)], **QUIET)
            assert len(pmf.load(path, whole.approx.model).hist) == step
        same(pmf.resume(path, whole.approx.model, **QUIET), whole.approx)

    def test_after_refine(self, path: Path) -> None:
        broken, whole = inference(), inference()
        whole.fit(5, checkpoint=path.with_name("other.nc"), **FAST)
        whole.refine(10, progressbar=False)
        broken.fit(5, callbacks=[power_cut(9)], checkpoint=path, **FAST)
        with pytest.raises(PowerCutError):
            broken.refine(10, progressbar=False)
        same(pmf.resume(path, whole.approx.model, **QUIET), whole.approx)

    def test_a_fit_that_is_over(self, path: Path) -> None:
        whole = inference()
        approx = whole.fit(6, checkpoint=path, **FAST)
        again = pmf.resume(path, approx.model, **QUIET)
        same(again, approx)
        assert again.fit_state == approx.fit_state

    def test_without_losses(self, path: Path) -> None:
        broken, whole = inference(), inference()
        whole.fit(20, score=False, **FAST)
        with pytest.raises(PowerCutError):
            broken.fit(20, score=False, callbacks=[power_cut(9)], checkpoint=path, **FAST)
        same(pmf.resume(path, whole.approx.model, **QUIET), whole.approx)

    def test_an_optimiser_of_ones_own_is_given_again(self, path: Path) -> None:
        def own(gradients: list[Any], params: list[Any]) -> dict[Any, Any]:
            return pm.adam(learning_rate=0.05)(gradients, params)

        _, whole = broken_and_whole(path, obj_optimizer=own)
        with pytest.raises(ParameterError, match=r"Give it again: resume\(..., obj_optimizer="):
            pmf.resume(path, whole.approx.model, **QUIET)
        other = pm.sgd(learning_rate=0.1)
        with pytest.raises(StorageError, match="optimiser"):
            pmf.resume(path, whole.approx.model, obj_optimizer=other, **QUIET)
        same(pmf.resume(path, whole.approx.model, obj_optimizer=own, **QUIET), whole.approx)

    def test_skipped_steps_are_counted(self, path: Path) -> None:
        with pm.Model() as model:
            x = pm.Normal("x")
            pm.Potential("wall", pt.switch(x > 0.5, -np.inf, 0.0))
        runs = [pmf.NFVI("scale-loc", model=model, random_seed=1) for _ in range(2)]
        runs[0].fit(60, checkpoint=path.with_name("other.nc"), **FAST)
        with pytest.raises(PowerCutError):
            runs[1].fit(60, callbacks=[power_cut(30)], checkpoint=path, **FAST)
        assert runs[1].skipped > 0
        approx = pmf.resume(path, model, **QUIET)
        same(approx, runs[0].approx)
        assert state_of(approx).skipped == runs[0].skipped > runs[1].skipped


class TestTrackers:
    def test_records_are_taken_over(self, path: Path) -> None:
        def trackers(vi: pmf.NFVI) -> list[Any]:
            mean = lambda approx, hist, i: hist.mean()  # noqa: E731
            return [pmf.Tracker(vi, every=4), pmf.Tracker(mean=mean, twos=lambda: np.ones(2))]

        broken, whole = inference(), inference()
        expected = trackers(whole)
        whole.fit(30, callbacks=expected, **FAST)
        cut = [*trackers(broken), power_cut(13)]
        with pytest.raises(PowerCutError):
            broken.fit(30, callbacks=cut, checkpoint=path, **FAST)
        found: list[Any] = []

        def again(vi: pmf.NFVI) -> list[Any]:
            found.extend(trackers(vi))
            return found

        same(pmf.resume(path, whole.approx.model, callbacks=again, **QUIET), whole.approx)
        for mine, yours in zip(found, expected, strict=True):
            assert mine.steps == yours.steps
            for name in yours.hist:
                np.testing.assert_array_equal(mine[name], yours[name])

    def test_they_must_be_the_same(self, path: Path) -> None:
        vi = inference()
        vi.fit(5, callbacks=[pmf.Tracker(vi)], checkpoint=path, **FAST)
        with pytest.raises(ParameterError, match=r"1 Tracker.*callbacks=lambda inference"):
            pmf.resume(path, vi.approx.model, **QUIET)
        with pytest.raises(ParameterError, match="record the same"):
            pmf.resume(
                path, vi.approx.model, callbacks=lambda i: [pmf.Tracker(i, every=2)], **QUIET
            )

    def test_a_statistic_that_is_no_number_is_named(self, path: Path) -> None:
        vi = inference()
        tracker = pmf.Tracker(text=lambda: "text")
        with pytest.warns(FitWarning, match="statistics text of a Tracker"):
            vi.fit(5, callbacks=[tracker], checkpoint=path, **FAST)
        assert len(vi.hist) == 5


class TestHowFitsEnd:
    def test_interrupted(self, path: Path) -> None:
        def interrupt(approx: Any, hist: Any, i: int) -> None:
            if i == 7:
                raise KeyboardInterrupt

        whole, broken = inference(), inference()
        whole.fit(20, checkpoint=path.with_name("other.nc"), **FAST)
        broken.fit(20, callbacks=[interrupt], checkpoint=path, **FAST)
        loaded = pmf.load(path, broken.approx.model)
        assert loaded.fit_state == broken.approx.fit_state
        assert state_of(loaded).ended == "interrupted"
        same(pmf.resume(path, whole.approx.model, **QUIET), whole.approx)

    def test_ended_by_a_callback(self, path: Path) -> None:
        def stop(approx: Any, hist: Any, i: int) -> None:
            if i == 7:
                raise StopIteration

        vi = inference()
        vi.fit(20, callbacks=[stop], checkpoint=path, **FAST)
        assert state_of(pmf.load(path, vi.approx.model)).ended == "callback"

    def test_failed(self, path: Path) -> None:
        with pm.Model() as model:
            x = pm.Normal("x")
            wall = pm.Data("wall", -1e9)
            pm.Potential("behind", pt.log(x - wall))
        vi = pmf.NFVI("scale-loc", model=model, random_seed=1)

        def move_wall(approx: Any, hist: Any, i: int) -> None:
            wall.set_value(1e9)

        with pytest.raises(NonFiniteError):
            vi.fit(1000, callbacks=[move_wall], checkpoint=path, **FAST)
        loaded = pmf.load(path, model)
        assert state_of(loaded).ended == "failed"
        assert len(loaded.hist) == len(vi.hist) == 101

    def test_a_checkpoint_of_a_running_fit_says_nothing_of_its_end(self, path: Path) -> None:
        states = []

        def look(approx: Any, hist: Any, i: int) -> None:
            if i == 5:
                states.append(pmf.load(path, approx.model))

        inference().fit(9, callbacks=[look], checkpoint=path, checkpoint_every=0, **FAST)
        assert states[0].fit_state is None
        assert len(states[0].hist) == 4

    def test_it_is_written_when_it_is_time(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = {"now": 0.0}
        written = []

        def tick(approx: Any, hist: Any, i: int) -> None:
            clock["now"] += 1.0

        def write(to: Path, kept: Archive) -> None:
            written.append(len(kept.arrays["run_losses"]))

        monkeypatch.setattr("pmflow.inference.checkpoint.time.monotonic", lambda: clock["now"])
        monkeypatch.setattr("pmflow.inference.checkpoint.write_archive", write)
        inference().fit(20, callbacks=[tick], checkpoint=path, checkpoint_every=6, **FAST)
        # after the first chunk, which is the second step, then every 6 seconds, and at the end
        assert written == [2, 8, 14, 20, 20]


class TestWriting:
    def test_a_folder_that_is_not_there_is_an_error_at_once(self, tmp_path: Path) -> None:
        vi = inference()
        with pytest.raises(StorageError, match="could not be written"):
            vi.fit(10_000, checkpoint=tmp_path / "none" / "run.nc", **FAST)
        assert len(vi.hist) < 100

    def test_a_disk_that_fills_up_does_not_end_a_fit(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fsync = os.fsync

        def full(fd: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def fill(approx: Any, hist: Any, i: int) -> None:
            monkeypatch.setattr(os, "fsync", full if i >= 5 else fsync)

        vi = inference()
        with pytest.warns(FitWarning, match=r"the fit goes on.*No space left"):
            vi.fit(20, callbacks=[fill], checkpoint=path, checkpoint_every=0, **FAST)
        assert len(vi.hist) == 20
        assert len(pmf.load(path, vi.approx.model).hist) == 4


def skewed(dim: int = 1) -> pm.Model:
    """Tails that no Gaussian has."""
    with pm.Model() as model:
        pm.Gamma("g", 0.4, 2.0, shape=dim)
    return model


SHORT = pmf.ScheduleSettings(rates=(0.03, 0.01), trial=10, window=20, most_windows=3, stages=2)


KINDS: dict[str, dict[str, Any]] = {
    "no n": {"schedule": SHORT, "verdict": False},
    "restarts": {"n": 20, "restarts": 3, "combine": "stack"},
    "anneal": {"n": 20, "anneal": True},
    "all of it": {"schedule": SHORT, "verdict": False, "anneal": True, "restarts": 2},
}


@cache
def whole(kind: str) -> pmf.Approximation:
    """The fit that was not broken off."""
    # with a callback its chunks end where those of the others do
    settings = {**FAST, "obj_n_mc": 4, "callbacks": [lambda *_: None], **KINDS[kind]}
    return inference("scale-loc", batch=None).fit(**settings)


class TestOtherFits:
    """Those that choose their steps, have several starts, or a target that moves."""

    @pytest.mark.parametrize(
        ("kind", "at"),
        [
            *(("no n", at) for at in (1, 70)),
            *(("restarts", at) for at in (3, 40, 57)),  # in the first start, second and third
            ("anneal", 15),
            ("all of it", 70),
        ],
    )
    def test_they_go_on(self, kind: str, at: int, path: Path) -> None:
        settings = {**FAST, "obj_n_mc": 4, "checkpoint_every": 0.0, **KINDS[kind]}
        broken, expected = inference("scale-loc", batch=None), whole(kind)
        with pytest.raises(PowerCutError):
            broken.fit(callbacks=[power_cut(at)], checkpoint=path, **settings)
        # the second time it is over
        found = [pmf.resume(path, broken.approx.model, **QUIET) for _ in range(2)]
        all_same(found, expected)
        for approx in found:
            assert str(approx.fit_state) == str(expected.fit_state)
            assert str(approx.starts) == str(expected.starts)

    def test_a_climb_goes_on_in_its_rung(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = {**FAST, "restarts": 2, "checkpoint_every": 0.0, "random_seed": 1}
        networks = (FlowRung("planar-scale-loc"), FlowRung("spline[hidden=0]-sinh-scale-loc"))
        tried = (rungs.GaussianRung(), networks[0], rungs.QuickRung("sinh-scale-loc"), networks[1])
        monkeypatch.setattr(climb, "RUNGS", tried)
        monkeypatch.setattr(climb, "is_close", lambda *_: False)  # nothing is good enough
        monkeypatch.setattr(rungs, "_SCHEDULE", SHORT)
        steps = [0]

        def cut(*_: Any) -> None:
            steps[0] += 1
            if steps[0] == first + 20:  # in the last rung, after one that is not trained
                raise PowerCutError

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FitWarning)
            whole = pmf.fit(
                model=skewed(), checkpoint=path.with_name("o"), callbacks=[lambda *_: None],
                **settings,
            )  # fmt: skip
            assert len(whole.ladder.rungs) == 4
            first = len(hist_of(path.with_name("o"), 1))
            with pytest.raises(PowerCutError):
                pmf.fit(model=skewed(), checkpoint=path, callbacks=[cut], **settings)
            assert isinstance(pmf.load(path, skewed()), pmf.Approximation)
            with pytest.raises(ParameterError, match="give callbacks as a list"):
                pmf.resume(path, skewed(), callbacks=lambda inference: [], **QUIET)
            again: list[int] = []
            found: list[Any] = [
                pmf.resume(path, skewed(), callbacks=[lambda *_: again.append(1)], **QUIET),
                pmf.resume(path, skewed(), **QUIET),
            ]
            assert again
        all_same(found, whole)
        for approx in found:
            taken = [rung.formula for rung in approx.ladder.rungs]
            assert taken == [rung.formula for rung in whole.ladder.rungs]
            assert approx.ladder.taken == whole.ladder.taken
            elbos = [rung.diagnosis.elbo for rung in approx.ladder.rungs]
            assert elbos == [rung.diagnosis.elbo for rung in whole.ladder.rungs]

    def test_a_climb_that_goes_on_ends_with_its_verdict(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(climb, "RUNGS", (rungs.GaussianRung(), FlowRung("scale-loc")))
        monkeypatch.setattr(rungs, "_SCHEDULE", SHORT)

        def cut(*_: Any) -> None:
            raise PowerCutError

        settings = {**FAST, "restarts": 2, "checkpoint_every": 0.0, "random_seed": 1}
        with pytest.raises(PowerCutError):
            pmf.fit(model=skewed(), checkpoint=path, callbacks=[cut], **settings)
        with pytest.warns(FitWarning, match="The best of 2 fits is"):
            found = pmf.resume(path, skewed(), **QUIET)
        assert found.diagnosis.verdict != "reliable"


def hist_of(path: Path, rung: int) -> Any:
    """Losses of a rung, in the file of a climb."""
    return read_archive(path).arrays[f"climb_approximations_{rung}_report_hist"]


MEANT: list[tuple[str, Any]] = [
    *(("seed", 10**30), ("skipped", 10**30), ("course_seed", 10**30), ("course_seed", -1)),
    *(("beta", 10**30), ("mode", None), ("n", 10**30), ("n", None), ("restarts", 10**30)),
    *((name, value) for name in ("obj_n_mc", "chunk_draws") for value in (10**30, None)),
    *((name, None) for name in ("score", "qmc", "backend", "estimator", "schedule")),
    *((name, True) for name in ("score", "qmc", "verdict", "include_transformed", "anneal")),
    *(("total_grad_norm_constraint", 10**30), ("total_grad_norm_constraint", None)),
    *(("trackers", []), ("move_seeds", [])),
]
"""Places in a plan, and values there that a plan may have."""


def fields_of(content: Any, part: str) -> Any:
    """The fields of a part of a checkpoint."""
    whole = content["state"]["fields"]
    options = whole["options"]["fields"]
    return {
        "whole": whole,
        "run": whole["run"]["fields"],
        "options": options,
        "plain": options["plain"]["dict"],
        "optimizer": options["optimizer"]["fields"],
    }[part]


class TestRefused:
    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            (
                {"more_updates": {pytensor.shared(1.0): pytensor.shared(2.0)}},
                "more_updates: graphs of your own",
            ),
            ({"checkpoint_every": -1}, "checkpoint_every must be a number of seconds"),
            ({"checkpoint_every": True}, "checkpoint_every must be a number of seconds"),
            ({"checkpoint": 3}, "checkpoint must be a path"),
            ({"compile_kwargs": {"mode": None}}, "only the name of a mode"),
            ({"compile_kwargs": {"on_unused_input": "ignore"}}, "only the name of a mode"),
        ],
        ids=str,
    )
    def test_fits_that_a_file_can_t_hold(
        self, settings: dict[str, Any], says: str, path: Path
    ) -> None:
        vi = inference()
        with pytest.raises(ParameterError, match=says):
            vi.fit(**{"n": 5, "checkpoint": path, **FAST, **settings})
        assert len(vi.hist) == 0
        assert not path.exists()

    def test_a_saved_approximation_is_no_checkpoint(self, path: Path) -> None:
        approx = inference().approx
        approx.save(path)
        with pytest.raises(StorageError, match=r"no checkpoint.*pmflow.load"):
            pmf.resume(path, approx.model)

    def test_another_model(self, path: Path) -> None:
        inference().fit(2, checkpoint=path, **FAST)
        with pytest.raises(StorageError, match="no variable 'mu' here"):
            pmf.resume(path, gaussian([0.0], [[1.0]]))

    @pytest.mark.parametrize("part", ["run", "options", "plain", "optimizer", "whole"])
    def test_forged_plans(self, part: str, path: Path) -> None:
        vi = inference("scale-loc")
        vi.fit(2, checkpoint=path, **FAST)
        kept = read_archive(path)
        good = json.dumps(kept.content)
        wrong: list[Any] = [
            *(None, -1, 10**30, "text", "__import__('os')", [], {}, True),
            *({"mode": "text"}, {"state": "Report", "fields": {}}, {"dict": {"x": 1}}),
            {"state": "OptimizerState", "fields": {"name": "system", "options": {"dict": {}}}},
            {"state": "OptimizerState", "fields": {"name": "adam", "options": {"dict": {"x": 1}}}},
        ]
        for name in fields_of(json.loads(good), part):
            for value in wrong:
                content = json.loads(good)
                fields_of(content, part)[name] = value
                if content == json.loads(good) or (name == "end" and value == 10**30):
                    continue
                write_archive(path, Archive(content, kept.arrays))
                try:
                    pmf.resume(path, vi.approx.model, **QUIET)
                except (StorageError, ParameterError):
                    continue
                # what another fit might have had: nothing is left to do
                a_course = name == "course" and isinstance(value, dict) and "state" in value
                assert a_course or (name, value) in MEANT

    def test_forged_states(self, path: Path) -> None:
        vi = inference("scale-loc")
        with pytest.raises(PowerCutError):
            vi.fit(9, callbacks=[power_cut(4)], checkpoint=path, **FAST)
        kept = read_archive(path)
        names = [name for name in kept.arrays if name.startswith("run_loop_")]
        assert len(names) > 4
        for name in (names[0], names[-1]):
            wrong: list[Any] = [np.zeros(3, "u8"), np.zeros(1, "f4"), None]
            for array in wrong:
                arrays = {n: a for n, a in kept.arrays.items() if n != name}
                if array is not None:
                    arrays[name] = array
                write_archive(path, Archive(kept.content, arrays))
                with pytest.raises(StorageError, match=r"not those of this fit|does not hold"):
                    pmf.resume(path, vi.approx.model, **QUIET)


def test_killed_at_random_moments() -> None:
    script = Path(__file__).parent / "benchmarks" / "kill.py"
    command = [sys.executable, script, "--backend", "python", "--kills", "4", "--steps", "1500"]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": str(script.parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = re.search(
        r"4 kills, (\d+) fits went on from a file.* 0 of them with other", done.stdout
    )
    assert found, done.stdout
    assert int(found[1]) >= 1
