"""What is shipped, and what importing it loads."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# what a user pays for without having asked for it, were it loaded by `import pmflow`
ON_DEMAND = (
    "matplotlib",
    "arviz",
    "arviz_plots",
    "nutpie",
    "numpyro",
    "pymc_extras",
    "jax",
)


def run(*args: str, cwd: Path, pythonpath: Path | None = None) -> str:
    # without what the outer run set: PYTHONPATH of its own, and -W of pytest
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONWARNINGS")}
    if pythonpath is not None:
        env["PYTHONPATH"] = str(pythonpath)
    done = subprocess.run(
        [sys.executable, *args], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def build(kind: str, target: Path) -> Path:
    """Build without isolation, so without the network."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling, the build backend, is not installed")
    run("-m", "hatchling", "build", "-t", kind, "-d", str(target), cwd=ROOT)
    (built,) = target.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def loaded_by(statement: str, cwd: Path) -> set[str]:
    """Modules in memory after a statement, in a fresh interpreter."""
    code = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    # editable or not: the pmflow of this repository is meant
    return set(json.loads(run("-c", code, cwd=cwd, pythonpath=ROOT).splitlines()[-1]))


def test_wheel_holds_the_package_and_its_metadata_only(names: list[str]) -> None:
    tops = {name.split("/")[0] for name in names}
    (metadata,) = tops - {"pmflow"}
    assert metadata.startswith("pmflow-")
    assert metadata.endswith(".dist-info")


def test_wheel_holds_every_module(names: list[str]) -> None:
    modules = {p.relative_to(ROOT).as_posix() for p in (ROOT / "pmflow").rglob("*.py")}
    assert modules == {name for name in names if name.endswith(".py")}


def test_wheel_holds_no_test_and_no_cache(names: list[str]) -> None:
    unwanted = ("test", "conftest", "__pycache__", ".ipynb")
    assert [name for name in names if any(word in name for word in unwanted)] == []


def test_wheel_says_that_it_is_typed(names: list[str]) -> None:
    assert "pmflow/py.typed" in names


def test_wheel_holds_the_licence(names: list[str]) -> None:
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_wheel_imports_from_elsewhere(wheel: Path, tmp_path: Path) -> None:
    unpacked, elsewhere = tmp_path / "unpacked", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    code = "import pmflow; print(pmflow.__file__); [getattr(pmflow, n) for n in pmflow.__all__]"
    where = run("-c", code, cwd=elsewhere, pythonpath=unpacked).strip()
    assert Path(where) == unpacked / "pmflow" / "__init__.py"


def test_source_archive_holds_what_make_needs(tmp_path: Path) -> None:
    with tarfile.open(build("sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"Makefile", ".make/venv", ".make/install", "pyproject.toml", "LICENSE", "README.md"}
    assert needed - names == set()
    assert [name for name in names if name.startswith((".venv", "docs/_build"))] == []


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_a_build_is_the_same_each_time(kind: str, tmp_path: Path) -> None:
    one, two = (build(kind, tmp_path / name) for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_recipe_and_citation_say_what_the_project_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    recipe = (ROOT / ".conda" / "recipe.yaml").read_text(encoding="utf-8")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {project['version']}\n" in recipe
    assert f"version: {project['version']}\n" in citation
    assert f"license: {project['license']}\n" in citation
    (run_on,) = re.findall(r"  run:\n((?:    - .*\n)+)", recipe)
    python, *found = re.findall(r"- (\S+) (\S+)", run_on)
    assert python == ("python", ">=${{")
    assert f'python_min: "{project["requires-python"].removeprefix(">=")}"' in recipe
    names = {"matplotlib": "matplotlib-base", "qdldl": "qdldl-python"}  # on conda-forge
    known = [one.split(">=") for one in project["dependencies"]]
    assert found == [(names.get(name, name), f">={least}") for name, least in known]


def test_a_python_that_does_not_do_is_refused_in_one_line(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("the Makefile needs bash")
    python = tmp_path / "python of old"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    env = os.environ | {"PYTHON": str(python)}
    command = [bash, str(ROOT / ".make" / "venv"), str(tmp_path / "venv")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "Python >= 3.12" in line
    assert str(python) in line
    assert not (tmp_path / "venv").exists()


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What importing pmflow loads beyond what PyMC does."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    return loaded_by("import pmflow", elsewhere) - loaded_by("import pymc", elsewhere)


@pytest.mark.slow
def test_import_adds_pmflow(added: set[str]) -> None:
    assert "pmflow.inference" in added  # else the tests below would see nothing


@pytest.mark.parametrize("module", ON_DEMAND)
def test_import_loads_nothing_that_is_needed_on_demand(module: str, added: set[str]) -> None:
    assert module not in added
