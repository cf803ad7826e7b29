"""Who imports whom, how large files may grow, and that public names are documented."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

import pmflow

ROOT = Path(__file__).parents[1]

# What of pmflow each room may import. A folder stands for all of its files.
# The table is complete: a room that is not in it fails the tests until it has a row.
ALLOWED: dict[str, set[str]] = {
    # the ground: they know nothing of pmflow, or how it complains
    "errors": set(),
    "records": set(),
    "graphs": set(),
    "checks": {"errors"},
    "watch": set(),
    "saving": {"errors"},
    "grammar": {"errors"},
    "plots": {"checks", "errors"},
    "targets": {"checks", "errors"},
    # layers know no model; a posterior exists before any family
    "flows": {"errors", "grammar"},
    "posterior": {"errors", "graphs", "watch"},
    "frames": {"errors", "flows", "posterior", "watch"},
    # a family does not know how it is trained, judged or kept
    "family": {
        *("checks", "errors", "flows", "frames", "graphs", "posterior", "records", "saving"),
        "watch",
    },
    # training knows no family; judging needs only draws and densities
    "objectives": {"checks", "errors", "graphs"},
    "draws": {"checks", "errors", "graphs"},
    "training": {*("checks", "draws", "errors", "graphs", "objectives", "posterior", "watch")},
    "judging": {"checks", "errors", "records", "watch"},
    # what joins them
    "starts": {"checks", "errors", "family", "judging", "posterior", "records", "watch"},
    "checkpoint": {"errors", "family", "records", "saving", "training"},
    "inference": {
        *("checkpoint", "checks", "draws", "errors", "family", "flows", "frames", "judging"),
        *("objectives", "records", "starts", "training", "watch"),
    },
    "ladder": {
        *("checks", "errors", "family", "inference", "judging", "posterior", "records"),
        *("starts", "training", "watch"),
    },
    "load": {"family", "posterior", "saving"},
    "resume": {
        *("checkpoint", "checks", "draws", "errors", "family", "inference", "objectives"),
        *("posterior", "saving", "training"),
    },
    "fit": {"checks", "errors", "inference", "ladder", "training"},
    # the front door names everything; the demo goes through it as a user does
    "__init__": {
        *("errors", "family", "fit", "flows", "frames", "inference", "judging", "ladder", "load"),
        *("plots", "records", "resume", "starts", "targets", "training"),
    },
    "demo": {"__init__"},
}

# Other packages that a part of pmflow must not import, wherever in the file.
FORBIDDEN: dict[str, set[str]] = {
    "errors": {"pymc", "pytensor", "numpy"},
    "grammar": {"pymc", "pytensor", "numpy"},
    "flows": {"pymc"},
    "plots": {"pymc", "pytensor"},
    "records": {"pymc", "pytensor", "scipy", "xarray"},
    "watch": {"pymc", "pytensor", "numpy"},
    "saving": {"pymc", "pytensor"},
}

# Imported inside of the function that needs it, or for annotations only.
ON_DEMAND = {"matplotlib", "jax", "nutpie", "pymc_extras", "numpyro"}

MAX_LINES = 500
LONGER = {
    "pmflow/grammar/parser.py": 600,  # one parser: a third of it are its messages
}
MAX_BODY = 60


class Import:
    """One imported module, and whether it is loaded as soon as the file is."""

    def __init__(self, module: str, *, eager: bool) -> None:
        self.module = module
        self.eager = eager

    def __repr__(self) -> str:
        return f"{self.module}{'' if self.eager else ' (on demand)'}"


def files(root: Path = ROOT) -> list[Path]:
    return sorted((root / "pmflow").rglob("*.py"))


def module_name(path: Path, root: Path = ROOT) -> str:
    """``pmflow.flows.base`` for its file; a package has the name of its folder."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part(module: str) -> str:
    """The row of the table that a module of pmflow belongs to."""
    names = module.split(".")
    return names[1] if len(names) > 1 else "__init__"


def imports(path: Path) -> list[Import]:
    found: list[Import] = []
    _collect(ast.parse(path.read_text(encoding="utf-8")), found, eager=True)
    return found


def _collect(node: ast.AST, found: list[Import], *, eager: bool) -> None:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            found += [Import(alias.name, eager=eager) for alias in child.names]
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            base = child.module or ""
            if base == "pmflow":  # `from pmflow import errors` imports pmflow.errors
                found += [Import(f"pmflow.{alias.name}", eager=eager) for alias in child.names]
            else:
                found.append(Import(base, eager=eager))
        else:
            late = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            _collect(child, found, eager=eager and not late and not typing_only)


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Every function and the lines of its body, without its docstring."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            if body:
                yield node.name, (node.end_lineno or 0) - body[0].lineno + 1


every_file = pytest.mark.parametrize(
    "path", files(), ids=lambda path: path.relative_to(ROOT).as_posix()
)


def test_every_part_of_the_package_has_a_row() -> None:
    assert {part(module_name(path)) for path in files()} == set(ALLOWED)


def test_arrows_make_no_circle() -> None:
    # a package may import itself; prepare() raises CycleError, which shows the circle
    TopologicalSorter({row: to - {row} for row, to in ALLOWED.items()}).prepare()


@pytest.mark.parametrize("row", sorted(ALLOWED))
def test_every_part_of_the_package_stands_on_the_page_on_architecture(row: str) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    name = f"{row}/" if (ROOT / "pmflow" / row).is_dir() else f"{row}.py"
    assert re.search(rf"^  {re.escape(name)}( |$)", page, re.MULTILINE)


@every_file
def test_imports_follow_the_arrows(path: Path) -> None:
    room = part(module_name(path))
    allowed = {*ALLOWED[room], room}
    ours = [i for i in imports(path) if i.module.split(".")[0] == "pmflow"]
    assert [i for i in ours if part(i.module) not in allowed] == []


@every_file
def test_packages_that_a_part_must_not_know(path: Path) -> None:
    forbidden = FORBIDDEN.get(part(module_name(path)), set())
    assert [i for i in imports(path) if i.module.split(".")[0] in forbidden] == []


@every_file
def test_optional_packages_are_imported_on_demand(path: Path) -> None:
    eager = [i for i in imports(path) if i.eager]
    assert [i for i in eager if i.module.split(".")[0] in ON_DEMAND] == []


@every_file
def test_files_are_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGER.get(path.relative_to(ROOT).as_posix(), MAX_LINES)


def test_files_that_may_be_longer_need_to_be() -> None:
    for name in LONGER:
        assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) > MAX_LINES


@every_file
def test_functions_are_short(path: Path) -> None:
    assert [(name, lines) for name, lines in functions(path) if lines > MAX_BODY] == []


@every_file
def test_modules_say_what_is_public(path: Path) -> None:
    module = module_name(path)
    exported = getattr(importlib.import_module(module), "__all__", None)
    assert exported is not None
    assert list(exported) == list(dict.fromkeys(exported))


# The front door

DOORS = ("pmflow", "pmflow.flows", "pmflow.plots", "pmflow.targets", "pmflow.errors")
_DIRECTIVE = re.compile(
    r"^\.\. (?:autofunction|autoclass|autoexception|autodata|automodule):: (\S+)", re.MULTILINE
)


def public_names() -> set[str]:
    return {f"{door}.{name}" for door in DOORS for name in importlib.import_module(door).__all__}


def documented_names() -> list[str]:
    pages = sorted((ROOT / "docs" / "api").glob("*.md"))
    return [name for page in pages for name in _DIRECTIVE.findall(page.read_text("utf-8"))]


@pytest.mark.parametrize("name", sorted(public_names()))
def test_public_name_has_a_docstring(name: str) -> None:
    door, _, attribute = name.rpartition(".")
    value = getattr(importlib.import_module(door), attribute)
    if inspect.isclass(value):
        # its own: what it would inherit describes another, and dataclasses make up theirs
        docstring = vars(value).get("__doc__") or ""
        assert docstring
        assert not docstring.startswith(f"{attribute}(")
    elif inspect.isfunction(value) or inspect.ismodule(value):
        assert value.__doc__
    else:
        # a constant: the string below its assignment
        assert attribute in constants_with_docstrings(importlib.import_module(door).__file__ or "")


def constants_with_docstrings(path: str) -> set[str]:
    body = ast.parse(Path(path).read_text(encoding="utf-8")).body
    return {
        target.id
        for node, after in pairwise(body)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
        and isinstance(after.value.value, str)
    }


def test_every_public_name_stands_on_an_api_page() -> None:
    assert public_names() - set(documented_names()) == set()


def test_api_pages_have_public_names_only() -> None:
    assert set(documented_names()) - public_names() == set()


def test_no_name_stands_on_two_api_pages() -> None:
    names = documented_names()
    assert len(names) == len(set(names))


def test_front_door_has_its_names() -> None:
    assert [name for name in pmflow.__all__ if not hasattr(pmflow, name)] == []
