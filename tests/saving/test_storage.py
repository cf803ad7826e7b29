"""Saved fits: the same draws after loading, no other model, no damaged file, no code."""

from __future__ import annotations

import copy
import errno
import hashlib
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
import safetensors.numpy
import xarray as xr
from models import conjugate_normal, gaussian
from pymc.distributions import transforms

import pmflow as pmf
from pmflow.errors import ParameterError, PmflowError, StorageError
from pmflow.flows import catalogue
from pmflow.flows.layers.loc import Loc
from pmflow.graphs.evaluate import compile_once
from pmflow.posterior.outline import description
from pmflow.saving.archive import Archive, decode, encode, read_archive, write_archive
from pmflow.saving.states import pack

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


def encoded(approx: pmf.Approximation) -> bytes:
    """What `save` writes."""
    about = {"kind": "approximation", **description(approx.model)}
    return encode(pack(approx.to_state(), about))


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
    @pytest.mark.slow
    @pytest.mark.parametrize("formula", FORMULAS)
    def test_the_draws_are_the_same(self, formula: str, small: pm.Model, tmp_path: Path) -> None:
        approx = pmf.NormalizingFlow(formula, model=small, random_seed=1, jitter=0.3)
        loaded = round_trip(approx, tmp_path / "fit.safetensors")
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
        loaded = round_trip(approx, tmp_path / "fit.safetensors")
        assert loaded.groups[0].base == approx.groups[0].base
        assert draws_of(loaded).equals(draws_of(approx))

    @pytest.mark.parametrize("factor", [[[2.0, 0.0], [0.5, 1.0]], [2.0, 3.0]])
    def test_frames(self, factor: Any, small: pm.Model, tmp_path: Path) -> None:
        frame = pmf.Frame(np.array([1.0, -1.0]), np.array(factor), "given", "a note, ümlaut")
        approx = pmf.NormalizingFlow("planar", model=small, random_seed=1, frame=frame)
        loaded = round_trip(approx, tmp_path / "fit.safetensors").groups[0].frame
        np.testing.assert_array_equal(loaded.loc, frame.loc)
        np.testing.assert_array_equal(loaded.factor, frame.factor)
        assert (loaded.kind, loaded.note) == (frame.kind, frame.note)
        assert draws_of(pmf.load(tmp_path / "fit.safetensors", small)).equals(draws_of(approx))

    @pytest.mark.slow
    @pytest.mark.parametrize("formula", ["scale-loc", "planar"])
    def test_transforms_dims_and_shapes(self, formula: str, rich: pm.Model, tmp_path: Path) -> None:
        approx = pmf.NormalizingFlow(formula, model=rich, random_seed=1, start={"h": 3.0})
        # a model made anew, as in another process
        loaded = round_trip(approx, tmp_path / "fit.safetensors", rich_model())
        assert draws_of(loaded).equals(draws_of(approx))
        np.testing.assert_array_equal(loaded.groups[0].offset, approx.groups[0].offset)

    @pytest.mark.slow
    def test_groups(self, rich: pm.Model, tmp_path: Path) -> None:
        with rich:
            flow = pmf.Group([rich["o"], rich["h"]], "planar*2", random_seed=1)
            full = pmf.Group([rich["d"]], "fr", random_seed=2)
            approx = pmf.Approximation([flow, full, pmf.Group(None, "mf", random_seed=3)])
        full.params_dict["mu"].set_value(np.array([0.3, -0.2]))
        loaded = round_trip(approx, tmp_path / "fit.safetensors", rich_model())
        assert type(loaded) is pmf.Approximation
        assert str(loaded) == str(approx)
        assert draws_of(loaded).equals(draws_of(approx))

    def test_given_parameters_stay_fixed(self, small: pm.Model, tmp_path: Path) -> None:
        params = {0: {"loc": pytensor.shared(np.array([1.0, 2.0])) * 2}, 1: {"rho": np.ones(2)}}
        group = pmf.Group(None, "loc-scale", params, model=small)
        loaded = round_trip(pmf.Approximation([group]), tmp_path / "fit.safetensors")
        assert loaded.params == []
        assert draws_of(loaded).equals(draws_of(pmf.Approximation([group])))

    def test_a_fit_and_what_it_says_of_itself(self, small: pm.Model, tmp_path: Path) -> None:
        approx = pmf.NFVI("scale-loc", model=small, random_seed=1).fit(5, **FAST)
        assert approx.fit_state is not None
        starts = pmf.Starts(
            np.array([1.0, -np.inf]), np.array([0.1, np.nan]), np.inf, np.eye(2), (0, 1),
            np.array([0.7, 0.3]),
        )  # fmt: skip
        state = replace(approx.fit_state, message="ELBO 1 ± 2")
        approx.receive(replace(approx.report, fit_state=state, starts=starts))
        loaded = round_trip(approx, tmp_path / "fit.safetensors")
        np.testing.assert_array_equal(loaded.hist, approx.hist)
        assert loaded.fit_state == approx.fit_state
        assert str(loaded.starts) == str(approx.starts)
        assert loaded.starts.modes == (0, 1)

    def test_what_is_loaded_can_be_trained(self, small: pm.Model, tmp_path: Path) -> None:
        approx = pmf.NormalizingFlow("planar-loc", model=small, random_seed=1, base="student_t")
        loaded = round_trip(approx, tmp_path / "fit.safetensors")
        hists = [pmf.NFVI(a).fit(4, **FAST).hist for a in (approx, loaded)]
        np.testing.assert_array_equal(hists[0], hists[1])

    def test_the_context_has_the_model(self, small: pm.Model, tmp_path: Path) -> None:
        pmf.NormalizingFlow("loc", model=small).save(str(tmp_path / "fit.safetensors"))
        with small:
            assert pmf.load(str(tmp_path / "fit.safetensors")).model is small

    def test_data_are_not_compared(self, tmp_path: Path) -> None:
        approx = pmf.NormalizingFlow("loc", model=conjugate_normal(np.ones(3)), random_seed=1)
        round_trip(approx, tmp_path / "fit.safetensors", conjugate_normal(np.zeros(5)))

    def test_an_empirical_group_says_what_to_do(self, small: pm.Model, tmp_path: Path) -> None:
        group = pmf.Group(None, params={"histogram": np.zeros((4, 2))}, model=small)
        approx = pmf.Approximation([group], model=small)
        with pytest.raises(StorageError, match=r"EmpiricalGroup.*sample"):
            approx.save(tmp_path / "fit.safetensors")
        assert list(tmp_path.iterdir()) == []


class TestStandardTools:
    def test_safetensors_reads_the_file(self, small: pm.Model, tmp_path: Path) -> None:
        path = tmp_path / "fit.safetensors"
        approx = pmf.NormalizingFlow("scale-loc", model=small, random_seed=1)
        approx.save(path)
        arrays = safetensors.numpy.load_file(path)
        np.testing.assert_array_equal(
            arrays["groups_0_params_0_value"], approx.params[0].get_value()
        )
        with safetensors.safe_open(path, "numpy") as file:
            content = json.loads(file.metadata()["pmflow"])["content"]
        assert content["state"]["fields"]["groups"][0]["fields"]["formula"] == "scale-loc"
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

    def test_the_bytes_are_the_same_each_time(self) -> None:
        archive = Archive({"a": 1, "b": [2]}, {f"x{i}": np.arange(i) for i in range(9)})
        assert len({encode(archive) for _ in range(20)}) == 1

    @pytest.mark.parametrize(
        "array", [np.array(1j), np.array("text"), np.array(None), np.array(1, "M8[s]")], ids=str
    )
    def test_arrays_of_no_number_are_refused(self, array: Any) -> None:
        with pytest.raises(StorageError, match=r"'x' of type .* can't be written"):
            encode(Archive({}, {"x": array}))

    def test_numbers_of_the_other_byte_order(self) -> None:
        back = decode(encode(Archive({}, {"x": np.arange(3, dtype=">i4")}))).arrays["x"]
        np.testing.assert_array_equal(back, [0, 1, 2])

    def test_a_description_that_could_not_be_read_is_not_written(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pmflow.saving.archive._MOST_HEADER", 1_000)
        with pytest.raises(StorageError, match="description"):
            encode(Archive({"labels": ["label"] * 1_000}))


class TestAnotherModel:
    @pytest.mark.slow
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
        pmf.NormalizingFlow("scale-loc", model=rich).save(tmp_path / "fit.safetensors")
        with pytest.raises(StorageError, match=says):
            pmf.load(tmp_path / "fit.safetensors", rich_model(**changes))

    def test_a_missing_variable(self, small: pm.Model, rich: pm.Model, tmp_path: Path) -> None:
        pmf.NormalizingFlow("scale-loc", model=small).save(tmp_path / "fit.safetensors")
        with pytest.raises(StorageError, match="no variable 'z' here"):
            pmf.load(tmp_path / "fit.safetensors", rich)

    def test_another_float(self, small: pm.Model, tmp_path: Path) -> None:
        pmf.NormalizingFlow("scale-loc", model=small).save(tmp_path / "fit.safetensors")
        kept = read_archive(tmp_path / "fit.safetensors")
        kept.content["floatX"] = "float32"
        write_archive(tmp_path / "fit.safetensors", kept)
        with pytest.raises(StorageError, match="floatX='float32'"):
            pmf.load(tmp_path / "fit.safetensors", small)

    def test_a_layer_that_is_not_registered(self, small: pm.Model, tmp_path: Path) -> None:
        with catalogue._preserved():

            @pmf.flows.register
            @dataclass(frozen=True)
            class Mine(Loc):
                word: ClassVar[str] = "mine"

            approx = pmf.NormalizingFlow("scale-mine", model=small, random_seed=1)
            loaded = round_trip(approx, tmp_path / "fit.safetensors")
            assert draws_of(loaded).equals(draws_of(approx))
        with pytest.raises(StorageError, match=r"'scale-mine'.*no layer.*registered"):
            pmf.load(tmp_path / "fit.safetensors", small)


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

    @pytest.mark.slow
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

    @pytest.mark.slow
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
    path = tmp_path / "fit.safetensors"
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
            pmf.NormalizingFlow("loc", model=small).save(tmp_path / "none" / "fit.safetensors")

    def test_a_link_stays_a_link_and_a_mode_a_mode(self, saved: Path, small: pm.Model) -> None:
        saved.chmod(0o640)
        link = saved.parent / "link.safetensors"
        link.symlink_to(saved)
        pmf.NormalizingFlow("planar", model=small).save(link)
        assert link.is_symlink()
        assert saved.stat().st_mode & 0o777 == 0o640
        assert str(pmf.load(saved, small).formula) == "planar"

    def test_a_new_file_has_the_mode_of_new_files(self, saved: Path) -> None:
        (saved.parent / "other").touch()
        assert saved.stat().st_mode == (saved.parent / "other").stat().st_mode


def parts_of(encoded: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """The header of a file, what pmflow says in it, and the numbers."""
    end = 8 + int.from_bytes(encoded[:8], "little")
    header = json.loads(encoded[8:end])
    return header, json.loads(header["__metadata__"]["pmflow"]), encoded[end:]


def joined(header: Any, numbers: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + numbers


def with_text(encoded: bytes, text: str) -> bytes:
    """The file with another text of pmflow's, and nothing else changed."""
    header, _, numbers = parts_of(encoded)
    return joined({**header, "__metadata__": {"pmflow": text}}, numbers)


def signed(encoded: bytes) -> bytes:
    """The file with the checksum that it should have."""
    digest = parts_of(encoded)[1]["sha256"].encode()
    encoded = encoded.replace(digest, b"0" * 64, 1)
    return encoded.replace(b"0" * 64, hashlib.sha256(encoded).hexdigest().encode(), 1)


def refused(path: Path, encoded: bytes, model: pm.Model) -> str:
    path.write_bytes(encoded)
    with pytest.raises(StorageError) as caught:
        pmf.load(path, model)
    return str(caught.value)


class TestHostileFiles:
    def test_it_is_both_kinds_of_error(self, tmp_path: Path, small: pm.Model) -> None:
        for kind in (PmflowError, ValueError, OSError):
            with pytest.raises(kind, match="could not be read"):
                pmf.load(tmp_path / "none.safetensors", small)

    def test_truncated(self, saved: Path, small: pm.Model) -> None:
        whole = saved.read_bytes()
        places = np.random.default_rng(1).integers(0, len(whole) - 1, 70)
        for place in places:
            refused(saved, whole[:place], small)

    def test_flipped_bytes(self, saved: Path, small: pm.Model) -> None:
        whole = saved.read_bytes()
        rng = np.random.default_rng(2)
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
            pytest.fail(f"a changed file was loaded: {loaded}")

    @pytest.mark.parametrize(
        "encoded",
        [
            *(b"", b"{}", b"\x02" + b"\0" * 7, b"\x02" + b"\0" * 7 + b"{}", b"\xff" * 99),
            *(b"CDF\x02" + b"\0" * 99, b"\x89HDF\r\n\x1a\n", b"\x80\x04N.", b"PK\x03\x04"),
        ],
    )
    def test_other_files(self, encoded: bytes, saved: Path, small: pm.Model) -> None:
        refused(saved, encoded, small)

    def test_a_pickle_is_not_run(self, saved: Path, small: pm.Model) -> None:
        class Evil:
            def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
                return os.mkdir, (str(saved.parent / "ran"),)

        refused(saved, pickle.dumps(Evil()), small)
        assert not (saved.parent / "ran").exists()

    def test_a_file_of_somebody_else(self, saved: Path, small: pm.Model) -> None:
        theirs = safetensors.numpy.save({"x": np.ones(2)})
        assert "not one of pmflow" in refused(saved, theirs, small)

    @pytest.mark.parametrize("version", [2, 0, -1])
    def test_other_versions(self, version: int, saved: Path, small: pm.Model) -> None:
        said = {**parts_of(saved.read_bytes())[1], "format": version}
        changed = with_text(saved.read_bytes(), json.dumps(said))
        assert f"has version {version} of the format" in refused(saved, changed, small)

    @pytest.mark.parametrize("name", ["format", "sha256", "content"])
    @pytest.mark.parametrize("value", [None, "text", 1.5, True, [1], {}, "0" * 64])
    def test_a_description_of_another_kind(
        self, name: str, value: Any, saved: Path, small: pm.Model
    ) -> None:
        said = {**parts_of(saved.read_bytes())[1], name: value}
        refused(saved, with_text(saved.read_bytes(), json.dumps(said)), small)
        del said[name]
        refused(saved, with_text(saved.read_bytes(), json.dumps(said)), small)

    @pytest.mark.parametrize(
        "spec",
        [
            {"dtype": "O", "shape": [2]},
            {"dtype": "C64", "shape": [2]},
            {"dtype": "BF16", "shape": [8]},
            {"dtype": "BOOL", "shape": [16]},
            {"dtype": "F64", "shape": [2**40]},
            {"dtype": "F64", "shape": [2**40, 0]},
            {"dtype": "F64", "shape": [2**63, 2**63]},
            {"dtype": "F64", "shape": [-1]},
            {"dtype": "F64", "shape": "2"},
            {"dtype": "F64", "shape": [True]},
            {"dtype": "I64", "shape": [2]},
            {"dtype": ["F64"], "shape": [2]},
            {"data_offsets": [8, 0]},
            {"data_offsets": [0, 2**63]},
            {"data_offsets": [-8, 8]},
            {"shape": []},
            {},
        ],
    )
    @pytest.mark.parametrize("finish", [bytes, signed], ids=["changed", "forged"])
    def test_arrays_that_are_not_what_they_say(
        self, spec: Any, finish: Callable[[bytes], bytes], saved: Path, small: pm.Model
    ) -> None:
        header, _, numbers = parts_of(saved.read_bytes())
        old = header["groups_0_params_0_value"]
        header["groups_0_params_0_value"] = {**old, **spec} if spec else {}
        refused(saved, finish(joined(header, numbers)), small)

    def test_a_truth_value_is_true_or_false(self) -> None:
        encoded = encode(Archive({}, {"x": np.array([True, False])}))
        with pytest.raises(StorageError, match="neither true nor false"):
            decode(signed(encoded[:-1] + b"\x02"))

    def test_json_that_goes_deep(self, saved: Path, small: pm.Model) -> None:
        whole = saved.read_bytes()
        for text in ("[" * 100_000, '{"format": NaN}', "1" * 10_000, '"\\ud800"'):
            refused(saved, with_text(whole, text), small)

    def test_a_huge_length_is_not_believed(self, saved: Path, small: pm.Model) -> None:
        whole = saved.read_bytes()
        for length in (0, 1, len(whole), 2**31, 2**63 - 1, 2**64 - 1):
            refused(saved, length.to_bytes(8, "little") + whole[8:], small)


def path_to(content: Any, keys: tuple[Any, ...]) -> Any:
    for key in keys:
        content = content[key]
    return content


WRONG: list[Any] = [None, -1, 10**30, "text", "__import__('os')", [], {}, [None], True]
STATE = ("state", "fields")
GROUP = (*STATE, "groups", 0)
PLACES: list[tuple[Any, ...]] = [
    ("model",),
    ("model", 0),
    ("model", 0, "shape"),
    ("model", 0, "coords"),
    ("floatX",),
    ("state",),
    ("state", "state"),
    STATE,
    (*STATE, "groups"),
    GROUP,
    (*GROUP, "state"),
    *((*GROUP, "fields", name) for name in ("formula", "base", "variables", "params", "rng")),
    *((*GROUP, "fields", name) for name in ("jitter", "frame", "offset", "moment_seed", "start")),
    (*GROUP, "fields", "params", 0),
    *((*GROUP, "fields", "params", 0, "fields", n) for n in ("place", "name", "value")),
    (*GROUP, "fields", "params", 0, "fields", "is_trained"),
    (*GROUP, "fields", "rng", "fields", "pos"),
    (*STATE, "report"),
    *((*STATE, "report", "fields", n) for n in ("hist", "fit_state", "starts", "points")),
    *((*STATE, "report", "fields", n) for n in ("diagnosis", "ladder")),
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

    @pytest.mark.parametrize(
        "name", ["report_hist", "groups_0_params_0_value", "groups_0_offset", "groups_0_rng_key"]
    )
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
            kept.content["state"]["fields"]["groups"][0]["fields"][key] = text
            other = saved.parent / "other.safetensors"
            write_archive(other, kept)
            with pytest.raises(StorageError):
                pmf.load(other, small)

    def test_the_checksum_is_that_of_the_page(self, saved: Path) -> None:
        # docs/saving.md: of the file, with zeros in the place of the checksum
        encoded = saved.read_bytes()
        digest = parts_of(encoded)[1]["sha256"]
        zeroed = encoded.replace(digest.encode(), b"0" * 64)
        assert hashlib.sha256(zeroed).hexdigest() == digest
