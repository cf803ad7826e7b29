"""Saved fits: the same draws after loading, no other model, no damaged file, no code."""

from __future__ import annotations

import copy
import errno
import hashlib
import io
import json
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import cloudpickle
import numpy as np
import pymc as pm
import pytensor
import pytest
import xarray as xr
from models import conjugate_normal, gaussian
from pymc.distributions import transforms
from scipy.io import netcdf_file

import pmflow as pmf
from pmflow.errors import ParameterError, PmflowError, StorageError
from pmflow.family.storage import pack
from pmflow.flows import catalogue
from pmflow.flows.layers.loc import Loc
from pmflow.graphs.evaluate import compile_once
from pmflow.saving.archive import Archive, decode, encode, read_archive, write_archive

pytestmark = [
    # PyTensor's, while it compiles; nothing here needs a BLAS
    pytest.mark.filterwarnings("ignore:PyTensor could not link to a BLAS"),
    pytest.mark.filterwarnings("ignore:np.dot"),
    pytest.mark.filterwarnings("ignore:.*np.dot"),
]

FAST: dict[str, Any] = {"compile_kwargs": {"mode": "FAST_COMPILE"}, "progressbar": False}


def rich_model(
    *,
    labels: tuple[str, ...] = ("u", "v"),
    upper: bool = False,
    extra: bool = False,
    length: int = 3,
    turned: bool = False,
    dims: bool = True,
) -> pm.Model:
    """Scalars, vectors and matrices, with dims and most of the transforms."""
    with pm.Model(coords={"side": labels, "year": [1999, 2000, 2001]}) as model:
        if not turned:
            pm.HalfNormal("h")
        pm.Beta("b", 2, 2, dims="side" if dims else None, shape=None if dims else 2)
        if turned:
            pm.HalfNormal("h")
        pm.Normal("m", 0, 1, dims=("side", "year"))
        ordered = {} if upper else {"transform": transforms.ordered}
        pm.Normal("o", 0, 1, shape=length, initval=np.arange(length), **ordered)
        pm.Dirichlet("d", np.ones(3))
        pm.LKJCholeskyCov("c", eta=2, n=2, sd_dist=pm.HalfNormal.dist())
        if extra:
            pm.Normal("more")
    return model


@pytest.fixture(scope="module")
def rich() -> pm.Model:
    return rich_model()


@pytest.fixture
def small() -> pm.Model:
    return gaussian([0.0, 1.0], [[2.0, -1.0], [-1.0, 3.0]])


def draws_of(approx: Any, seed: int | None = 4) -> xr.Dataset:
    tree = approx.sample(7, random_seed=seed, include_transformed=True)
    groups = ("posterior", "unconstrained_posterior", "sample_stats")
    return xr.merge([tree[g].to_dataset() for g in groups if g in tree.children], compat="equals")


def round_trip(approx: Any, path: Path, model: pm.Model | None = None) -> Any:
    approx.save(path)
    return pmf.load(path, approx.model if model is None else model)


FORMULAS = [
    "scale-loc",
    "planar*2-radial-hh*3",
    "lowrank[rank=2]-tril-lu",
    "iaf[hidden=4]-perm-sinh",
    "coupling[hidden=3]-spline[bins=3]",
    "naf[hidden=3]",
]


class TestRoundTrip:
    @pytest.mark.parametrize("formula", FORMULAS)
    def test_the_draws_are_the_same(self, formula: str, small: pm.Model, tmp_path: Path) -> None:
        approx = pmf.NormalizingFlow(formula, model=small, random_seed=1, jitter=0.3)
        loaded = round_trip(approx, tmp_path / "fit.nc")
        assert type(loaded) is pmf.NormalizingFlow
        assert loaded.formula == approx.formula
        assert loaded.param_names == approx.param_names
        assert draws_of(loaded).equals(draws_of(approx))
        points = np.random.default_rng(0).normal(size=(3, 2))
        np.testing.assert_array_equal(loaded.log_prob(points), approx.log_prob(points))
        means = [compile_once([], [a.mean])()[0] for a in (loaded, approx)]
        np.testing.assert_array_equal(means[0], means[1])
        # the default seed goes on from where it was
        assert draws_of(loaded, None).equals(draws_of(approx, None))

    @pytest.mark.parametrize(
        "base",
        ["normal", "student_t", "student_t[df=2.5,trained=false]", "mixture[k=3]", "mixture"],
    )
    def test_every_base(self, base: str, small: pm.Model, tmp_path: Path) -> None:
        approx = pmf.NormalizingFlow("planar-loc", model=small, random_seed=1, base=base)
        loaded = round_trip(approx, tmp_path / "fit.nc")
        assert loaded.groups[0].base == approx.groups[0].base
        assert draws_of(loaded).equals(draws_of(approx))

    @pytest.mark.parametrize("factor", [[[2.0, 0.0], [0.5, 1.0]], [2.0, 3.0]])
    def test_frames(self, factor: Any, small: pm.Model, tmp_path: Path) -> None:
        frame = pmf.Frame(np.array([1.0, -1.0]), np.array(factor), "given", "a note, ümlaut")
        approx = pmf.NormalizingFlow("planar", model=small, random_seed=1, frame=frame)
        loaded = round_trip(approx, tmp_path / "fit.nc").groups[0].frame
        np.testing.assert_array_equal(loaded.loc, frame.loc)
        np.testing.assert_array_equal(loaded.factor, frame.factor)
        assert (loaded.kind, loaded.note) == (frame.kind, frame.note)
        assert draws_of(pmf.load(tmp_path / "fit.nc", small)).equals(draws_of(approx))

    @pytest.mark.parametrize("formula", ["scale-loc", "planar"])
    def test_transforms_dims_and_shapes(self, formula: str, rich: pm.Model, tmp_path: Path) -> None:
        approx = pmf.NormalizingFlow(formula, model=rich, random_seed=1, start={"h": 3.0})
        # a model made anew, as in another process
        loaded = round_trip(approx, tmp_path / "fit.nc", rich_model())
        assert draws_of(loaded).equals(draws_of(approx))
        np.testing.assert_array_equal(loaded.groups[0].offset, approx.groups[0].offset)

    def test_groups(self, rich: pm.Model, tmp_path: Path) -> None:
        with rich:
            flow = pmf.Group([rich["o"], rich["h"]], "planar*2", random_seed=1)
            full = pmf.Group([rich["d"]], "fr", random_seed=2)
            approx = pmf.Approximation([flow, full, pmf.Group(None, "mf", random_seed=3)])
        full.params_dict["mu"].set_value(np.array([0.3, -0.2]))
        loaded = round_trip(approx, tmp_path / "fit.nc", rich_model())
        assert type(loaded) is pmf.Approximation
        assert str(loaded) == str(approx)
        assert draws_of(loaded).equals(draws_of(approx))

    def test_given_parameters_stay_fixed(self, small: pm.Model, tmp_path: Path) -> None:
        params = {0: {"loc": pytensor.shared(np.array([1.0, 2.0])) * 2}, 1: {"rho": np.ones(2)}}
        group = pmf.Group(None, "loc-scale", params, model=small)
        loaded = round_trip(pmf.Approximation([group]), tmp_path / "fit.nc")
        assert loaded.params == []
        assert draws_of(loaded).equals(draws_of(pmf.Approximation([group])))

    def test_a_fit_and_what_it_says_of_itself(self, small: pm.Model, tmp_path: Path) -> None:
        approx = pmf.NFVI("scale-loc", model=small, random_seed=1).fit(5, **FAST)
        assert approx.fit_state is not None
        approx.fit_state = replace(approx.fit_state, message="ELBO 1 ± 2")
        approx.starts = pmf.Starts(
            np.array([1.0, -np.inf]), np.array([0.1, np.nan]), np.inf, np.eye(2), (0, 1),
            np.array([0.7, 0.3]),
        )  # fmt: skip
        loaded = round_trip(approx, tmp_path / "fit.nc")
        np.testing.assert_array_equal(loaded.hist, approx.hist)
        assert loaded.fit_state == approx.fit_state
        assert str(loaded.starts) == str(approx.starts)
        assert loaded.starts.modes == (0, 1)

    def test_what_is_loaded_can_be_trained(self, small: pm.Model, tmp_path: Path) -> None:
        approx = pmf.NormalizingFlow("planar-loc", model=small, random_seed=1, base="student_t")
        loaded = round_trip(approx, tmp_path / "fit.nc")
        hists = [pmf.NFVI(a).fit(4, **FAST).hist for a in (approx, loaded)]
        np.testing.assert_array_equal(hists[0], hists[1])

    def test_the_context_has_the_model(self, small: pm.Model, tmp_path: Path) -> None:
        pmf.NormalizingFlow("loc", model=small).save(str(tmp_path / "fit.nc"))
        with small:
            assert pmf.load(str(tmp_path / "fit.nc")).model is small

    def test_data_are_not_compared(self, tmp_path: Path) -> None:
        approx = pmf.NormalizingFlow("loc", model=conjugate_normal(np.ones(3)), random_seed=1)
        round_trip(approx, tmp_path / "fit.nc", conjugate_normal(np.zeros(5)))

    def test_an_empirical_group_says_what_to_do(self, small: pm.Model, tmp_path: Path) -> None:
        group = pmf.Group(None, params={"histogram": np.zeros((4, 2))}, model=small)
        approx = pmf.Approximation([group], model=small)
        with pytest.raises(StorageError, match=r"EmpiricalGroup.*sample"):
            approx.save(tmp_path / "fit.nc")
        assert list(tmp_path.iterdir()) == []


class TestStandardTools:
    def test_xarray_reads_the_file(self, small: pm.Model, tmp_path: Path) -> None:
        approx = pmf.NormalizingFlow("scale-loc", model=small, random_seed=1)
        approx.save(tmp_path / "fit.nc")
        with xr.open_dataset(tmp_path / "fit.nc", engine="scipy") as data:
            np.testing.assert_array_equal(data["g0_rho_0"], approx.params[0].get_value())
            content = json.loads(data.attrs["pmflow_content"])["content"]
        assert content["groups"][0]["formula"] == "scale-loc"
        assert content["model"][0]["name"] == "z"
        assert set(content["versions"]) == {"pmflow", "pymc", "pytensor", "numpy"}

    @pytest.mark.parametrize(
        "dtype", ["f8", "f4", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?", "f2"]
    )
    @pytest.mark.parametrize("shape", [(), (1,), (3, 2), (0,), (2, 0, 3)])
    def test_every_type_of_number(self, dtype: str, shape: tuple[int, ...]) -> None:
        rng = np.random.default_rng(1)
        array = rng.normal(size=shape) * 100
        array = np.asarray(array if dtype[0] == "f" else np.abs(array)).astype(dtype)
        back = decode(encode(Archive({}, {"x": array}))).arrays["x"]
        assert (back.dtype, back.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(back, array)

    def test_our_reader_reads_what_scipys_does(self, small: pm.Model) -> None:
        encoded = encode(pack(pmf.NormalizingFlow("iaf-loc", model=small, random_seed=1)))
        theirs = netcdf_file(io.BytesIO(encoded), mmap=False)
        ours = decode(encoded).arrays
        natives = {n: v[...] for n, v in theirs.variables.items() if not hasattr(v, "pmflow_dtype")}
        assert len(natives) > 3
        for name, array in natives.items():
            np.testing.assert_array_equal(ours[name], array)


class TestAnotherModel:
    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"labels": ("u", "w")}, r"coords of 'side' \('b'\) was 'v' at place 1 and is 'w'"),
            ({"upper": True}, "transform of 'o' was 'ordered' and is 'none'"),
            ({"extra": True}, "variable 'more' here is not in the file"),
            ({"length": 4}, r"unconstrained shape of 'o' was \(3,\) and is \(4,\)"),
            ({"turned": True}, "order of its variables was h, b, .* and is b, h"),
            ({"dims": False}, r"dims of 'b' was \('side',\) and is \(\)"),
            ({"labels": ("u", "v", "w")}, r"shape of 'b' was \(2,\) and is \(3,\)"),
        ],
    )
    def test_is_refused_with_the_difference(
        self, rich: pm.Model, changes: dict[str, Any], says: str, tmp_path: Path
    ) -> None:
        pmf.NormalizingFlow("scale-loc", model=rich).save(tmp_path / "fit.nc")
        with pytest.raises(StorageError, match=says):
            pmf.load(tmp_path / "fit.nc", rich_model(**changes))

    def test_a_missing_variable(self, small: pm.Model, rich: pm.Model, tmp_path: Path) -> None:
        pmf.NormalizingFlow("scale-loc", model=small).save(tmp_path / "fit.nc")
        with pytest.raises(StorageError, match="no variable 'z' here"):
            pmf.load(tmp_path / "fit.nc", rich)

    def test_another_float(self, small: pm.Model, tmp_path: Path) -> None:
        pmf.NormalizingFlow("scale-loc", model=small).save(tmp_path / "fit.nc")
        kept = read_archive(tmp_path / "fit.nc")
        kept.content["floatX"] = "float32"
        write_archive(tmp_path / "fit.nc", kept)
        with pytest.raises(StorageError, match="floatX='float32'"):
            pmf.load(tmp_path / "fit.nc", small)

    def test_a_layer_that_is_not_registered(self, small: pm.Model, tmp_path: Path) -> None:
        with catalogue._preserved():

            @pmf.flows.register
            @dataclass(frozen=True)
            class Mine(Loc):
                word: ClassVar[str] = "mine"

            approx = pmf.NormalizingFlow("scale-mine", model=small, random_seed=1)
            loaded = round_trip(approx, tmp_path / "fit.nc")
            assert draws_of(loaded).equals(draws_of(approx))
        with pytest.raises(StorageError, match=r"'scale-mine'.*no layer.*registered"):
            pmf.load(tmp_path / "fit.nc", small)


def copies(approx: Any) -> list[Any]:
    return [
        pickle.loads(pickle.dumps(approx)),
        cloudpickle.loads(cloudpickle.dumps(approx)),
        copy.deepcopy(approx),
    ]


class TestCopies:
    def test_draw_the_same(self, small: pm.Model) -> None:
        approx = pmf.NormalizingFlow("planar*2", model=small, random_seed=1, base="mixture")
        expected = draws_of(approx)
        for other in copies(approx):
            assert draws_of(other).equals(expected)

    def test_a_pickle_of_a_model_with_transforms(self, rich: pm.Model) -> None:
        approx = pmf.NormalizingFlow("scale-loc", model=rich, random_seed=1)
        assert draws_of(pickle.loads(pickle.dumps(approx))).equals(draws_of(approx))

    def test_are_independent(self, small: pm.Model) -> None:
        approx = pmf.NormalizingFlow("scale-loc", model=small, random_seed=1)
        before = draws_of(approx)
        for other in copies(approx):
            other.params[0].set_value(np.full(2, 5.0))
            assert draws_of(approx).equals(before)
            assert not draws_of(other).equals(before)

    def test_a_deep_copy_is_of_the_same_model(self, small: pm.Model) -> None:
        assert copy.deepcopy(pmf.NormalizingFlow("loc", model=small)).model is small

    def test_of_an_inference(self, small: pm.Model) -> None:
        inference = pmf.NFVI("scale-loc", model=small, random_seed=1, beta=0.5)
        inference.fit(4, **FAST)
        inference.skipped = 2
        expected = draws_of(inference.approx)
        others = copies(inference)
        inference.fit(3, **FAST)
        for other in others:
            assert draws_of(other.approx).equals(expected)
            assert other.skipped == 2
            with pytest.raises(ParameterError, match="call `fit` first"):
                other.refine(1)
            other.fit(3, **FAST)
            np.testing.assert_array_equal(other.hist, inference.hist)


@pytest.fixture
def saved(small: pm.Model, tmp_path: Path) -> Path:
    path = tmp_path / "fit.nc"
    pmf.NormalizingFlow("scale-loc", model=small, random_seed=1).save(path)
    return path


class TestWriting:
    def test_a_full_disk_leaves_the_old_file(
        self, saved: Path, small: pm.Model, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = saved.read_bytes()

        def full(fd: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match=r"No space left.*as it was"):
            pmf.NormalizingFlow("planar", model=small).save(saved)
        assert saved.read_bytes() == before
        assert list(saved.parent.iterdir()) == [saved]

    def test_a_kill_before_the_move_leaves_the_old_file(
        self, saved: Path, small: pm.Model, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = saved.read_bytes()

        def kill(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "replace", kill)
        with pytest.raises(KeyboardInterrupt):
            pmf.NormalizingFlow("planar", model=small).save(saved)
        assert saved.read_bytes() == before
        assert list(saved.parent.iterdir()) == [saved]

    def test_no_folder(self, small: pm.Model, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match="could not be written"):
            pmf.NormalizingFlow("loc", model=small).save(tmp_path / "none" / "fit.nc")

    def test_a_link_stays_a_link_and_a_mode_a_mode(self, saved: Path, small: pm.Model) -> None:
        saved.chmod(0o640)
        link = saved.parent / "link.nc"
        link.symlink_to(saved)
        pmf.NormalizingFlow("planar", model=small).save(link)
        assert link.is_symlink()
        assert saved.stat().st_mode & 0o777 == 0o640
        assert str(pmf.load(saved, small).formula) == "planar"

    def test_a_new_file_has_the_mode_of_new_files(self, saved: Path) -> None:
        (saved.parent / "other").touch()
        assert saved.stat().st_mode == (saved.parent / "other").stat().st_mode


def with_header(encoded: bytes, name: str, value: Any) -> bytes:
    """The file with another value of one attribute, and nothing else changed."""
    old = netcdf_file(io.BytesIO(encoded), mmap=False)
    buffer = io.BytesIO()
    new = netcdf_file(buffer, "w", version=2)
    for key, given in {**old._attributes, name: value}.items():
        if given is not None:
            setattr(new, key, given)
    for key, length in old.dimensions.items():
        new.createDimension(key, length)
    for key, variable in old.variables.items():
        new.createVariable(key, variable.data.dtype, variable.dimensions)[...] = variable.data
    new.flush()
    return buffer.getvalue()


def refused(path: Path, encoded: bytes, model: pm.Model) -> str:
    path.write_bytes(encoded)
    with pytest.raises(StorageError) as caught:
        pmf.load(path, model)
    return str(caught.value)


class TestHostileFiles:
    def test_it_is_both_kinds_of_error(self, tmp_path: Path, small: pm.Model) -> None:
        for kind in (PmflowError, ValueError, OSError):
            with pytest.raises(kind, match="could not be read"):
                pmf.load(tmp_path / "none.nc", small)

    def test_truncated(self, saved: Path, small: pm.Model) -> None:
        whole = saved.read_bytes()
        places = np.random.default_rng(1).integers(0, len(whole) - 1, 70)
        for place in places:
            refused(saved, whole[:place], small)

    def test_flipped_bytes(self, saved: Path, small: pm.Model) -> None:
        whole = saved.read_bytes()
        rng = np.random.default_rng(2)
        harmless = 0
        for _ in range(90):
            changed = bytearray(whole)
            # the header has the counts and types: half of the flips go there
            end = len(whole) if rng.random() < 0.5 else 200
            for place in rng.integers(0, end, rng.integers(1, 4)):
                changed[place] ^= int(rng.integers(1, 256))
            saved.write_bytes(changed)
            try:
                loaded = pmf.load(saved, small)
            except StorageError:
                continue
            # a flip in a name that nobody reads: then everything is as it was
            harmless += 1
            assert encode(pack(loaded)) == whole
        assert harmless < 45

    @pytest.mark.parametrize(
        "encoded",
        [b"", b"CDF", b"CDF\x02", b"CDF\x05" + b"\0" * 99, b"\x89HDF\r\n\x1a\n", b"\x80\x04N."],
    )
    def test_other_files(self, encoded: bytes, saved: Path, small: pm.Model) -> None:
        refused(saved, encoded, small)

    def test_a_pickle_is_not_run(self, saved: Path, small: pm.Model) -> None:
        class Evil:
            def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
                return os.mkdir, (str(saved.parent / "ran"),)

        refused(saved, pickle.dumps(Evil()), small)
        assert not (saved.parent / "ran").exists()

    def test_a_netcdf_file_of_somebody_else(self, saved: Path, small: pm.Model) -> None:
        xr.Dataset({"x": ("t", [1.0, 2.0])}).to_netcdf(saved, engine="scipy")
        assert "not one of pmflow" in refused(saved, saved.read_bytes(), small)

    @pytest.mark.parametrize("version", [np.int32(2), np.int32(0), np.int32(-1)])
    def test_other_versions(self, version: Any, saved: Path, small: pm.Model) -> None:
        said = refused(saved, with_header(saved.read_bytes(), "pmflow_format", version), small)
        assert "version" in said

    @pytest.mark.parametrize("name", ["pmflow_format", "pmflow_content", "pmflow_sha256"])
    @pytest.mark.parametrize("value", [None, "text", np.float64(1.5), np.zeros(3)])
    def test_attributes_of_another_kind(
        self, name: str, value: Any, saved: Path, small: pm.Model
    ) -> None:
        refused(saved, with_header(saved.read_bytes(), name, value), small)

    @pytest.mark.parametrize(
        "spec",
        [
            {"dtype": "O", "shape": [2]},
            {"dtype": "f8", "shape": [2**40]},
            {"dtype": "f8", "shape": [2**40, 0]},
            {"dtype": "f8", "shape": [-1]},
            {"dtype": "f8", "shape": "2"},
            {"dtype": "f8", "shape": [True]},
            {"dtype": "M8[s]", "shape": [2]},
            {"dtype": "f8,O", "shape": [2]},
            {"dtype": "i8", "shape": [2]},
            {"dtype": ["f8"], "shape": [2]},
            {"dtype": "S5", "shape": [0]},
            {},
            [],
            None,
        ],
    )
    def test_arrays_that_are_not_what_they_say(
        self, spec: Any, saved: Path, small: pm.Model
    ) -> None:
        encoded = saved.read_bytes()
        known = json.loads(netcdf_file(io.BytesIO(encoded), mmap=False).pmflow_content)
        known["arrays"]["g0_rho_0"] = spec
        text = json.dumps(known)
        refused(saved, with_header(encoded, "pmflow_content", text), small)

    def test_json_that_goes_deep(self, saved: Path, small: pm.Model) -> None:
        for text in ("[" * 100_000, '{"content": NaN}', "1" * 10_000, '"\\ud800"'):
            refused(saved, with_header(saved.read_bytes(), "pmflow_content", text), small)

    def test_a_huge_count_is_not_believed(self, saved: Path, small: pm.Model) -> None:
        whole = saved.read_bytes()
        for place in range(4, 200, 4):
            for number in (2**31 - 1, 2**32 - 1):
                changed = whole[:place] + number.to_bytes(4, "big") + whole[place + 4 :]
                saved.write_bytes(changed)
                try:
                    loaded = pmf.load(saved, small)
                except StorageError:
                    continue
                assert encode(pack(loaded)) == whole


def path_to(content: Any, keys: tuple[Any, ...]) -> Any:
    for key in keys:
        content = content[key]
    return content


WRONG: list[Any] = [None, -1, 10**30, "text", "__import__('os')", [], {}, [None], True]
PLACES: list[tuple[Any, ...]] = [
    ("model",),
    ("model", 0),
    ("model", 0, "shape"),
    ("model", 0, "coords"),
    ("floatX",),
    ("groups",),
    ("groups", 0),
    ("groups", 0, "family"),
    ("groups", 0, "formula"),
    ("groups", 0, "base"),
    ("groups", 0, "variables"),
    ("groups", 0, "parameters"),
    ("groups", 0, "parameters", 0),
    ("groups", 0, "parameters", 0, "name"),
    ("groups", 0, "parameters", 0, "place"),
    ("groups", 0, "parameters", 0, "array"),
    ("groups", 0, "rng"),
    ("groups", 0, "rng", "pos"),
    ("groups", 0, "jitter"),
    ("groups", 0, "frame"),
    ("fit_state",),
    ("starts",),
]


class TestForgedFiles:
    """The checksum is right: somebody wrote the file with care."""

    @pytest.mark.parametrize("keys", PLACES, ids=str)
    def test_content_of_other_kinds(
        self, keys: tuple[Any, ...], saved: Path, small: pm.Model
    ) -> None:
        kept = read_archive(saved)
        good = json.dumps(kept.content)
        for wrong in WRONG:
            content = json.loads(good)
            path_to(content, keys[:-1])[keys[-1]] = wrong
            write_archive(saved, Archive(content, kept.arrays))
            try:
                loaded = pmf.load(saved, small)
            except StorageError:
                continue
            # what is not read, or means the same
            assert isinstance(loaded.fit_state, pmf.FitState | None)
            assert draws_of(loaded)["z"].shape == (1, 7, 2)
            assert wrong in (None, True, -1, {}, [], 10**30), (keys, wrong)

    @pytest.mark.parametrize("name", ["hist", "g0_rho_0", "g0_offset", "g0_origin", "g0_rng_key"])
    @pytest.mark.parametrize(
        "array",
        [np.ones(2, "f4"), np.arange(2), np.zeros((2, 2)), np.array(True), np.zeros((0, 9))],
        ids=lambda a: f"{a.dtype}{a.shape}",
    )
    def test_arrays_of_other_kinds(
        self, name: str, array: Any, saved: Path, small: pm.Model
    ) -> None:
        kept = read_archive(saved)
        write_archive(saved, Archive(kept.content, {**kept.arrays, name: array}))
        with pytest.raises(StorageError):
            pmf.load(saved, small)

    def test_huge_options_take_no_memory(self, saved: Path, small: pm.Model) -> None:
        for key, text in (
            ("base", "mixture[k=1000000000]"),
            ("formula", "iaf[hidden=1000000000]"),
            ("formula", "lowrank[rank=1000000000]"),
            ("formula", "lowrank[rank=200]"),
            ("formula", "coupling[hidden=1000000000000]"),
            ("formula", "loc*1000000000"),
            ("formula", "loc-" * 200_000 + "loc"),
        ):
            kept = read_archive(saved)
            kept.content["groups"][0][key] = text
            other = saved.parent / "other.nc"
            write_archive(other, kept)
            with pytest.raises(StorageError):
                pmf.load(other, small)

    def test_the_checksum_is_that_of_the_page(self, saved: Path) -> None:
        # docs/saving.md: the text, then name and little-endian bytes of each array by name
        file = netcdf_file(io.BytesIO(saved.read_bytes()), mmap=False)
        digest = hashlib.sha256(file.pmflow_content)
        specs = json.loads(file.pmflow_content)["arrays"]
        for name in sorted(specs):
            digest.update(name.encode())
            data = file.variables[name].data if name in file.variables else np.empty(0)
            little = data.astype(data.dtype.newbyteorder("<"))
            digest.update(little.tobytes())
        assert digest.hexdigest() == file.pmflow_sha256.decode()
