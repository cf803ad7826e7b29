"""Who imports whom, who assigns to whom, how large files may grow, and what is documented.

Each test looks at the whole package and lists everything that offends.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterable, Iterator
from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What of pmflow each room may import. A folder stands for all of its files.
# The table is complete: a room that is not in it fails the tests until it has a row.
ALLOWED: dict[str, set[str]] = {
    # the ground: they know nothing of pmflow, or how it complains
    "errors": set(),
    "records": set(),
    "graphs": set(),
    "watch": set(),
    "checks": {"errors"},
    "saving": {"errors", "records"},
    "grammar": {"errors"},
    "targets": {"checks", "errors"},
    # layers know no model; a posterior exists before any family
    "flows": {"errors", "grammar", "records"},
    "posterior": {"checks", "errors", "graphs", "records", "watch"},
    "frames": {"draws", "errors", "posterior", "records", "watch"},
    # judging needs only draws and densities; integrating variables out weighs draws too
    "judging": {"checks", "errors", "graphs", "records", "watch"},
    "embedded": {"draws", "errors", "graphs", "judging", "posterior", "records", "watch"},
    # a family does not know how it is trained or judged
    "family": {
        *("checks", "embedded", "errors", "flows", "frames", "graphs", "posterior", "records"),
        *("saving", "watch"),
    },
    # training knows no family
    "objectives": {"checks", "errors", "graphs", "posterior", "watch"},
    "draws": {"checks", "errors", "graphs"},
    "training": {
        *("checks", "draws", "errors", "graphs", "objectives", "posterior", "records", "watch"),
    },
    "plots": {"checks", "errors", "judging"},
    # what joins them
    "starts": {"checks", "errors", "family", "judging", "posterior", "records", "watch"},
    "inference": {
        *("checks", "errors", "family", "flows", "frames", "judging", "posterior", "records"),
        *("saving", "starts", "training", "watch"),
    },
    "ladder": {
        *("checks", "embedded", "errors", "family", "frames", "graphs", "inference", "judging"),
        *("posterior", "records", "starts", "training", "watch"),
    },
    "resume": {
        *("errors", "family", "inference", "ladder", "posterior", "records", "saving", "training"),
    },
    "fit": {"checks", "errors", "inference", "ladder", "posterior", "training"},
    # the front door names everything; the demo goes through it as a user does
    "__init__": {
        *("embedded", "errors", "family", "fit", "flows", "frames", "inference", "judging"),
        *("ladder", "objectives", "plots", "posterior", "records", "resume", "targets"),
        *("training",),
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
ON_DEMAND = {"matplotlib", "jax", "nutpie", "pyarrow", "pymc_extras", "numpyro"}

MAX_ROOMS = 24
MAX_FLOORS = 11

MAX_LINES = 300
# Longer today. A file that has become short enough must leave the list, and none may join it.
LONGER: set[str] = set()
MAX_LINES_OF_THE_LONGER = 600
MAX_BODY = 60

# Attributes of other packages' objects that are there to be set.
FOREIGN = {
    "attrs": "xarray keeps what is said about data there",
    "method.__doc__": "a decorator writes the documentation of what it decorates",
    "op.ufunc": "PyTensor looks there for the NumPy function of an elementwise Op",
    "draw_idx": "PyMC's traces of draws are counted by whoever fills them",
    "flags.writeable": "NumPy's way to freeze an array",
    "bits.state": "NumPy's way to move a bit generator",
    "tag.trace": "PyTensor keeps there where a variable was made",
    "file.title": "SciPy's netCDF files take their attributes so",
    "file.pmflow_format": "as above",
    "file.pmflow_content": "as above",
    "file.pmflow_sha256": "as above",
    "variable.pmflow_dtype": "as above",
}

SETTERS = {"setattr", "delattr", "__setattr__", "__delattr__"}

# Assignments to attributes of another's object as they stand. The list must shrink: what is
# mended must leave it, and nothing may join it.
KNOWN: dict[str, set[str]] = {}


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


def floors() -> int:
    """How many rooms the longest way down from the front door passes, itself included."""
    height: dict[str, int] = {}
    for row in TopologicalSorter(others_below()).static_order():
        height[row] = 1 + max((height[below] for below in others_below()[row]), default=0)
    return max(height.values())


def others_below() -> dict[str, set[str]]:
    """The table without what it needn't say: a room may import itself."""
    return {row: to - {row} for row, to in ALLOWED.items()}


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Every function and the lines of its body, without its docstring."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            if body:
                yield node.name, (node.end_lineno or 0) - body[0].lineno + 1


def assignments(path: Path) -> Iterator[tuple[int, str]]:
    """Line and target of every assignment to an attribute of what is neither self nor cls."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            owner, target = node.value, ast.unparse(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in SETTERS:
            owner, target = node.args[0], ast.unparse(node)
        else:
            continue
        if not (isinstance(owner, ast.Name) and owner.id in {"self", "cls"}):
            yield node.lineno, target


def is_foreign(target: str) -> bool:
    return any(target == name or target.endswith(f".{name}") for name in FOREIGN)


def none(offenders: Iterable[str]) -> None:
    """Fail with all of them, one a line."""
    if found := sorted(offenders):
        pytest.fail("\n".join(found), pytrace=False)


def short_name(path: Path) -> str:
    return path.relative_to(ROOT / "pmflow").as_posix()


# ------------------------------------------------------------------------------- rooms
def test_the_table_has_every_room_once_and_in_order() -> None:
    assert {part(module_name(path)) for path in files()} == set(ALLOWED)
    # prepare() raises CycleError, which shows the circle
    TopologicalSorter(others_below()).prepare()
    assert len(set(ALLOWED) - {"__init__"}) <= MAX_ROOMS
    assert floors() <= MAX_FLOORS
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    none(
        f"docs/architecture.md says nothing about {name}"
        for row in ALLOWED
        for name in [f"{row}/" if (ROOT / "pmflow" / row).is_dir() else f"{row}.py"]
        if not re.search(rf"^  {re.escape(name)}( |$)", page, re.MULTILINE)
    )


def test_imports_follow_the_arrows() -> None:
    found = []
    for path in files():
        room, name = part(module_name(path)), short_name(path)
        allowed, forbidden = {*ALLOWED[room], room}, FORBIDDEN.get(room, set())
        for one in imports(path):
            package = one.module.split(".")[0]
            if package == "pmflow" and part(one.module) not in allowed:
                found.append(f"{name} imports {one}: {room} may import {sorted(ALLOWED[room])}")
            if package in forbidden:
                found.append(f"{name} imports {one}: {room} must not know {package}")
            if package in ON_DEMAND and one.eager:
                found.append(f"{name} imports {one} at once: import it where it is needed")
    none(found)


def test_no_module_assigns_to_an_attribute_of_anothers_object() -> None:
    found = {
        (short_name(path), target): line
        for path in files()
        for line, target in assignments(path)
        if not is_foreign(target)
    }
    known = {(name, target) for name, targets in KNOWN.items() for target in targets}
    none(
        [
            *(f"{name}:{found[name, target]} sets {target}" for name, target in set(found) - known),
            *(
                f"{n} sets {target} no more: take it out of KNOWN"
                for n, target in known - set(found)
            ),
        ]
    )


# ------------------------------------------------------------------------------- sizes
def test_files_and_functions_are_short() -> None:
    found = []
    for path in files():
        lines, name = len(path.read_text(encoding="utf-8").splitlines()), short_name(path)
        limit = MAX_LINES_OF_THE_LONGER if name in LONGER else MAX_LINES
        if lines > limit:
            found.append(f"{name} has {lines} lines, more than {limit}")
        if name in LONGER and lines <= MAX_LINES:
            found.append(f"{name} is short enough: take it out of LONGER")
        found += [
            f"{name}: {function} has {length} lines, more than {MAX_BODY}"
            for function, length in functions(path)
            if length > MAX_BODY
        ]
    none([*found, *(f"{name} is gone" for name in LONGER - {short_name(p) for p in files()})])


# ------------------------------------------------------------------------ public names
DOORS = ("pmflow", "pmflow.flows", "pmflow.plots", "pmflow.targets", "pmflow.errors")
_DIRECTIVE = re.compile(
    r"^\.\. (?:autofunction|autoclass|autoexception|autodata|automodule):: (\S+)", re.MULTILINE
)


def public_names() -> set[str]:
    return {f"{door}.{name}" for door in DOORS for name in importlib.import_module(door).__all__}


def documented_names() -> list[str]:
    pages = sorted((ROOT / "docs" / "api").glob("*.md"))
    return [name for page in pages for name in _DIRECTIVE.findall(page.read_text("utf-8"))]


def test_modules_say_what_is_public() -> None:
    found = []
    for path in files():
        module = importlib.import_module(module_name(path))
        exported = getattr(module, "__all__", None)
        if exported is None:
            found.append(f"{short_name(path)} has no __all__")
            continue
        if len(exported) != len(set(exported)):
            found.append(f"{short_name(path)} names something twice")
        found += [f"{short_name(path)} lacks {n}" for n in exported if not hasattr(module, n)]
    none(found)


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


def has_docstring(door: str, attribute: str) -> bool:
    module = importlib.import_module(door)
    value = getattr(module, attribute)
    if inspect.isclass(value):
        # its own: what it would inherit describes another, and dataclasses make up theirs
        docstring = vars(value).get("__doc__") or ""
        return bool(docstring) and not docstring.startswith(f"{attribute}(")
    if inspect.isfunction(value) or inspect.ismodule(value):
        return bool(value.__doc__)
    # a constant: the string below its assignment
    return attribute in constants_with_docstrings(module.__file__ or "")


def test_public_names_have_docstrings_and_stand_on_one_api_page_each() -> None:
    documented, public = documented_names(), public_names()
    without = [n for n in public if not has_docstring(*n.rsplit(".", 1))]
    none(
        [
            *(f"{name} has no docstring" for name in without),
            *(f"{name} is on no page of docs/api" for name in public - set(documented)),
            *(f"{name} of docs/api is not public" for name in set(documented) - public),
            *(f"{n} is twice in docs/api" for n in set(documented) if documented.count(n) > 1),
        ]
    )


def private_names(path: Path) -> list[str]:
    """Names with a leading underscore that a file imports from another package than pmflow."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] != "pmflow":
            module = f"{node.module}." if node.module else ""
            found += [module + alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    called = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)} & PRIVATE_METHODS
    return [n for n in found if "._" in n and not n.startswith("__")] + sorted(called)


# what no import shows: methods of PyTensor's objects that are not overridden but called
PRIVATE_METHODS = {"_create_dummy_core_node"}


def test_private_names_of_others_are_used_in_one_file() -> None:
    users = {p.relative_to(ROOT).as_posix(): private_names(p) for p in files()}
    assert {p for p, names in users.items() if names} == {"pmflow/graphs/private.py"}
    assert users["pmflow/graphs/private.py"] == [
        "pymc.distributions.transforms._default_transform",
        "pymc.util._get_seeds_per_chain",
        "_create_dummy_core_node",
    ]
